"""The preset `own`: settings of a study made from what a data set is, for data that no preset was written for.

Everything follows from the images' side, their number, the number of classes and the task, so equal data give equal
settings on every machine. Weights are the published ones of each method, HORKD's own are neutral; none was chosen on other data.
Nothing here knows how fast a machine is: what a run costs is estimated where it is planned.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from search_spaces import ranges
from search_spaces.study import DataFacts, Preset
from trainables.errors import UsageError

MOST_SIDE = 64  # Pixels that a teacher reads: twice as many cost two cores four times the time.
LEAST_SIDE = 4  # What the networks accept.
SEEDS = 3  # The fewest that give a verdict.
# Images seen by one network in all its epochs, by the side of the teacher: three seeds of a study of methods then take two
# cores some five to ten minutes. Larger sets get up to three times as many, and of still larger ones a part is used.
IMAGES_SEEN = ((8, 80_000), (16, 50_000), (32, 45_000), (48, 20_000), (64, 11_000))
EPOCHS = (10, 60)  # Fewer teach nothing, more overfit what is small.
BATCHES = ((4000, 64), (1500, 32), (100, 16), (0, 8))  # Least number of training images, images of a batch.
LEAST_PER_CLASS = 8  # Training images that each class keeps where a part of the data is used.
WIDE_SIDE = 16  # Up to it networks are twice as wide, and cost less nevertheless.

METHODS = ("teacher", "ce", "ce_equal_compute", "kd", "rkd", "horkd_direct", "horkd", "pixels", "random")

Maker = Callable[[DataFacts], Preset]


@dataclass(frozen=True)
class Fit:
    """What was chosen for a data set."""

    side: int  # Of what teacher and assistant read.
    students: tuple[int, ...]
    width: float  # Of students and assistant; the teacher is twice as wide.
    images: int  # Trained on.
    train_images: int  # As the spec has it: 0 where that is all of them.
    batch: int
    epochs: int
    flips: bool


def fit(facts: DataFacts, most_side: int = MOST_SIDE) -> Fit:
    """Sides, width, images, batch and epochs for a data set.

    Raises:
        UsageError: If the images are smaller than networks accept.
    """
    if facts.side < LEAST_SIDE:
        raise UsageError(
            f"Images must have at least {LEAST_SIDE} pixels a side for a study, but those of {facts.name} have {facts.side}. "
            "Choose other data, or, for image files, another --data-size."
        )
    side = min(facts.side, most_side)
    students = tuple(dict.fromkeys(max(LEAST_SIDE, side // part) for part in (2, 4)))
    seen = next((images for most, images in IMAGES_SEEN if side <= most), IMAGES_SEEN[-1][1])
    images = facts.trained_images
    most = max(3 * seen // EPOCHS[0], LEAST_PER_CLASS * facts.trained_classes)
    used = min(images, most)
    epochs = min(EPOCHS[1], max(EPOCHS[0], round(seen / max(1, used))))
    return Fit(
        side=side,
        students=students,
        width=1.0 if side <= WIDE_SIDE else 0.5,
        images=used,
        train_images=0 if used == images else used,
        batch=next(size for least, size in BATCHES if used >= least),
        epochs=epochs,
        flips=facts.channels != 1,
    )


def _parameters(chosen: Fit) -> dict[str, Any]:
    return {
        "architecture": "resnet_thin",
        "width": chosen.width,
        "teacher.width": 2 * chosen.width,
        "teacher.resolution": chosen.side,
        "assistant.resolution": chosen.side,
        "train_images": chosen.train_images,
        "augment": "crop_flip" if chosen.flips else "crop",
        "pad": max(1, chosen.side // 16),
        "epochs": chosen.epochs,
        "batch_size": chosen.batch,
        "learning_rate": 0.05,
        "warmup_epochs": 1.0,
        # All students of a seed see the same views, so one pass of a frozen network serves them all.
        "teacher_outputs": "cached_epochs",
        "outputs_per_shard": chosen.epochs,
        **ranges.NEUTRAL_WEIGHTS,
    }


def words(facts: DataFacts, chosen: Fit) -> str:
    """What was chosen for a data set and why, on one line."""
    trained = f"{facts.trained_images:,}"
    part = (
        f"trained on all {trained} images that test and validation leave"
        if not chosen.train_images
        else f"trained on {chosen.images:,} of {trained} images, drawn alike from each class, so that a run ends "
        "(train_images=0 takes all)"
    )
    views = {
        0: "shifted, and mirrored if they turn out to be in colour",
        1: "shifted, not mirrored because they are grey and may be letters",
    }.get(facts.channels, "shifted and mirrored")
    parts = ("half", "quarter") if len(chosen.students) > 1 else ("half",)
    return (
        f"made for {facts.name}: {_size(facts)}, {facts.images:,} images of {facts.classes:,} classes; teacher at "
        f"{_side(facts, chosen)}; students at {' and '.join(map(str, chosen.students))} pixels, about a "
        f"{' and a '.join(parts)} of it; {part}; by their number batches of {chosen.batch} and {chosen.epochs} epochs; images "
        f"{views}; "
        "small networks from scratch; nothing was tuned on this data"
        f"{'' if facts.exact else '; numbers are estimates until the images are packed'}"
    )


def _size(facts: DataFacts) -> str:
    shown = f"{facts.side}x{facts.side} pixels"
    if facts.stored > facts.side:
        return f"image files of about {facts.stored} pixels, packed at {shown}"
    return f"image files of {facts.stored} pixels, enlarged to {shown}" if 0 < facts.stored < facts.side else shown


def _side(facts: DataFacts, chosen: Fit) -> str:
    if chosen.side < max(facts.side, facts.stored):
        return f"{chosen.side} pixels, because more would take two cores too long (--data-size and --set teacher.resolution)"
    return f"the data's own side, {chosen.side}"


def _departures(*, weighted: bool) -> tuple[str, ...]:
    if not weighted:
        return ()
    return (
        "No weight was chosen on this data: other methods have their published ones, labels alone an untuned learning rate, "
        "and HORKD's four terms 1 each, with means over tuples. The published 0.02, 0.01 and 1 need sums, which grow with the "
        "batch and the number of classes; pairs and angles weigh little at 1.",
    )


def maker(
    axes: Callable[[Fit], Mapping[str, Sequence[Any]] | None],
    *,
    most_side: int = MOST_SIDE,
    arms: Mapping[str, Mapping[str, Any]] | None = None,
    without: Sequence[str] = (),
    seeds: int = SEEDS,
    trials: int = 0,
    **more: Any,
) -> Maker:
    """What makes the preset `own` of a study.

    Args:
        axes: The study's axes for what was chosen; None for a study that draws its cells.
        most_side: Most pixels of the teacher, where a study trains many networks at its side.
        arms: Parameters over those of arms.
        without: Parameters that the study varies or draws.
        seeds: Number of seeds.
        trials: Cells of a study that draws them.
        more: Further parameters; dots in names are written as two underscores.
    """
    further = {name.replace("__", "."): value for name, value in more.items()}

    def make(facts: DataFacts) -> Preset:
        chosen = fit(facts, most_side)
        found = axes(chosen)
        parameters = {name: value for name, value in (_parameters(chosen) | further).items() if name not in without}
        return Preset(
            seeds=seeds,
            trials=trials,
            data=facts.name,
            axes=None if found is None else {name: tuple(values) for name, values in found.items()},
            parameters=parameters,
            arms=dict(arms or {}),
            note=words(facts, chosen),
            departures=_departures(weighted="horkd.alpha" in parameters),
        )

    return make


def of_methods(*arms: str, **more: Any) -> Maker:
    """What makes the preset `own` of a study of methods: these arms at half and a quarter of the side."""
    # A tenth of cross-entropy is for hundreds of epochs; here every method has the whole of it.
    neutral = {"kd": {"student.cross_entropy": 1.0}} if "kd" in arms else {}
    return maker(lambda chosen: {"arm": arms, "resolution": chosen.students}, arms=neutral, **more)
