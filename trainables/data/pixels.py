"""One image file to pixels of one size: upright, centre square, antialiased bicubic, 8 bits.

Pillow opens only the formats below, so no file starts another program, whatever its name says.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from system.regular_files import opened
from trainables.data.stored import FILE_BYTES, Stored

FORMATS = ("JPEG", "PNG", "PPM", "BMP", "GIF", "WEBP", "TIFF")
MOST_PIXELS = 89_478_485  # Where Pillow begins to warn of files made to fill the memory.

# What Pillow's plugins raise on damaged files.
DAMAGE = (
    OSError,
    EOFError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    RuntimeError,
    MemoryError,
    struct.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)
Content = bytes | str | None  # Of a file in an archive; a sentence where it cannot be read; None for a loose file.


@dataclass(frozen=True)
class Scale:
    """The values that become 255, for images whose type does not say so."""

    whole: float = 65535.0  # Of images of 16 and 32 bits.
    fractions: float | None = None  # Of images of floating point numbers; None: they are refused.


@dataclass(frozen=True, slots=True)
class Header:
    """What an image says of itself before it is decoded."""

    grey: bool
    side: int  # The shorter one.
    kind: str  # whole, fractions, colour (16 bits per channel), 1-bit, palette, CMYK, or nothing: 8 bits.
    alpha: bool
    frames: int


@contextmanager
def opened_image(file: Stored, content: Content) -> Iterator[Image.Image]:
    """An image, not yet decoded.

    Raises:
        OSError, ValueError and others of `DAMAGE`: If it is none, or larger than is read.
    """
    if isinstance(content, str):
        raise ValueError(content)
    with ExitStack() as stack:
        source = opened(file.path, most=FILE_BYTES) if content is None else io.BytesIO(content)
        stack.enter_context(source)
        try:
            image = Image.open(source, formats=FORMATS)
        except Image.UnidentifiedImageError:
            raise Image.UnidentifiedImageError(f"by its content it is none of {', '.join(FORMATS)}") from None
        stack.enter_context(image)
        width, height = image.size
        if width * height > MOST_PIXELS:
            raise ValueError(f"{width}x{height} pixels are more than the {MOST_PIXELS:,} that are decoded")
        yield image


def header_of(file: Stored, content: Content) -> Header | None:
    """What the image says of itself, or None where it cannot be opened; decoding tells why."""
    try:
        with opened_image(file, content) as image:
            animated = image.format in ("GIF", "PNG", "WEBP", "TIFF")
            return Header(
                grey=_is_grey(image),
                side=min(image.size),
                kind=_kind(image),
                alpha=image.mode in ("LA", "La", "RGBA", "RGBa", "PA") or "transparency" in image.info,
                frames=int(getattr(image, "n_frames", 1)) if animated else 1,
            )
    except DAMAGE:
        return None


def _is_grey(image: Image.Image) -> bool:
    if image.mode == "P":
        colours = np.asarray(image.getpalette("RGB") or [], dtype=np.uint8).reshape(-1, 3)
        return bool((colours == colours[:, :1]).all())
    return image.mode in ("1", "L", "LA", "La", "I", "F") or image.mode.startswith("I;16")


def _kind(image: Image.Image) -> str:
    if image.mode == "I" or image.mode.startswith("I;16"):
        return "whole"
    if image.mode == "F":
        return "fractions"
    tiles = getattr(image, "tile", [])  # Only images that come from a file have them.
    raws = (tile[3][0] if isinstance(tile[3], tuple) and tile[3] else tile[3] for tile in tiles)
    if any(";16" in str(raw) for raw in raws):
        return "colour"
    return {"1": "1-bit", "P": "palette", "PA": "palette", "CMYK": "CMYK"}.get(image.mode, "")


def extremes_of(file: Stored, content: Content) -> tuple[float, float] | None:
    """Least and largest value of an image; NaN where it holds one; None where it cannot be decoded."""
    try:
        with opened_image(file, content) as image:
            if image.mode in ("I", "F") or image.mode.startswith("I;16"):
                values = np.asarray(image)
                return float(values.min()), float(values.max())
            bands: list[Any] = [band.getextrema() for band in image.convert("RGB").split()]
            return float(min(low for low, _ in bands)), float(max(high for _, high in bands))
    except DAMAGE:
        return None


def decoded(file: Stored, content: Content, size: int, channels: int, scale: Scale) -> bytes:
    """Pixels [C, size, size] of 8 bits, as bytes.

    Raises:
        OSError, ValueError and others of `DAMAGE`: If it cannot be decoded.
    """
    with opened_image(file, content) as image_file:
        image = _eight_bits(ImageOps.exif_transpose(image_file), scale)
    image = image.convert("L" if channels == 1 else "RGB")
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    image = image.crop((left, top, left + side, top + side))
    if side != size:
        image = image.resize((size, size), Image.Resampling.BICUBIC)
    pixels = np.asarray(image).reshape(size, size, channels)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)).tobytes()


def _eight_bits(image: Image.Image, scale: Scale) -> Image.Image:
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        top = scale.fractions if image.mode == "F" else scale.whole
        if top is None:
            raise ValueError("images of floating point numbers have no known range")
        # Pillow would clip at 255 instead of scaling.
        wide = np.clip(np.asarray(image), 0, top).astype(np.float64)
        return Image.fromarray(np.rint(wide / (top / 255)).astype(np.uint8))
    if image.mode in ("P", "PA") and ("transparency" in image.info or image.mode == "PA"):
        image = image.convert("RGBA")
    if image.mode in ("LA", "RGBA"):
        *colours, alpha = (band.getextrema() for band in image.split())
        if all(low == high for low, high in colours) and alpha[0] != alpha[1]:
            raise ValueError("all its pixels have one colour and the picture is in its alpha channel, which is dropped")
    return image
