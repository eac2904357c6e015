"""Teachers from files, and networks of other libraries, when a study is planned: what can be refused is refused here.

`--set teacher.weights=PATH` makes the teacher a stage that is checked instead of trained. The path is read once and
replaced by the digits that its weights have in the store, so neither keys nor a later `resume` know of it. Torch is
imported only where there is a file, or a network that is not ours, to look at.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainables import spec as specs
from trainables.data.protocols import cut_for
from trainables.errors import UsageError
from trainables.spec import (
    GIVEN,
    GivenSpec,
    StageSpec,
    TrainingSpec,
    distils,
    has_network,
    is_given,
    registry,
)
from trainables.spec.compute import embedding_width
from trainables.spec.given import classes_differ

if TYPE_CHECKING:
    from search_spaces.study import Study
    from sweeps.planning.plan import Planner, Resolved
    from trainables.data.packed import Packed

# Sentence -> in a few words what an arm cannot be for, where that follows from what the arm is; else None.
Mistakes = dict[str, str | None]
SUFFIX = ".weights"
START = "start_weights"  # Of a stage that is trained, and so of any.
FOUND = ("family", "architecture", "width", "embedding", "stem")  # What a file says, unless the command line does.
TOLD = ("embedding", "stem")  # What it says alone.
OTHERS_WITH_MAPS = ("torchvision:resne", "torchvision:wide_resne")  # Other libraries' networks that have stages.


def _roles(study: Study) -> list[str]:
    """Stages of a study that can be given instead of trained."""
    return [step.role for step in study.recipe.steps if step.given is not None]


def settle_words(
    study: Study,
    parameters: dict[str, Any],
    sources: Mapping[str, str],
    axes: Mapping[str, tuple[Any, ...]],
    given: Mapping[str, tuple[Any, ...]],
) -> list[str]:
    """Take out what a preset says of the training of a stage that is given; returns mistakes.

    Args:
        study: The study.
        parameters: By canonical name; changed.
        sources: Parameter -> where its value comes from.
        axes: The axes.
        given: What the command line says, by canonical name.
    """
    mistakes = []
    for role in _roles(study):
        if f"{role}{SUFFIX}" not in given:
            alone = [name for name in given if name.startswith(f"{role}.") and name.split(".")[1] in OWN]
            mistakes += [f"{name} is of a {role} from a file. Name it: --set {role}.weights=PATH." for name in alone]
            continue
        for name in [n for n in parameters if n.startswith(f"{role}.") and sources.get(n) != "--set"]:
            del parameters[name]
        taken = {f"{role}.{path}" for path in specs.field_paths(GivenSpec)}
        spec = GivenSpec()
        idle = set(spec.unused())
        told = [f"{role}.{name}" for name in TOLD]
        mistakes += [f"{name} is what the file of {role}.weights says. Leave it out." for name in given if name in told]
        for name in given:
            if name.startswith(f"{role}.") and (name not in taken or name.split(".")[1] in idle):
                mistakes.append(
                    f"{name} is of a {role} in training, but {role}.weights names one that is trained already."
                )
        mistakes += [
            f"{name} takes one value where {role}.weights names a file."
            for name in axes
            if name.startswith(f"{role}.") and name.split(".")[1] in GIVEN and not name.endswith(SUFFIX)
        ]
    return mistakes


OWN = tuple(name for name in specs.field_paths(GivenSpec) if name not in specs.field_paths(TrainingSpec))


def named(resolved: Resolved) -> bool:
    """Whether any stage is given by a file."""
    return any(_is_path(name) for name in (*resolved.parameters, *resolved.axes))


def _is_path(name: str) -> bool:
    return name.endswith(SUFFIX) or name.split(".")[-1] == START


def admit(resolved: Resolved, settings: list[str], root: Path, say: Callable[[str], None], *, write: bool) -> list[str]:
    """Read the files that a study names into the store; gives the settings with digits in place of their paths.

    Raises:
        UsageError: If a file is not what it must be.
    """
    from trainables.pretrained import shelf

    digits: dict[str, str] = {}
    for name in [n for n in (*resolved.parameters, *resolved.axes) if _is_path(n)]:
        role = name.rpartition(".")[0]
        several = name in resolved.axes
        for words in resolved.axes[name] if several else (resolved.parameters[name],):
            path = Path(words).expanduser()
            if path.is_file():
                say(f"Reading the weights {path.name} ...")
            wanted = asked(resolved.parameters, role) if name.endswith(SUFFIX) else None
            found = shelf.admit(str(words), root, wanted, write=write)
            digits[str(words)] = found.digits
            if wanted is None:
                resolved.starts[found.digits] = {"file": found.about["file"], "shapes": found.shapes}
            else:
                resolved.teachers[found.digits] = found.about
        if several:
            resolved.axes[name] = tuple(digits[str(words)] for words in resolved.axes[name])
        else:
            resolved.parameters[name] = digits[str(resolved.parameters[name])]
    return [_with_digits(text, digits) for text in settings]


def _with_digits(setting: str, digits: Mapping[str, str]) -> str:
    name, _, value = setting.partition("=")
    if not _is_path(name.strip()):
        return setting
    return f"{name.strip()}={','.join(digits.get(part.strip(), part.strip()) for part in value.split(','))}"


def asked(parameters: Mapping[str, Any], role: str) -> GivenSpec:
    """What the parameters say of a given stage."""
    names = ("family", "architecture", "head", "order", "mean", "std", "side", "width")
    return GivenSpec(**{n: parameters[f"{role}.{n}"] for n in names if f"{role}.{n}" in parameters})


def described(parameters: Mapping[str, Any], teachers: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The parameters of a cell, with what its files turned out to be."""
    made = dict(parameters)
    for name, value in parameters.items():
        about = teachers.get(value) if name.endswith(SUFFIX) else None
        if about is not None:
            made |= {f"{name.removesuffix(SUFFIX)}.{field}": about[field] for field in FOUND}
    return made


def check(
    role: str,
    spec: TrainingSpec,
    starts: Mapping[str, Mapping[str, Any]],
    data: Mapping[str, Any],
    mistakes: Mistakes,
) -> None:
    """What can be said of a stage alone when names and sizes of the data are known; adds mistakes."""
    if spec.architecture.startswith(specs.OUTSIDE) and not spec.is_given:
        if spec.width != 1.0:
            mistakes[f"width is of our own networks; for {spec.architecture} it must be 1, got {spec.width:g}."] = None
        else:
            side = spec.upsample_to or spec.resolution or int(data["height"])
            problem = unreadable(spec.architecture, int(data.get("channels", 3)), side)
            if problem:
                mistakes[f"{problem} (for the {role})"] = None
    if START not in spec.unused() and spec.start_weights in starts:
        start = starts[spec.start_weights]
        problem = _unfit(spec, int(data.get("channels", 3)), start)
        if problem:
            mistakes[f"{problem} (for the {role})"] = (
                f"its {role}, {spec.architecture}, cannot begin with {start['file']}"
            )


def check_chain(
    made: Mapping[str, StageSpec],
    parents: Mapping[str, Mapping[str, str]],
    teachers: Mapping[str, Mapping[str, Any]],
    data: Mapping[str, Any],
    mistakes: Mistakes,
) -> None:
    """What a cell's stages want of each other: logits and feature maps, and of colours; adds mistakes.

    Args:
        made: Role -> spec of the cell.
        parents: Role -> role inside the stage -> role in the cell.
        teachers: Weights from a file -> what they turned out to be.
        data: What is known of the data set.
        mistakes: Changed.
    """
    for role, spec in made.items():
        read = [(other, made[other]) for other in parents.get(role, {}).values()]
        guides = [(other, guide) for other, guide in read if has_network(guide)]
        if distils(spec):
            on_maps = spec.losses_that_read("maps")
            for other in (spec, *(guide for _, guide in guides)):
                if on_maps and not _has_maps(other, data):
                    mistakes[f"method={spec.method} needs feature maps, but {other.architecture} gives none."] = (
                        f"needs feature maps of {other.architecture}, which gives none"
                    )
            for method in (loss.name for loss in spec.losses_that_read("same_width")):
                ours = _embedding_width(spec, data, teachers)
                for other_role, guide in guides:
                    theirs = _embedding_width(guide, data, teachers)
                    if 0 not in (ours, theirs) and ours != theirs:
                        mistakes[
                            f"method={method} needs embeddings of one width, but the {role}'s has {ours} and the "
                            f"{other_role}'s {theirs}. Set `embedding` of one to the other's, or choose networks of equal widths."
                        ] = f"needs embeddings of one width, got {ours} and {theirs}"
            for other_role in _without_logits(guides):
                if spec.losses_that_read("logits"):
                    mistakes[
                        f"method={spec.method} reads the {other_role}'s logits, but {other_role}.head=none leaves it none. "
                        f"Set {other_role}.head=keep if its classes are those of {data['name']}, or use another method."
                    ] = f"reads the {other_role}'s logits, of which {other_role}.head=none leaves none"
        elif spec.reads_logits:
            for other_role in _without_logits(guides):
                mistakes[
                    f"The {other_role} alone is classified by its logits, but {other_role}.head=none leaves it none. "
                    f"Set {other_role}.head=keep, or reader=nearest."
                ] = f"is classified by its logits, of which {other_role}.head=none leaves none"
        elif is_given(spec):
            about = teachers.get(spec.weights, {})
            channels = int(about.get("preprocessing", {}).get("channels", 3))
            if int(data.get("channels", channels)) not in (1, channels):
                mistakes[
                    f"{about.get('file')} reads {channels} channel, but {data['name']} has {data['channels']}."
                ] = None


def _without_logits(read: list[tuple[str, TrainingSpec]]) -> list[str]:
    return [role for role, spec in read if not spec.has_logits]


def _has_maps(spec: TrainingSpec, data: Mapping[str, Any]) -> bool:
    if registry.plugin("network", spec.architecture) is not None:
        return _measures(spec, data)[1]
    return not spec.architecture.startswith(specs.OUTSIDE) or spec.architecture.startswith(OTHERS_WITH_MAPS)


def _embedding_width(spec: TrainingSpec, data: Mapping[str, Any], teachers: Mapping[str, Mapping[str, Any]]) -> int:
    """Width of a stage's embedding; 0 where the network cannot be had, which is another mistake."""
    if is_given(spec):
        return int(teachers.get(spec.weights, {}).get("embedding_width", 0))
    if registry.plugin("network", spec.architecture) is None and not spec.architecture.startswith(specs.OUTSIDE):
        return embedding_width(spec)
    return _measures(spec, data)[0]


def _measures(spec: TrainingSpec, data: Mapping[str, Any]) -> tuple[int, bool]:
    """Width of a network's embedding and whether it has feature maps, found on the network itself."""
    classes = int(data.get("classes") or 2)
    network = (spec.architecture, int(data.get("channels", 3)), classes, spec.width, spec.embedding, spec.stem)
    return _measures_of_network(*network, registry.generation())


@functools.cache
def _measures_of_network(
    architecture: str, channels: int, classes: int, width: float, embedding: int, stem: str, generation: int
) -> tuple[int, bool]:
    from trainables.models.registry import widths

    try:
        return widths(architecture, channels=channels, classes=classes, width=width, embedding=embedding, stem=stem)
    except UsageError:
        return 0, True


def _unfit(spec: TrainingSpec, channels: int, start: Mapping[str, Any]) -> str:
    """Why a training cannot begin with the weights of a file, or nothing."""
    network = (spec.architecture, channels, spec.width, spec.embedding, spec.stem)
    # Plug-ins may give a name to another network.
    return _unfit_network(*network, str(start["file"]), tuple(start["shapes"].items()), registry.generation())


@functools.cache
def _unfit_network(
    architecture: str,
    channels: int,
    width: float,
    embedding: int,
    stem: str,
    file: str,
    shapes: tuple[tuple[str, tuple[int, ...]], ...],
    generation: int,
) -> str:
    from trainables.models import build
    from trainables.pretrained.start import matched

    try:
        network = build(architecture, channels=channels, classes=2, width=width, embedding=embedding, stem=stem)
        matched(network, dict(shapes), file)
    except UsageError as error:
        return str(error)
    return ""


@functools.cache
def unreadable(architecture: str, channels: int, side: int) -> str:
    """Why another library's network cannot be had or cannot read such images, or nothing."""
    from trainables.models import build
    from trainables.models.outside import require_readable

    try:
        network = build(architecture, channels=channels, classes=2)
        require_readable(network, architecture, channels=channels, side=side)
    except UsageError as error:
        return str(error)
    return ""


def check_with_data(resolved: Resolved, packed: Packed, planner: Planner) -> None:
    """Refuse a kept classifier that has other classes than the data gives its student.

    Raises:
        UsageError: With both numbers.
    """
    for spec in _given(resolved, planner):
        about = resolved.teachers.get(spec.weights, {})
        if spec.head == "keep" and about.get("classes") != len(cut_for(packed, spec).classes):
            raise UsageError(
                classes_differ(int(about.get("classes", 0)), len(cut_for(packed, spec).classes), packed.info.name)
            )


def _given(resolved: Resolved, planner: Planner) -> Iterator[GivenSpec]:
    from sweeps.planning.plan import examples

    seen = set()
    for cell in examples(resolved):
        for spec in planner.specs(cell).values():
            if is_given(spec) and id(spec) not in seen:
                seen.add(id(spec))
                yield spec
