"""Which of the folders above an image is its class, told from their names and depths."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence

from trainables.data.folder_names import Says, alike, most_say, says
from trainables.data.stored import listed, shown
from trainables.errors import DataError

Parts = tuple[str, ...]  # The parts of a name, the file last.
_CURE = (
    "Put the images of each class into one folder of its name. Folders above those that only group them may be called "
    "batch_1, batch_2, ..., folders within them session_1, camera_1, ..."
)


def class_folders(
    folders: Iterable[Parts], where: str, own_words: Collection[str]
) -> tuple[dict[Parts, str], list[str]]:
    """The class of each folder that holds images; and what should be said about how it was found.

    Raises:
        DataError: If it cannot be told.
    """
    paths = sorted(set(folders))
    deepest = max(map(len, paths), default=1)
    level = 0
    while level + 1 < deepest and _only_groups(paths, level, own_words):
        level += 1
    seen = _seen(paths, deepest)
    short = [path for path in paths if len(path) <= level]
    if short:
        raise DataError(
            f"Images in {where} lie straight in {listed('/'.join(path) for path in short)} and in folders of it, so it "
            f"cannot be told which folders are the classes: {seen}. {_CURE}"
        )
    if level + 1 < deepest:
        _check_below(paths, level, where, own_words, seen)
    parents: dict[str, set[Parts]] = defaultdict(set)
    for path in paths:
        parents[path[level]].add(path[:level])
    repeated = [name for name, above in parents.items() if len(above) > 1]
    if any(says(name, own_words) != Says.NAME for name in repeated):
        raise DataError(
            f"{listed(repeated)} in {where} repeat in several folders, and are numbers or circumstances: it cannot be "
            f"told whether they or the folders above them are the classes: {seen}. {_CURE}"
        )
    notes = []
    if level:
        merged = f"; {len(repeated):,} of them are in several of these and counted as one" if repeated else ""
        notes.append(f"{listed(_names(paths, 0))} are taken for groups, the folders in them for classes{merged}")
    if level + 1 < deepest:
        inner = sorted({path[level + 1] for path in paths if len(path) > level + 1})
        notes.append(f"folders within class folders ({listed(inner)}) count for the class: {seen}")
    return {path: path[level] for path in paths}, notes


def _names(paths: Iterable[Parts], level: int) -> list[str]:
    return sorted({path[level] for path in paths if len(path) > level})


def _only_groups(paths: Sequence[Parts], level: int, own_words: Collection[str]) -> bool:
    """Whether the folders of a level only group those of the next: by their names, or as initials."""
    names, deeper = _names(paths, level), [path for path in paths if len(path) > level + 1]
    if all(len(name) == 1 and says(name) == Says.NAME for name in names):
        return all(_initial_of(path[level].casefold(), path[level + 1].casefold()) for path in deeper)
    return all(says(name, own_words) == Says.GROUP for name in names) and any(
        says(path[level + 1], own_words) != Says.GROUP for path in deeper
    )


def _initial_of(letter: str, name: str) -> bool:
    """Whether a letter is the initial of a name (a/ann), not a class with parts (a/a_01)."""
    return name.startswith(letter) and len(name) > 1 and says(name, (letter,)) == Says.NAME


def _derived(name: str, inner: str) -> bool:
    """Whether a folder is called after the one it lies in, as ann/ann_1 is."""
    rest = inner[len(name) :]
    if not rest or len(name) < 2 or not inner.casefold().startswith(name.casefold()):
        return False
    return not rest[0].isalnum() or (name[-1].isalpha() and rest[0].isdecimal())


def _check_below(paths: Sequence[Parts], level: int, where: str, own_words: Collection[str], seen: str) -> None:
    """Refuse class folders whose own folders could be the classes as well."""
    classes = _names(paths, level)
    strength = most_say(classes, own_words)
    # Where images lie straight in a folder, that folder is their class, and so it is for what it holds besides.
    sure = {path for path in paths if len(path) == level + 1}
    harmless = {path[level + 1] for path in paths if len(path) > level + 1 and path[: level + 1] in sure}
    unsure = [path for path in paths if path[: level + 1] not in sure]
    odd = {
        inner
        for path in paths
        for inner in path[level + 1 :]
        if says(inner, own_words) == Says.NAME
        and (inner in classes or says(path[level], own_words) == Says.GROUP)
        and inner != path[level]
    }
    for path in unsure:
        name = path[level]
        for inner in path[level + 1 :]:
            if says(inner, own_words) >= strength and inner not in harmless and not _derived(name, inner):
                odd.add(inner)
        if strength != Says.GROUP and says(name, own_words) == Says.GROUP:
            odd.add(name)
    inner_names = {inner for path in unsure for inner in path[level + 1 :]}
    common = len(inner_names) == 1 and len(unsure) == len({path[level] for path in unsure}) > 1
    if not odd or (common and odd <= inner_names):
        return  # One name in all of them is no class.
    parents: dict[str, set[Parts]] = defaultdict(set)
    for path in unsure:
        for depth in range(level + 1, len(path)):
            parents[path[depth]].add(path[:depth])
    numbers = strength == Says.NUMBER and all(says(name, own_words) == Says.NUMBER for name in odd)
    if numbers and all(len(parents[name]) > 1 for name in odd) and len(classes) > len(inner_names):
        return  # More folders than numbers that repeat in them: people above, their sessions below.
    raise DataError(
        f"It cannot be told which folders in {where} are the classes: {seen}. {listed(sorted(odd))} may name classes "
        f"or what is within one. {_CURE}"
    )


def _seen(paths: Sequence[Parts], deepest: int) -> str:
    levels = [_names(paths, level) for level in range(deepest)]
    return ", in them ".join(
        f"{len(names):,} {'folders' if len(names) > 1 else 'folder'} ({listed(names)})" for names in levels
    )


def refuse_alike(classes: Iterable[str], where: str) -> None:
    found = alike(classes)
    if found:
        first, second = found[0]
        raise DataError(
            f"Two class folders of {where} differ only in case or in how Unicode writes them: {shown(first)} "
            f"({first!a}) and {shown(second)} ({second!a}){', and others' if len(found) > 1 else ''}. Rename or merge "
            "them, so that it is clear whether they are one class."
        )
