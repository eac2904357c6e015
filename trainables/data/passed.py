"""What lies beside the images of a set and is not taken, told by name: nothing is left out in silence."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import NamedTuple

from trainables.data.archives import beginnings
from trainables.data.images import SUFFIXES
from trainables.data.layout import LOOSE
from trainables.data.stored import EARLIER, HIDDEN, Stored, shown

UNNAMED = "an image that no list names, or whose name is none of the set's"
UNREAD = "an image of a kind that is not read"
OTHER = "no image"

# Images by their names, of kinds that are not read.
_FOREIGN = (
    ".avif .heic .heif .jp2 .j2k .jpx .jxl .jxr .tga .ico .svg .eps .psd .raw .dng .cr2 .nef .arw .exr .hdr .dcm .nii "
    ".npy .npz .mat .mp4 .avi .mov .mkv .webm .ras .sgi .pcx .xcf .pfm .pam"
)
_MAGIC = (
    b"\xff\xd8\xff",
    b"\x89PNG\r\n",
    b"GIF8",
    b"BM",
    b"II*\0",
    b"MM\0*",
    b"P1\n",
    b"P2\n",
    b"P3\n",
    b"P4\n",
    b"P5\n",
    b"P6\n",
    b"\0\0\0\x0cjP  ",
    b"\xff\x0a",
)
_SAMPLE = 3  # Files of one suffix whose beginnings are looked at.


class Said(NamedTuple):
    """A sentence about files that are passed over; a warning where they may be images."""

    warning: bool
    text: str


def is_image(name: str) -> bool:
    """Whether a file is read as an image, by its name."""
    return name.lower().endswith(SUFFIXES)


def others(files: Mapping[str, Stored], images: Mapping[str, object]) -> dict[str, str]:
    """Files that are not among the images, and why: by their names, and by the beginnings of a few."""
    rest = {name: stored for name, stored in files.items() if name not in images}
    by_suffix: dict[str, list[str]] = defaultdict(list)
    for name in rest:
        if not is_image(name):
            by_suffix[_suffix(name)].append(name)
    looks = set(_FOREIGN.split()) | {
        suffix
        for suffix, names in by_suffix.items()
        if any(_is_picture(head) for head in beginnings([rest[name] for name in names[:_SAMPLE]]))
    }
    return {name: UNNAMED if is_image(name) else UNREAD if _suffix(name) in looks else OTHER for name in rest}


def _suffix(name: str) -> str:
    file = name.rpartition("/")[2].lower()
    stem, dot, end = file.rpartition(".")
    return f".{end}" if dot and stem and len(end) <= 10 else ""


def _is_picture(head: bytes) -> bool:
    return head.startswith(_MAGIC) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP") or head[4:8] == b"ftyp"


def sentences(passed: Mapping[str, str]) -> list[Said]:
    """One sentence per reason, with the number of files, their kinds and the first few names."""
    by_reason: dict[str, list[str]] = defaultdict(list)
    for name, why in passed.items():
        by_reason[why].append(name)
    found = []
    for why, names in sorted(by_reason.items()):
        kinds = Counter(_suffix(name) or "without suffix" for name in names)
        listed = ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common(5))
        few = ", ".join(shown(name) for name in names[:5]) + (", ..." if len(names) > 5 else "")
        loud = why in (LOOSE, UNNAMED, UNREAD) or (why != HIDDEN and why != OTHER and any(map(_imagelike, names)))
        said = why if why != EARLIER else "a file that a later one of the same name replaces"
        found.append(Said(loud, f"{len(names):,} passed over ({said}): {listed}: {few}"))
    return found


def _imagelike(name: str) -> bool:
    return is_image(name.removesuffix(" (earlier)"))
