"""The registry: every part that a name stands for, built in or of a plug-in, by group and name. No torch, no ray.

A part is declared: what can be set of it, its version, how people call it, and where its implementation is. Built-in
parts are declared where this repository lists them (`spec/losses.py`, `spec/networks.py`) or by the one file that they
are (`list_modules`); those of plug-ins by `trainables.plugins`, through the same functions. They differ in one thing:
a built-in part has a number as its version, a plug-in the digest of its file.
"""

from __future__ import annotations

import importlib
import pkgutil
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from trainables.errors import UsageError

# In the order in which lists show them. A label loss reads labels alone; a "loss" is one that reads a frozen teacher.
GROUPS = ("loss", "network", "dataset", "stage", "recipe", "study", "task", "label_loss")
# Folders in which each file is one part, which it declares as ENTRY; listed when somebody first asks for the group.
FOLDERS = {
    "stage": "trainables.stages",
    "recipe": "trainables.recipes",
    "task": "trainables.tasks",
    "dataset": "trainables.data.sets",
}
# Groups that keys call otherwise.
IN_KEYS = {"floor": "network", "network_family": "network", "task": "protocol", "label_loss": "loss"}
_OF_KEYS = {"protocol": "task"}


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The file that a plug-in came from."""

    file: str  # Its name.
    sha256: str  # Of its bytes.
    where: str  # For people: its path, or which entry point named it.
    entry: str = ""  # `module` or `module:function`, where an installed distribution brings it.
    content: bytes = field(default=b"", repr=False, compare=False)  # What was run.

    @property
    def mark(self) -> tuple[str, str]:
        """What tells it from others: its bytes, and how it was asked for. One module may offer by several functions."""
        return self.sha256, self.entry

    @property
    def version(self) -> str:
        """What stands for the version of its components in keys: 8 digits that change with every byte."""
        return self.sha256[:8]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """The declaration of one part."""

    group: str  # One of GROUPS.
    name: str
    implementation: Any  # `module:name`, imported by `load`, or the object itself.
    version: int | str = 1  # Raise the number when the same spec would now give other numbers.
    title: str = ""  # For people.
    options: Any = field(default_factory=dict)  # What can be set: a Fields dataclass, or option -> default.
    facts: Mapping[str, Any] = field(default_factory=dict)  # What else its group needs to know of it.
    parts: Mapping[str, int] = field(
        default_factory=dict
    )  # Components with versions of their own, in place of its own.
    origin: Origin | None = None  # The file of a plug-in; None of what is built in.

    @property
    def component(self) -> str:
        """Its name in keys and manifests: `loss.variance`."""
        return f"{IN_KEYS.get(self.group, self.group)}.{self.name}"

    @property
    def components(self) -> dict[str, int | str]:
        """Its components in keys, with their versions: itself, or its parts."""
        if not self.parts:
            return {self.component: self.version}
        prefix = IN_KEYS.get(self.group, self.group)
        return {f"{prefix}.{part}": version for part, version in self.parts.items()}

    @property
    def source(self) -> Origin:
        """The file of a plug-in; built-in parts have none and must not be asked."""
        assert self.origin is not None, f"{self.group} {self.name} is built in"
        return self.origin

    @property
    def where(self) -> str:
        """Where it comes from, for people."""
        return self.origin.where if self.origin is not None else "what is built in"

    @property
    def told(self) -> str:
        """How a sentence about it begins: `The loss 'variance' of mine.py`."""
        return f"The {self.group} '{self.name}'{f' of {self.origin.where}' if self.origin is not None else ''}"

    def load(self) -> Any:
        """The implementation; imports its module."""
        if not isinstance(self.implementation, str):
            return self.implementation
        module, _, name = self.implementation.partition(":")
        return getattr(importlib.import_module(module), name)


_entries: dict[tuple[str, str], Entry] = {}  # In the order of declaration.
_versions: dict[str, int | str] = {}  # Component -> version.
_changes = 0
_entering = threading.RLock()
_listed: set[str] = set()  # Groups whose folders were listed.


def generation() -> int:
    """Grows with every change, so that what rests on the names can be remembered until then."""
    return _changes


def names(group: str) -> tuple[str, ...]:
    """The names of a group: built-in ones as declared, then those of plug-ins, sorted.

    The order in which files of plug-ins were read must not matter.
    """
    return (*(entry.name for entry in entries(group) if entry.origin is None), *plugin_names(group))


def plugin_names(group: str) -> tuple[str, ...]:
    """The names of a group that plug-ins have declared, sorted."""
    return tuple(sorted(entry.name for entry in plugins(group)))


def find(group: str, name: str) -> Entry | None:
    """What is declared under a name."""
    _list(group)
    return _entries.get((group, name))


def get(group: str, name: str) -> Entry:
    """The same, of a name that is known to be there."""
    _list(group)
    return _entries[group, name]


def entries(group: str | None = None) -> list[Entry]:
    """All that is declared, or that of one group, in the order of declaration."""
    for folder in FOLDERS if group is None else (group,):
        _list(folder)
    return [entry for entry in list(_entries.values()) if group in (None, entry.group)]


def plugin(group: str, name: str) -> Entry | None:
    """What a plug-in has declared under a name."""
    entry = _entries.get((group, name))
    return entry if entry is not None and entry.origin is not None else None


def plugins(group: str | None = None, *, origin: Origin | None = None) -> list[Entry]:
    """All that plug-ins have declared, or that of one group, or of one file, in the order of declaration."""
    found = [e for e in list(_entries.values()) if e.origin is not None and group in (None, e.group)]
    return [entry for entry in found if origin is None or entry.source.mark == origin.mark]


def plugin_of(component: str) -> Entry | None:
    """The plug-in that a component of keys stands for: `loss.variance`."""
    group, _, name = component.partition(".")
    return plugin(group, name)


def version(component: str) -> int | str | None:
    """The version of a component that an entry stands for, or None."""
    prefix = component.partition(".")[0]
    _list(_OF_KEYS.get(prefix, prefix))
    return _versions.get(component)


def add(entry: Entry) -> Entry:
    """Enter a part.

    Raises:
        UsageError: If another one has the name.
    """
    global _changes
    with _entering:
        _enter(entry)
        _changes += 1
    return entry


def _enter(entry: Entry) -> None:
    before = _entries.get((entry.group, entry.name))
    if before is not None:
        raise UsageError(
            f"The {entry.group} '{entry.name}' must come from one place, but is in {before.where} and in "
            f"{entry.where}. Rename one of them, or name only one of the files."
        )
    _entries[entry.group, entry.name] = entry
    _versions.update(entry.components)


def declare(group: str, name: str, implementation: Any, **more: Any) -> Entry:
    """Enter a built-in part, as `Entry` describes it."""
    return add(Entry(group=group, name=name, implementation=implementation, **more))


def remove(entry: Entry) -> None:
    """Take a part out."""
    global _changes
    if _entries.pop((entry.group, entry.name), None) is not None:
        for component in entry.components:
            _versions.pop(component, None)
    _changes += 1


def list_modules(package: str) -> list[ModuleType]:
    """The modules of a folder in which each file is one part, imported; names that begin with `_` are left out.

    The order is that of a module's number RANK, which most do not have (100), and among equals of the names.
    """
    parent = importlib.import_module(package)
    found = [name for _, name, _ in pkgutil.iter_modules(parent.__path__) if not name.startswith("_")]
    modules = [importlib.import_module(f"{package}.{name}") for name in found]
    return sorted(modules, key=lambda module: (getattr(module, "RANK", 100), module.__name__))


def _list(group: str) -> None:
    """Enter what the folder of a group holds, once."""
    if group in _listed or group not in FOLDERS:
        return
    declared = [getattr(module, "ENTRY", None) for module in list_modules(FOLDERS[group])]
    with _entering:  # Another thread may be doing the same; imports, which have locks of their own, are behind us.
        for entry in declared:
            if entry is not None and (group, entry.name) not in _entries:
                _enter(entry)  # No change: nobody has asked for the group before.
        _listed.add(group)


def described(components: Iterable[str]) -> list[dict[str, str]]:
    """What a manifest says of the plug-ins among the components of a stage: name, file and its whole digest."""
    rows = []
    for name in sorted(components):
        entry = plugin_of(name)
        if entry is not None:
            rows.append({"name": name, "file": entry.source.file, "sha256": entry.source.sha256})
    return rows
