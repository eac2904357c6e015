"""Profiles kept as TOML files in several folders, one on top of another, and `--slurm key=value` words that change them."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from slurm.errors import ClusterUsageError, did_you_mean
from slurm.profile_keys import DRIVER_KEYS, LIST_KEYS, WORKER_KEYS, checked_value, known_key
from slurm.profiles import DriverResources, Profile
from system.regular_files import read_bytes


def folders() -> list[Path]:
    """Where profiles are searched, first wins: $SWEEPS_PROFILES, the project's, the user's, the shipped ones."""
    named = [Path(os.path.expanduser(part)) for part in _named_folders()]
    config = os.environ.get("XDG_CONFIG_HOME", "")
    # The XDG standard has relative folders ignored.
    user = Path(config) if os.path.isabs(config) else Path(os.path.expanduser("~")) / ".config"
    rooms = [*named, Path(".sweeps/profiles"), user / "sweeps" / "profiles", Path(__file__).parent / "profiles"]
    return [Path(os.path.abspath(room)) for room in rooms]


def of_project(name: str) -> str:
    """What to tell who uses that profile when a file of the working folder stands for it, "" when none does.

    Its shell lines run on the nodes, and whoever made the folder may be another person.
    """
    files = _files(name)
    room = Path(os.path.abspath(".sweeps/profiles"))
    named = [Path(os.path.abspath(os.path.expanduser(part))) for part in _named_folders()]
    if not files or files[0].parent != room or room in named:
        return ""
    others = [file for file in files[1:] if file.parent != room]
    replaced = f", in place of {others[0]}" if others else ""
    try:
        lines = load(name).setup_lines()
    except ClusterUsageError:
        return ""  # Who loads it is told.
    shell = "; its jobs begin with: " + " && ".join(lines) if lines else ""
    return f"Profile '{name}' is the working folder's own, {files[0]}{replaced}{shell}."


def _named_folders() -> list[str]:
    return [part for part in os.environ.get("SWEEPS_PROFILES", "").split(os.pathsep) if part]


def _files(name: str) -> list[Path]:
    """The files of that name, in search order; a path has none."""
    if os.path.basename(name) != name:
        return []
    # A folder that may not be read, or a name that no file can have, is no error here: Path.is_file makes it one.
    return [file for file in (folder / f"{name}.toml" for folder in folders()) if os.path.isfile(file)]


def available() -> list[tuple[str, Path]]:
    """Every profile's name and the file that holds it, by name; hidden files are none."""
    found: dict[str, Path] = {}
    for folder in folders():
        for file in folder.glob("*.toml"):
            if os.path.isfile(file) and not file.name.startswith("."):
                found.setdefault(file.stem, file)
    return sorted(found.items())


def load(name: str, overrides: Sequence[str] = ()) -> Profile:
    """The profile of that name, with the `key=value` words of `--slurm` on top.

    A word for a list (`setup`, `modules`) replaces the profile's; the same key again adds a line. Keys of tables have
    a dot (`driver.partition=cpu`, `extra.nice=100`). An empty value takes a key back to what the cluster decides.

    Raises:
        ClusterUsageError: If there is no such profile or key, or a value cannot be.
    """
    if not _files(name):
        known = [each for each, _ in available()]
        raise ClusterUsageError(
            f"No profile named {name!r}.{did_you_mean(name, known)}\n"
            f"There are: {', '.join(known)}. They are searched in:\n" + "\n".join(f"  {room}" for room in folders())
        )
    values, file = _layers(name, _files(name), [])
    _merge(values, _overrides(overrides))
    driver = DriverResources(**{DRIVER_KEYS[key].field: value for key, value in values.pop("driver", {}).items()})
    return Profile(
        name=name, source=str(file), driver=driver, **{WORKER_KEYS[key].field: value for key, value in values.items()}
    )


def _layers(name: str, files: Sequence[Path], chain: list[Path]) -> tuple[dict[str, Any], Path]:
    """The values of a profile's first file on top of those it extends, and that file."""
    file = files[0]
    if file in chain:
        circle = " -> ".join(str(each) for each in [*chain[chain.index(file) :], file])
        raise ClusterUsageError(f"Profiles must not extend each other in a circle, but got:\n{circle}")
    raw = _toml(file)
    parent = raw.pop("extends", None)
    values = _checked(raw, str(file))
    if parent is None:
        return values, file
    if not isinstance(parent, str):
        raise ClusterUsageError(f"`extends` must be the name of a profile, but got {parent!r} in {file}.")
    # One's own name means the next profile of that name: this is how a project changes a shipped one.
    above = _files(parent)
    if parent == name:
        above = above[above.index(file) + 1 :]
    if not above:
        known = [each for each, _ in available() if each != name]
        further = " further down the search order" if parent == name else ""
        raise ClusterUsageError(
            f"`extends` must be the name of a profile, but there is no {parent!r}{further} ({file})."
            f"{did_you_mean(parent, known)}\nThere are: {', '.join(known)}."
        )
    below, _ = _layers(parent, above, [*chain, file])
    _merge(below, values)
    return below, file


def _toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(read_bytes(file).decode("utf-8-sig"))
    except tomllib.TOMLDecodeError as error:
        raise ClusterUsageError(f"{file} must be TOML, but is not: {error}.") from error
    except UnicodeDecodeError as error:
        raise ClusterUsageError(f"{file} must be TOML in UTF-8, but is not: {error}.") from error
    except OSError as error:
        raise ClusterUsageError(f"{file} must be readable, but is not: {error.strerror}.") from error


def _checked(raw: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The values of one layer by key, `driver` a dict of its own.

    Raises:
        ClusterUsageError: If a key is unknown or a value of the wrong kind.
    """
    values: dict[str, Any] = {}
    for key, value in raw.items():
        if key != "driver":
            values[key] = checked_value(key, known_key(key, WORKER_KEYS, where), value, where, "")
        elif not isinstance(value, Mapping):
            raise ClusterUsageError(f"`driver` must be a table with keys of its own, but got {value!r} in {where}.")
        else:
            values["driver"] = {
                inner: checked_value(
                    f"driver.{inner}", known_key(inner, DRIVER_KEYS, where, "driver."), each, where, ""
                )
                for inner, each in value.items()
            }
    return values


def _overrides(words: Sequence[str]) -> dict[str, Any]:
    """One layer from the words of `--slurm`."""
    layer: dict[str, Any] = {}
    for word in words:
        where = f"--slurm {word!r}"
        path, equals, text = word.partition("=")
        if not equals:
            raise ClusterUsageError(f"`--slurm` must be followed by key=value, but got {word!r}.")
        key, table, keys, prefix = path.strip(), layer, WORKER_KEYS, ""
        if key.startswith("driver."):
            key, table, keys, prefix = (
                key.removeprefix("driver."),
                layer.setdefault("driver", {}),
                DRIVER_KEYS,
                "driver.",
            )
        elif key == "driver":
            raise ClusterUsageError(f"`driver` is a table: write driver.KEY=VALUE, but got {word!r}.")
        key, dot, option = key.partition(".")
        known = known_key(key if key == "extra" or not dot else f"{key}.{option}", keys, where, prefix)
        if key == "extra":
            if not option:
                raise ClusterUsageError(
                    f"`{prefix}extra` is a table: write {prefix}extra.NAME=VALUE, but got {word!r}."
                )
            value = {"true": True, "false": False}.get(text, text)
            table.setdefault("extra", {}).update(checked_value(f"{prefix}extra", known, {option: value}, where))
        elif key in LIST_KEYS:
            added = checked_value(prefix + key, known, [text] if text else [], where)
            table[key] = table.get(key, ()) + added
        else:
            table[key] = checked_value(prefix + key, known, known.parse(text) if text else "", where, "")
    return layer


def _merge(below: dict[str, Any], above: Mapping[str, Any]) -> None:
    """Lay one layer over another: tables key by key, all else (lists too) replaced."""
    for key, value in above.items():
        if isinstance(value, dict) and isinstance(below.get(key), dict):
            _merge(below[key], value)
        else:
            below[key] = value
