"""What the images of a set say of themselves: colour, size, and how their values become 8 bits."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trainables.data.archives import in_reading_order
from trainables.data.images import ImageFile, Listing, each, pool
from trainables.data.passed import Said
from trainables.data.pixels import Header, Scale, extremes_of, header_of
from trainables.data.stored import shown
from trainables.errors import DataError

BITS = (1, 2, 4, 8, 10, 12, 14, 16)
_MAY_BE_WIDE = (".png", ".tif", ".tiff", ".pgm", ".ppm", ".pnm", ".gif")
_SAMPLE = 256  # Images whose headers say how large those of a set are.
_DARK = 8  # Half of the images this many times darker than the brightest is worth a word.
_DIM = 64  # Of 255, as the brightest pixel of a set.
_STEP = 1024
_LEAST_HIGH_BYTE = 64  # Below, fewer than 14 of 16 bits are used, and the upper eight hold too little of them.


@dataclass(frozen=True)
class Survey:
    """What is needed to pack a set, and what should be said about it."""

    channels: int
    scale: Scale | None  # None: all images have 8 bits.
    said: tuple[Said, ...] = ()


def survey(listing: Listing) -> Survey:
    """Open the images of a set: all of them, or those that may have more than 8 bits where its channels are known.

    Raises:
        DataError: If values of some images have no place between 0 and 255 that could be told.
    """
    wanted = [
        file for file in listing.files if listing.channels is None or file.relative.lower().endswith(_MAY_BE_WIDE)
    ]
    with pool() as threads:
        headers = [(file, header) for file, header in each(threads, header_of, in_reading_order(wanted)) if header]
    channels = listing.channels
    if channels is None:
        channels = 1 if all(header.grey for _, header in headers) else 3
    scale, said = _ranges(headers)
    return Survey(channels, scale, (*said, *_kinds([header for _, header in headers])))


def dark(images: np.ndarray) -> list[Said]:
    """A word where no pixel of a whole set [N, C, H, W] comes near white: such values were seldom meant for 8 bits."""
    brightest = max((int(images[start : start + _STEP].max()) for start in range(0, len(images), _STEP)), default=255)
    if brightest >= _DIM:
        return []
    return [
        Said(
            True,
            f"no pixel is brighter than {brightest} of 255: the images are nearly black, and are taken as they are; if "
            f"their values were meant to go from 0 to {brightest}, scale them to 0 to 255",
        )
    ]


def stored_side(listing: Listing) -> int:
    """Shorter side in pixels of the usual image: the median over some of them, spread evenly; 0 if none opens."""
    step = max(1, len(listing.files) // _SAMPLE)
    with pool() as threads:
        headers = [header for _, header in each(threads, header_of, in_reading_order(listing.files[::step]))]
    known = sorted(header.side for header in headers if header)
    return known[len(known) // 2] if known else 0


def _kinds(headers: Sequence[Header]) -> list[Said]:
    counts = Counter(header.kind for header in headers)
    alpha, frames = sum(header.alpha for header in headers), sum(header.frames > 1 for header in headers)
    rows = (
        (counts["1-bit"], False, "have 1 bit per pixel, which becomes 0 or 255"),
        (counts["palette"], False, "have a palette, and become what it says"),
        (counts["CMYK"], True, "are CMYK, and become RGB without a colour profile"),
        (alpha, True, "have an alpha channel, which is dropped: what it hides is seen"),
        (frames, True, "hold several pages or frames, of which the first is read"),
    )
    return [Said(loud, f"{count:,} of {len(headers):,} images {text}") for count, loud, text in rows if count]


def _ranges(headers: Sequence[tuple[ImageFile, Header]]) -> tuple[Scale | None, list[Said]]:
    wide = [file for file, header in headers if header.kind in ("whole", "fractions", "colour")]
    if not wide:
        return None, []
    kinds = {id(file): header.kind for file, header in headers}
    found: dict[str, list[tuple[float, float, ImageFile]]] = {"whole": [], "fractions": [], "colour": []}
    with pool() as threads:
        for file, extremes in each(threads, extremes_of, in_reading_order(wide)):
            if extremes is not None:
                found[kinds[id(file)]].append((*extremes, file))
    said: list[Said] = []
    tops: dict[str, float] = {}
    for kind, rows in found.items():
        if not rows:
            continue
        for low, high, file in rows:
            if not (math.isfinite(low) and math.isfinite(high)) or low < 0 or high > 65535:
                raise DataError(
                    f"Values of images must lie between 0 and 65535, but those of {shown(file.relative)} go from {low:g} "
                    f"to {high:g}, and nothing tells which of them is black and which white. Scale the images to 8 bits."
                )
        largest = max(rows, key=lambda row: row[1])
        if kind == "colour":
            said.append(_colour(len(rows), largest))
            continue
        tops[kind] = _top(largest[1], fractions=kind == "fractions")
        said.append(_whole(kind, tops[kind], [row[1] for row in rows], largest))
    if not tops:
        return None, said
    return Scale(whole=tops.get("whole", 65535.0), fractions=tops.get("fractions")), said


def _top(largest: float, *, fractions: bool) -> float:
    """The value that becomes 255: the largest of the fewest bits that hold all values; 1 or 255 for fractions."""
    if fractions and largest <= 255:
        return 1.0 if largest <= 1 else 255.0
    return float(next(2**bits - 1 for bits in BITS if largest <= 2**bits - 1))


def _whole(kind: str, top: float, values: list[float], largest: tuple[float, float, ImageFile]) -> Said:
    what = "hold floating point numbers" if kind == "fractions" else "have more than 8 bits per pixel"
    taken = f"0 to {top:g}" if kind == "fractions" else f"{math.log2(top + 1):g} bits"
    text = (
        f"{len(values):,} images {what}, the largest value is {largest[1]:g}: they are taken as {taken}, so that "
        f"{top:g} becomes 255"
    )
    middle = sorted(values)[len(values) // 2]
    if middle * _DARK < top:
        text += (
            f"; half of them stay at or below {middle:g} and will be dark ({shown(largest[2].relative)} has the largest "
            "value)"
        )
    return Said(True, text)


def _colour(count: int, largest: tuple[float, float, ImageFile]) -> Said:
    if largest[1] < _LEAST_HIGH_BYTE:
        raise DataError(
            f"{count:,} colour images have 16 bits per channel, of which the upper 8 are read, but none of their values "
            f"is above {int(largest[1] + 1) * 256 - 1:,} of 65,535 ({shown(largest[2].relative)} has the largest): they "
            "would be nearly black. Scale them to 8 bits per channel."
        )
    return Said(True, f"{count:,} colour images have 16 bits per channel, of which the upper 8 are read")
