"""What can only be refused when the data set is known: of a plan, its weight files and the splits of its data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from search_spaces.study import TUNING
from sweeps.planning import network_checks
from sweeps.planning.network_checks import Mistakes
from sweeps.planning.planner import Planner
from trainables.data.packed import Packed
from trainables.data.protocols import cut_for, whole
from trainables.errors import UsageError
from trainables.spec import GivenSpec, StageSpec, TrainingSpec, distils, has_network, is_given, task_of
from trainables.spec.given import classes_differ
from trainables.spec.networks import with_stem
from trainables.spec.training import OF_SPLITS

# What the split of a training rests on.
SPLIT_FIELDS = (
    *("task", "validation_fraction", "split_seed", "train_images"),
    *OF_SPLITS,
)


def check_against_data(planner: Planner) -> None:
    """Refuse what the data set cannot give.

    Raises:
        UsageError: With one line per mistake.
    """
    mistakes = mistakes_of(planner)
    if mistakes:
        raise UsageError("\n".join(list(mistakes)[:10]))


def mistakes_of(planner: Planner) -> Mistakes:
    """What `check_against_data` refuses: sentence -> what an arm cannot be for, where that follows from the arm."""
    plan = planner.plan
    mistakes: Mistakes = {}
    checked: dict[int, StageSpec] = {}
    for cell in plan.examples():
        specs_by_role = planner.specs(cell)
        parents = {placed.role: placed.parents for placed in planner.recipe.steps_of(cell.parameters)}
        # Equal stages may be read by others, and read others, in each cell.
        network_checks.check_chain(specs_by_role, parents, plan.weights.teachers, plan.data, mistakes)
        for role, spec in specs_by_role.items():
            if distils(spec) and not parents[role]:
                mistakes[f"method={spec.method} needs a guide for the {role}: route=direct, or method=none."] = None
            if id(spec) in checked or not has_network(spec):
                continue
            checked[id(spec)] = spec
            side = min(plan.data["height"], plan.data["width"])
            resolution = spec.resolution or side
            if resolution > side:
                name = plan.data["name"]
                mistakes[f"resolution must be at most {side}, the size of {name}, got {resolution} for the {role}."] = (
                    None
                )
            network_checks.check(role, spec, plan.weights.starts, plan.data, mistakes)
            _check_stem(role, spec, mistakes)
            if getattr(spec, "init_from_assistant", False):
                _check_start(role, spec, specs_by_role, parents[role], mistakes)
            if spec.validation_fraction == 0 and (plan.resolved.study.sampled or TUNING in plan.resolved.axes):
                name = plan.resolved.study.name
                mistakes[f"validation_fraction must be above 0: {name} chooses on validation."] = None
            if spec.upsample_to is not None and spec.upsample_to < resolution:
                mistakes[
                    f"upsample_to must be at least the resolution, {resolution}, got {spec.upsample_to} for the {role}."
                ] = None
            _check_images(role, spec, plan.data, mistakes)
    return mistakes


def _check_stem(role: str, spec: TrainingSpec, mistakes: Mistakes) -> None:
    if spec.stem == "large" and spec.architecture not in (*with_stem("large"), "pixels"):
        mistakes[f"stem=large is for {', '.join(with_stem('large'))}, got {spec.architecture} for the {role}."] = (
            f"its {role}, {spec.architecture}, takes no stem=large"
        )


def _check_images(role: str, spec: TrainingSpec, data: Mapping[str, Any], mistakes: Mistakes) -> None:
    """Whether a classification has as many training images as it asks for."""
    if not task_of(spec.task).known_classes:
        return  # What is left to train on depends on the classes; `check_splits` asks the data itself.
    least = int(data.get("classes", 1))
    left = _left_by_validation(data["train_images"], spec.validation_fraction, least)
    if spec.train_images > left:
        mistakes[
            f"train_images must be at most {left}, what validation leaves of {data['name']}, "
            f"got {spec.train_images} for the {role}."
        ] = None
    elif 0 < spec.train_images < least:
        mistakes[
            f"train_images must be at least {least}, one per class of {data['name']}, or 0 for all, "
            f"got {spec.train_images} for the {role}."
        ] = None


def _left_by_validation(images: int, fraction: float, classes: int) -> int:
    """Training images beside the validation split, by the rounding of `split_indices`."""
    held_out = max(1, int(images * fraction + 0.5)) if fraction > 0 else 0
    return max(images - held_out, min(images, classes))


def _check_start(
    role: str,
    spec: TrainingSpec,
    specs_by_role: Mapping[str, StageSpec],
    parents: Mapping[str, str],
    mistakes: Mistakes,
) -> None:
    """A network can begin with another one's weights only if both are built alike."""
    guide = next((specs_by_role[parent] for parent in parents.values()), None)
    if not has_network(guide):
        mistakes[f"init_from_assistant=true needs a guide for the {role}, but its route has none."] = None
        return
    for name in ("architecture", "width", "embedding", "stem"):
        ours, theirs = getattr(spec, name), getattr(guide, name)
        if ours != theirs:
            mistakes[
                f"init_from_assistant=true needs a {role} built like its {guide.kind}, but {name} is {ours} and {theirs}."
            ] = f"begins with the {guide.kind}'s weights, but {name} is {ours} and {theirs}"


def check_splits(planner: Planner, packed: Packed, tested: Packed | None = None) -> None:
    """Refuse splits that the packed data cannot give, before anything starts.

    Args:
        planner: Of the study.
        packed: What is trained on.
        tested: Another data set that is tested.

    Raises:
        UsageError: With what does not fit.
    """
    seen = set()
    for cell in planner.plan.examples():
        specs_by_role = planner.specs(cell)
        _check_tested_side(planner, specs_by_role, tested)
        for spec in specs_by_role.values():
            if not has_network(spec):
                continue
            mark = tuple(getattr(spec, name) for name in SPLIT_FIELDS)
            if mark not in seen:
                seen.add(mark)
                _check_split(spec, packed, tested)


def _check_tested_side(planner: Planner, specs_by_role: Mapping[str, StageSpec], tested: Packed | None) -> None:
    side = min(tested.info.height, tested.info.width) if tested is not None else planner.plan.side
    read = specs_by_role[planner.recipe.measured(specs_by_role)]
    if has_network(read) and (read.resolution or planner.plan.side) > side:
        raise UsageError(
            f"Test images must have the {read.resolution or planner.plan.side} pixels a side that the network reads, but "
            f"those of {tested.info.name if tested else 'the data'} have {side}. Lower its resolution."
        )


def _check_split(spec: TrainingSpec, packed: Packed, tested: Packed | None) -> None:
    split = cut_for(packed, spec)
    if tested is not None:
        whole(tested, task=spec.task, split_seed=spec.split_seed, folds=spec.folds, subjects=spec.subjects)
        if tested.info.channels != packed.info.channels:
            raise UsageError(
                f"Training and test images must have the same channels, but {packed.info.name} has "
                f"{packed.info.channels} and {tested.info.name} {tested.info.channels}."
            )
    elif len(split.test) == 0:
        raise UsageError("held_out=0 tests nothing. Raise it, or name other data with --test-data.")


def check_kept_classifiers(planner: Planner, packed: Packed) -> None:
    """Refuse a classifier that is kept from a file and has other classes than the data give its student.

    Raises:
        UsageError: With both numbers.
    """
    for spec in _given(planner):
        about = planner.plan.weights.teachers.get(spec.weights, {})
        classes = len(cut_for(packed, spec).classes) if spec.head == "keep" else None
        if classes is not None and about.get("classes") != classes:
            raise UsageError(classes_differ(int(about.get("classes", 0)), classes, packed.info.name))


def _given(planner: Planner) -> Iterator[GivenSpec]:
    seen = set()
    for cell in planner.plan.examples():
        for spec in planner.specs(cell).values():
            if is_given(spec) and id(spec) not in seen:
                seen.add(id(spec))
                yield spec
