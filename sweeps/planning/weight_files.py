"""Teachers from files, and weights that trainings begin with, in the words of a study.

`--set teacher.weights=PATH` makes the teacher a stage that is checked instead of trained. The path is read once and
replaced by the digits that its weights have in the store, so neither keys nor a later `resume` know of it. Torch is
imported only where there is a file to look at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from search_spaces.study import Study
from sweeps.planning.request import Setting
from trainables import spec as specs
from trainables.spec import GIVEN, GivenSpec, TrainingSpec
from trainables.spec.parameter import Parameter, field_of

WEIGHTS = "weights"  # Of a stage that is given instead of trained.
START = "start_weights"  # Of a stage that is trained, and so of any.
FOUND = ("family", "architecture", "width", "embedding", "stem")  # What a file says, unless the command line does.
TOLD = ("embedding", "stem")  # What it says alone.
OF_FILES_ALONE = tuple(n for n in specs.field_paths(GivenSpec) if n not in specs.field_paths(TrainingSpec))


@dataclass(frozen=True)
class WeightFiles:
    """What the files of weights that a study names turned out to be, by the digits that they have in the store."""

    teachers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # Of stages that are given.
    starts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # Trainings begin with them: file, shapes.

    def described(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """The parameters of a cell, with what its files turned out to be."""
        if not self.teachers:
            return parameters
        more: dict[str, Any] = {}
        for name, value in parameters.items():
            about = self.teachers.get(value) if _names_a_stage(name) else None
            if about is not None:
                role = _role_of(name)
                more |= {Parameter(role, path).name: about[path] for path in FOUND}
        return parameters | more


def _names_a_stage(name: str) -> bool:
    """Whether a parameter names the file of a stage that is given: `teacher.weights`."""
    return name.endswith(f".{WEIGHTS}")


def _is_path(name: str) -> bool:
    return _names_a_stage(name) or field_of(name) == START


def _role_of(name: str) -> str:
    """The stage whose weights a parameter names."""
    return name.removesuffix(f".{WEIGHTS}")


def settle_words(
    study: Study,
    parameters: dict[str, Any],
    sources: Mapping[str, str],
    axes: Mapping[str, tuple[Any, ...]],
    said: Mapping[str, tuple[Any, ...]],
) -> list[str]:
    """Take out what a preset says of the training of a stage that is given; returns mistakes.

    Args:
        study: The study.
        parameters: By canonical name; changed.
        sources: Parameter -> where its value comes from.
        axes: The axes.
        said: What the command line says, by canonical name.
    """
    mistakes = []
    roles = study.recipe.roles
    for role in [step.role for step in study.recipe.steps if step.given is not None]:
        words = _of_role(role, said, roles)
        if Parameter(role, WEIGHTS).name not in said:
            alone = [word.name for word in words if word.head in OF_FILES_ALONE]
            mistakes += [f"{name} is of a {role} from a file. Name it: --set {role}.weights=PATH." for name in alone]
            continue
        for name in [word.name for word in _of_role(role, parameters, roles)]:
            if sources.get(name) != "--set":
                del parameters[name]
        idle = set(GivenSpec().unused())
        taken = specs.field_paths(GivenSpec)
        mistakes += [
            f"{word.name} is what the file of {role}.weights says. Leave it out." for word in words if word.path in TOLD
        ]
        mistakes += [
            f"{word.name} is of a {role} in training, but {role}.weights names one that is trained already."
            for word in words
            if word.path not in taken or word.head in idle
        ]
        mistakes += [
            f"{word.name} takes one value where {role}.weights names a file."
            for word in _of_role(role, axes, roles)
            if word.head in GIVEN and word.path != WEIGHTS
        ]
    return mistakes


def _of_role(role: str, names: Iterable[str], roles: Sequence[str]) -> list[Parameter]:
    return [word for word in (Parameter.parse(name, roles) for name in names) if word.role == role]


def named(parameters: Iterable[str]) -> bool:
    """Whether any of these parameters names a file."""
    return any(_is_path(name) for name in parameters)


@dataclass(frozen=True)
class Admitted:
    """A study's words with digits in place of its files' paths, and what the files are."""

    parameters: Mapping[str, Any]
    axes: Mapping[str, tuple[Any, ...]]
    settings: Sequence[str]
    weights: WeightFiles


def admit(
    parameters: Mapping[str, Any],
    axes: Mapping[str, tuple[Any, ...]],
    settings: Sequence[str],
    root: Path,
    say: Callable[[str], None],
    *,
    write: bool,
) -> Admitted:
    """Read the files that a study names into the store.

    Args:
        parameters: Of the study, by canonical name.
        axes: Of the study.
        settings: As `--set` took them.
        root: Of the store.
        say: Tells the person what takes time.
        write: Whether they are kept there, or only looked at.

    Raises:
        UsageError: If a file is not what it must be.
    """
    from trainables.pretrained import shelf

    digits: dict[str, str] = {}
    teachers: dict[str, Mapping[str, Any]] = {}
    starts: dict[str, Mapping[str, Any]] = {}
    names = [name for name in (*parameters, *axes) if _is_path(name)]
    for name in names:
        for words in axes[name] if name in axes else (parameters[name],):
            path = Path(words).expanduser()
            if path.is_file():
                say(f"Reading the weights {path.name} ...")
            wanted = asked(parameters, _role_of(name)) if _names_a_stage(name) else None
            file = shelf.admit(str(words), root, wanted, write=write)
            digits[str(words)] = file.digits
            if wanted is None:
                starts[file.digits] = {"file": file.about["file"], "shapes": file.shapes}
            else:
                teachers[file.digits] = file.about
    return Admitted(
        {**parameters, **{n: digits[str(parameters[n])] for n in names if n not in axes}},
        {**axes, **{n: tuple(digits[str(words)] for words in axes[n]) for n in names if n in axes}},
        [_with_digits(text, digits) for text in settings],
        WeightFiles(teachers, starts),
    )


def _with_digits(text: str, digits: Mapping[str, str]) -> str:
    setting = Setting.parse(text)
    if not _is_path(setting.name):
        return text
    return f"{setting.name}={','.join(digits.get(value, value) for value in setting.values)}"


def asked(parameters: Mapping[str, Any], role: str) -> GivenSpec:
    """What the parameters say of a given stage."""
    names = ("family", "architecture", "head", "order", "mean", "std", "side", "width")
    full = {name: Parameter(role, name).name for name in names}
    return GivenSpec(**{name: parameters[full[name]] for name in names if full[name] in parameters})
