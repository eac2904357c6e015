"""What networks can be refused for once the data are known: alone, and in what the stages of a cell want of each other.

Torch is imported only where there is a network that is not ours, or a file of weights, to look at.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from sweeps.planning.weight_files import START
from trainables import spec as specs
from trainables.errors import UsageError
from trainables.spec import StageSpec, TrainingSpec, distils, has_network, is_given, registry
from trainables.spec.compute import embedding_width

# Sentence -> in a few words what an arm cannot be for, where that follows from what the arm is; else None.
Mistakes = dict[str, str | None]
OTHERS_WITH_MAPS = ("torchvision:resne", "torchvision:wide_resne")  # Other libraries' networks that have stages.


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
    specs_by_role: Mapping[str, StageSpec],
    parents: Mapping[str, Mapping[str, str]],
    teachers: Mapping[str, Mapping[str, Any]],
    data: Mapping[str, Any],
    mistakes: Mistakes,
) -> None:
    """What a cell's stages want of each other: logits and feature maps, and of colours; adds mistakes.

    Args:
        specs_by_role: Of the cell.
        parents: Role -> role inside the stage -> role in the cell.
        teachers: Weights from a file -> what they turned out to be.
        data: What is known of the data set.
        mistakes: Changed.
    """
    for role, spec in specs_by_role.items():
        read = [(other, specs_by_role[other]) for other in parents.get(role, {}).values()]
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
