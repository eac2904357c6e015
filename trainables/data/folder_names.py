"""What the name of a folder says: a class, a number, a circumstance of the picture, a mere group, or a part of a set."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable
from enum import IntEnum

# Folders with these words (and numbers) hold whatever was stored together, and never name a class.
_GROUPS = (
    "batch part chunk shard fold split disk disc cd dvd volume vol partition subset archive batches session sess "
    "sitting visit take recording rec sequence seq clip video camera cam kamera image images img imgs photo photos "
    "picture pictures pics frame frames data dataset jpg jpeg png"
)
# Folders with these words tell how a picture was taken, where the folder above names what it shows.
_CIRCUMSTANCES = (
    "left right front frontal profile side up down top bottom back rear near far close view angle pose yaw pitch "
    "distance position indoor outdoor inside outside day night morning noon evening light dark bright illumination "
    "lighting rgb ir nir vis visible thermal depth grey gray colour color infrared neutral smile smiling glasses "
    "sunglasses mask occluded occlusion expression gallery probe track tracklet shot burst scene run round trial crop "
    "crops cropped aligned original orig raw full small large high low time date week month year"
)
_GROUP_WORDS, _CIRCUMSTANCE_WORDS = frozenset(_GROUPS.split()), frozenset(_CIRCUMSTANCES.split())
_BATCHES = frozenset(("batch", "shard", "chunk", "fold"))  # Say so whatever other words stand beside them.
_PARTS = {
    "train": ("train", "training"),
    "test": ("test", "testing"),
    "validation": ("validation", "val", "valid", "dev"),
}
_PART_OF = {word: part for part, words in _PARTS.items() for word in words}


class Says(IntEnum):
    """What a folder's name says, from the least to the most that it can say about a class."""

    GROUP = 0
    CIRCUMSTANCE = 1
    NUMBER = 2
    NAME = 3


def says(name: str, own_words: Collection[str] = ()) -> Says:
    """What a name says; `own_words`, such as the name of the set itself, say nothing."""
    tokens = re.findall(r"[^\W\d_]+|\d+", unicodedata.normalize("NFKC", name).casefold())
    words = [token for token in tokens if not token.isdecimal() and token not in own_words]
    if not words:
        return Says.NUMBER if any(token.isdecimal() for token in tokens) else Says.NAME
    if all(_among(word, _GROUP_WORDS) for word in words) or any(_among(word, _BATCHES) for word in words):
        return Says.GROUP
    if all(_among(word, _GROUP_WORDS) or _among(word, _CIRCUMSTANCE_WORDS) for word in words):
        return Says.CIRCUMSTANCE
    short = len(words) == 1 and len(words[0]) <= 2 and len(tokens) > 1
    return Says.NUMBER if short else Says.NAME  # s1, n000001, id10001.


def _among(word: str, known: frozenset[str]) -> bool:
    return word in known or word.removesuffix("s") in known


def most_say(names: Collection[str], own_words: Collection[str]) -> Says:
    """What the names of a level say: a class if half of them do, else the most that one of the others says."""
    kinds = [says(name, own_words) for name in names]
    if 2 * kinds.count(Says.NAME) >= len(kinds):
        return Says.NAME
    return max(kind for kind in kinds if kind != Says.NAME)


def part_of(name: str) -> str | None:
    """`train`, `test` or `validation` where a folder is called so, in one of the usual ways."""
    return _PART_OF.get(name.casefold())


def alike(names: Iterable[str]) -> list[tuple[str, str]]:
    """Pairs of names that differ only in case, in how Unicode writes a letter or in what cannot be seen.

    Single letters may differ in case, as the classes of handwriting do.
    """
    seen: dict[str, str] = {}
    found = []
    for name in sorted(names):
        seen_letters = "".join(letter for letter in name if unicodedata.category(letter) != "Cf")
        written = unicodedata.normalize("NFC", seen_letters).strip()
        key = written if len(written) == 1 else unicodedata.normalize("NFKC", written.casefold()).casefold()
        other = seen.setdefault(key, name)
        if other != name:
            found.append((other, name))
    return found
