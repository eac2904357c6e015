"""The preset `own` and the data it is made from; and a loud word where digits' settings meet other data."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from search_spaces.own_data import MOST_SIDE
from search_spaces.study import OWN, DataFacts, Preset, Study
from sweeps.planning.resolve import Resolved
from trainables.data import sources
from trainables.data.packed import Packed
from trainables.data.protocols import cut
from trainables.data.survey import stored_side
from trainables.spec import TrainingSpec, task_of

DIGITS = "digits"
LEAST_PACKED = 8  # Smaller image files are enlarged to it: networks need some pixels to halve.
_PARTS = ("validation_fraction", "split_seed", "held_out", "folds", "min_images", "subjects")


def provisional(study: Study, preset: str, data: str | None) -> Preset | None:
    """The preset `own` before anything is known of the data, which answers wrong words; None for others."""
    if preset != OWN or study.own is None:
        return None
    return study.own(
        DataFacts(
            name=data or DIGITS,
            side=MOST_SIDE,
            channels=3,
            classes=10,
            train_images=1000,
            test_images=250,
            trained_images=900,
            trained_classes=10,
        )
    )


@dataclass(frozen=True)
class Look:
    """What a folder of images shows without being decoded; zeros for data that come otherwise."""

    side: int = 0  # Of the usual image file.
    classes: int = 0

    @classmethod
    def at(cls, source: sources.Source) -> Look:
        """Look at a source."""
        listing = sources.listing_of(source) if source.kind == "folder" else None
        return cls() if listing is None else cls(stored_side(listing), len(listing.classes))


def packed_side(source: sources.Source, look: Look, chosen: int | None) -> int | None:
    """Side at which image files are packed for `own`: the usual image's own, at most what teachers read.

    Returns:
        None where a person chose a side, or the set has its own.
    """
    if chosen is not None or source.size is None:
        return None
    return min(MOST_SIDE, max(LEAST_PACKED, look.side or source.size))


def facts_of(data: Mapping[str, Any], packed: Packed | None, resolved: Resolved, look: Look) -> DataFacts:
    """What is known of a data set; exact where it is packed.

    Args:
        data: What run.json says of it.
        packed: The data set.
        resolved: The study as it was asked, for what is held out.
        look: What its files show.

    Raises:
        UsageError: If the task cannot be had from the data.
    """
    words = {name: resolved.parameters[name] for name in _PARTS if name in resolved.parameters}
    defaults = {f.name: f.default for f in dataclasses.fields(TrainingSpec)}
    parts = {name: words.get(name, defaults[name]) for name in _PARTS}
    classes = int(data.get("classes") or look.classes or 10)
    if packed is not None:
        split = cut(packed, task=resolved.task, train_images=0, **parts)
        images, learned = len(split.train), len(split.classes)
    else:
        known = task_of(resolved.task).known_classes
        kept = 1.0 if known else 1.0 - parts["held_out"]
        whole = data["train_images"] + (0 if known else data["test_images"])
        images, learned = round(whole * kept * (1 - parts["validation_fraction"])), max(2, round(classes * kept))
    return DataFacts(
        name=data["name"],
        side=min(data["height"], data["width"]),
        channels=int(data.get("channels", 0)),
        classes=classes,
        train_images=data["train_images"],
        test_images=data["test_images"],
        trained_images=images,
        trained_classes=learned,
        stored=look.side,
        exact=packed is not None,
    )


def tell_of_digits(resolved: Resolved, data: str, say: Callable[[str], None]) -> Resolved:
    """Say loudly, there and in all that shows the run, that settings made for the digits meet other data."""
    preset = resolved.preset
    if preset.data != DIGITS or data == DIGITS or resolved.preset_name == OWN:
        return resolved
    advice = " Leave --preset out, or name --preset own, for settings made from the data." if resolved.study.own else ""
    say(
        f"Warning: preset {resolved.preset_name} was made for {DIGITS} ({preset.note}), but {data} is trained on: its "
        f"resolutions, numbers of images, epochs and weights were chosen for another task.{advice}"
    )
    marked = dataclasses.replace(
        preset,
        note=f"made for {DIGITS}, used on {data}: {preset.note}",
        departures=(
            f"The settings of preset {resolved.preset_name} were made for {DIGITS}, not for {data}.",
            *preset.departures,
        ),
    )
    return dataclasses.replace(resolved, preset=marked)
