"""What to ask SLURM for: profiles kept as TOML files, and `--slurm key=value` words that change them.

A profile says what one worker job gets (each runs on one node) and, in `[driver]`, what the driver's job gets.
Nothing here talks to SLURM; only the standard library is imported.
"""

from __future__ import annotations

import dataclasses
import datetime
import math
import os
import re
import shlex
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from slurm.errors import ClusterUsageError, did_you_mean
from system.regular_files import read_bytes

Extra = Mapping[str, str | int | float | bool]

# Ray's sockets lie up to 85 characters below this folder, and a socket's path ends at 107.
LONGEST_SCRATCH = 22
LONGEST_MINUTES = 365 * 24 * 60
# SLURM keeps the seconds of `--signal` in 16 bits.
LONGEST_WARNING = 65535

_SUBMISSION = "the submission chooses it"
# What may not be an extra parameter, and why: it has a key of its own, or the jobs would not be ours to find any more.
_NOT_EXTRA = {
    **{
        option: f"the profile's key `{key}` says it"
        for option, key in {
            "partition": "partition",
            "account": "account",
            "qos": "qos",
            "gpus_per_node": "gpus",
            "gpus": "gpus",
            "cpus_per_task": "cpus",
            "mem": "memory_gb",
            "time": "time",
            "constraint": "constraint",
            "exclude": "exclude",
            "nodelist": "nodelist",
            "reservation": "reservation",
            "signal": "warning_seconds",
        }.items()
    },
    **dict.fromkeys(("array", "nodes", "ntasks", "ntasks_per_node", "requeue", "no_requeue"), _SUBMISSION),
    **dict.fromkeys(("chdir", "error", "job_name", "open_mode", "output", "wrap"), _SUBMISSION),
    **dict.fromkeys(("parsable", "quiet", "test_only", "wait"), _SUBMISSION),
}
# The driver's job has fewer keys of its own; these may be extra there.
_EXTRA_FOR_DRIVER = ("gpus_per_node", "gpus", "exclude", "reservation")


class _Wrong(Exception):
    """What must hold of a value."""


def _text(value: Any) -> str:
    # A line break in a value would start a further #SBATCH line.
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise _Wrong("must be one line of text without control characters")
    return value


def _word(value: Any) -> str:
    if re.search(r"[\s:,]", _text(value)):
        raise _Wrong("must be one word without spaces, commas and colons")
    return str(value)


def _whole(value: Any, low: int, high: float = math.inf) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        above = "" if high == math.inf else f", at most {high}"
        raise _Wrong(f"must be a whole number, at least {low}{above}")
    return value


def _memory(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
        raise _Wrong("must be a number of gigabytes above 0")
    return float(value)


def _minutes(value: Any) -> int:
    """Minutes of a time limit in one of SLURM's forms, seconds rounded up; a whole number is minutes."""
    minutes = None
    if isinstance(value, int) and not isinstance(value, bool):
        minutes = value
    elif isinstance(value, datetime.time):
        # An unquoted 12:00:00 is a time of day to TOML; nobody means one here.
        minutes = math.ceil(value.hour * 60 + value.minute + value.second / 60)
    elif isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}(-[0-9]{1,9})?(:[0-9]{1,9}){0,2}", value.strip()):
        days, dash, rest = value.strip().rpartition("-")
        parts = [int(part) for part in rest.split(":")]
        if dash:
            hours, mins, seconds = (*parts, 0, 0)[:3]
        else:
            # Without days one number is minutes and two are minutes and seconds.
            hours, mins, seconds = {1: (0, *parts, 0), 2: (0, *parts), 3: (*parts,)}[len(parts)]
        minutes = math.ceil(int(days or 0) * 1440 + hours * 60 + mins + seconds / 60)
    if minutes is None or not 1 <= minutes <= LONGEST_MINUTES:
        raise _Wrong(
            "must be minutes, 'minutes:seconds', 'hours:minutes:seconds' or 'days-hours[:minutes[:seconds]]',"
            " between a minute and a year"
        )
    return minutes


def _lines(value: Any) -> tuple[str, ...]:
    lines = value if isinstance(value, list | tuple) else None
    if lines is None or not all(
        isinstance(line, str) and line.strip() and line.replace("\t", " ").isprintable() for line in lines
    ):
        raise _Wrong("must be a list of texts, each of one line")
    return tuple(lines)


def _modules(value: Any) -> tuple[str, ...]:
    if any(re.search(r"\s", name) for name in _lines(value)):
        raise _Wrong("must be a list of module names without spaces, one module each")
    return tuple(value)


def _scratch(value: Any) -> str:
    path = _text(value)
    if not path.startswith(("/", "$")):
        raise _Wrong("must be an absolute path, or begin with a $VARIABLE of the job")
    if "$" not in path and len(os.fsencode(path)) > LONGEST_SCRATCH:
        raise _Wrong(
            f"must have at most {LONGEST_SCRATCH} characters, because Ray's sockets lie below it and need a short path"
        )
    return path


def _extra(value: Any, driver: bool = False) -> dict[str, str | int | float | bool]:
    if not isinstance(value, Mapping):
        raise _Wrong("must be a table of sbatch parameters")
    read: dict[str, str | int | float | bool] = {}
    for option, what in value.items():
        name = str(option).replace("-", "_")
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            raise _Wrong(f"must name long sbatch parameters, not {option!r}")
        if name in _NOT_EXTRA and not (driver and name in _EXTRA_FOR_DRIVER):
            raise _Wrong(f"must leave out {option!r} ({_NOT_EXTRA[name]})")
        if isinstance(what, str):
            try:
                _text(what)
            except _Wrong as wrong:
                raise _Wrong(f"{wrong} for {option!r} (false leaves a parameter out)") from None
        elif not isinstance(what, bool | int | float):
            raise _Wrong(f"must hold texts, numbers, true and false, not {what!r} for {option!r}")
        read[name] = what
    return read


def _number(text: str) -> Any:
    """A number if `text` is one, else the text, which is then refused for not being one."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


class _Key(NamedTuple):
    """One key of a profile: the dataclass's field, how a value is checked, how a word of `--slurm` becomes one."""

    field: str
    read: Callable[[Any], Any]
    parse: Callable[[str], Any] = str
    optional: bool = True  # Whether an empty text takes it back to "not said".


_DRIVER_KEYS = {
    "partition": _Key("partition", _text),
    "account": _Key("account", _text),
    "qos": _Key("qos", _text),
    "cpus": _Key("cpus", lambda value: _whole(value, 1), _number, False),
    "memory_gb": _Key("memory_gb", _memory, _number),
    "time": _Key("time_minutes", _minutes),
    "constraint": _Key("constraint", _text),
    "nodelist": _Key("nodelist", _text),
    "extra": _Key("extra", lambda value: _extra(value, driver=True), optional=False),
}
_KEYS = {
    **_DRIVER_KEYS,
    "gpus": _Key("gpus", lambda value: _whole(value, 0), _number, False),
    "gpu_type": _Key("gpu_type", _word),
    "time": _Key("time_minutes", _minutes, optional=False),
    "setup": _Key("setup", _lines, optional=False),
    "modules": _Key("modules", _modules, optional=False),
    "scratch": _Key("scratch", _scratch),
    "exclude": _Key("exclude", _text),
    "reservation": _Key("reservation", _text),
    "interface": _Key("interface", _word),
    "warning_seconds": _Key("warning_seconds", lambda value: _whole(value, 1, LONGEST_WARNING), _number, False),
    "python": _Key("python", _text),
    "extra": _Key("extra", _extra, optional=False),
}
_LISTS = ("setup", "modules")


@dataclass(frozen=True, kw_only=True)
class DriverNeeds:
    """What the driver's job asks for; it trains nothing, so no GPU and little of the rest.

    `partition`, `account`, `qos` and `time_minutes` are the workers' unless said here.
    """

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    cpus: int = 1
    memory_gb: float | None = 4.0
    time_minutes: int | None = None
    constraint: str | None = None
    nodelist: str | None = None
    extra: Extra = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Profile:
    """What one worker job asks SLURM for (it runs on one node), and what runs there before Python.

    Raises:
        ClusterUsageError: If a value, or two together, cannot be.
    """

    name: str
    source: str  # Where it was found, for people.
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    gpus: int = 0
    gpu_type: str | None = None
    cpus: int = 1
    memory_gb: float | None = None
    time_minutes: int = 60
    setup: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    scratch: str | None = None  # Node-local, for temporary files; may hold $VARIABLES of the job.
    constraint: str | None = None
    exclude: str | None = None
    nodelist: str | None = None
    reservation: str | None = None
    interface: str | None = None  # The network interface whose address Ray uses.
    warning_seconds: int = 120  # How long before its time limit a job is warned.
    python: str | None = None  # The interpreter on the nodes; None is the submitting one.
    extra: Extra = field(default_factory=dict)
    driver: DriverNeeds = field(default_factory=DriverNeeds)

    def __post_init__(self) -> None:
        where = f"profile '{self.name}' ({self.source})"
        for keys, holder, prefix in ((_KEYS, self, ""), (_DRIVER_KEYS, self.driver, "driver.")):
            for key, known in keys.items():
                value = getattr(holder, known.field)
                _check(prefix + key, known, value, where)
        if self.gpu_type and not self.gpus:
            raise ClusterUsageError(
                f"`gpu_type` needs `gpus` of at least 1, but {where} has gpu_type='{self.gpu_type}' and gpus=0.\n"
                "Set gpus=1, or gpu_type to nothing (gpu_type=)."
            )
        for key, minutes in (("time", self.time_minutes), ("driver.time", self._driver_minutes)):
            if self.warning_seconds >= minutes * 60:
                raise ClusterUsageError(
                    f"`warning_seconds` must be shorter than `{key}`, but {where} has warning_seconds="
                    f"{self.warning_seconds} and {key}={minutes} (minutes).\n"
                    "A job warned from its first second could do no work."
                )

    @property
    def _driver_minutes(self) -> int:
        return self.driver.time_minutes or self.time_minutes

    def sbatch(self) -> dict[str, Any]:
        """A worker job's parameters, as keyword arguments of `submitit.SlurmExecutor.update_parameters`.

        Number of nodes, arrays, names, logs and set-up lines are the caller's.
        """
        gpus = f"{self.gpu_type}:{self.gpus}" if self.gpu_type else self.gpus
        return _sbatch(
            time=self.time_minutes,
            partition=self.partition,
            account=self.account,
            qos=self.qos,
            cpus_per_task=self.cpus,
            gpus_per_node=gpus or None,
            mem=_mem(self.memory_gb),
            constraint=self.constraint,
            exclude=self.exclude,
            nodelist=self.nodelist,
            signal_delay_s=self.warning_seconds,
            extra={"reservation": self.reservation or False, **self.extra},
        )

    def driver_sbatch(self) -> dict[str, Any]:
        """The driver job's parameters, as keyword arguments of `submitit.SlurmExecutor.update_parameters`.

        The workers' reservation holds for the driver too while both are in one partition; their `exclude` always,
        their `constraint`, `nodelist` and `extra` never.
        """
        driver = self.driver
        reservation = self.reservation if driver.partition in (None, self.partition) else None
        return _sbatch(
            time=self._driver_minutes,
            partition=driver.partition or self.partition,
            account=driver.account or self.account,
            qos=driver.qos or self.qos,
            cpus_per_task=driver.cpus,
            mem=_mem(driver.memory_gb),
            constraint=driver.constraint,
            exclude=None if "exclude" in driver.extra else self.exclude,
            nodelist=driver.nodelist,
            signal_delay_s=self.warning_seconds,
            extra={"reservation": reservation or False, **driver.extra},
        )

    def setup_lines(self) -> list[str]:
        """Shell lines that prepare a job, before Python starts: modules, then `setup`."""
        return [f"module load {shlex.quote(module)}" for module in self.modules] + list(self.setup)

    def as_dict(self) -> dict[str, Any]:
        """The profile in words of JSON; `from_dict` reads it back equal."""
        kept = dataclasses.asdict(self)
        return kept | {key: list(kept[key]) for key in _LISTS}

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any]) -> Profile:
        """The profile `as_dict` kept.

        Raises:
            ClusterUsageError: If it was not kept by `as_dict`, or by that of another version.
        """
        try:
            values = dict(kept)
            lists = {key: _lines(values.get(key, ())) for key in _LISTS}
            return cls(**values | lists | {"driver": DriverNeeds(**values.get("driver", {}))})
        except (TypeError, ValueError, _Wrong) as error:
            if isinstance(error, ClusterUsageError):
                raise
            raise ClusterUsageError(f"A kept profile must be as this version keeps it, but is not: {error}.") from error


def _mem(memory_gb: float | None) -> str | None:
    """SLURM's word for an amount of memory, rounded up: to it `0MB` would mean the whole node."""
    if memory_gb is None:
        return None
    return f"{int(memory_gb)}GB" if memory_gb == int(memory_gb) else f"{math.ceil(memory_gb * 1024)}MB"


def _sbatch(extra: Mapping[str, Any], **parameters: Any) -> dict[str, Any]:
    """`parameters` that are said; `extra` ones that are not false go to sbatch verbatim."""
    further = {key: value for key, value in extra.items() if value is not False}
    said = {key: value for key, value in parameters.items() if value is not None}
    # submitit would send `--wckey=submitit`, which some sites reject; None keeps it from that.
    said["wckey"] = further.pop("wckey", None)
    return said | {"additional_parameters": further} if further else said


def folders() -> list[Path]:
    """Where profiles are searched, first wins: $SWEEPS_PROFILES, the project's, the user's, the shipped ones."""
    named = [Path(os.path.expanduser(part)) for part in _named_folders()]
    config = os.environ.get("XDG_CONFIG_HOME", "")
    # The XDG standard has relative folders ignored.
    user = Path(config) if os.path.isabs(config) else Path(os.path.expanduser("~")) / ".config"
    rooms = [*named, Path(".sweeps/profiles"), user / "sweeps" / "profiles", Path(__file__).with_suffix("")]
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
    driver = DriverNeeds(**{_DRIVER_KEYS[key].field: value for key, value in values.pop("driver", {}).items()})
    return Profile(
        name=name, source=str(file), driver=driver, **{_KEYS[key].field: value for key, value in values.items()}
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


def _known(key: str, keys: Mapping[str, _Key], where: str, prefix: str = "") -> _Key:
    if key in keys:
        return keys[key]
    beside = [] if prefix else ["driver"] if where.startswith("--slurm") else ["driver", "extends"]
    names = sorted([prefix + each for each in keys] + beside)
    raise ClusterUsageError(
        f"No key '{prefix}{key}' in a profile ({where}).{did_you_mean(prefix + key, names)}\n"
        f"There are: {', '.join(names)}."
    )


def _check(label: str, known: _Key, value: Any, where: str, unset: Any = None) -> Any:
    """The value as a profile holds it; None for `unset`, where a key may be left unsaid."""
    if known.optional and value == unset:
        return None
    try:
        return known.read(value)
    except _Wrong as wrong:
        raise ClusterUsageError(f"`{label}` {wrong}, but got {value!r} in {where}.") from None


def _checked(raw: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The values of one layer by key, `driver` a dict of its own.

    Raises:
        ClusterUsageError: If a key is unknown or a value of the wrong kind.
    """
    values: dict[str, Any] = {}
    for key, value in raw.items():
        if key != "driver":
            values[key] = _check(key, _known(key, _KEYS, where), value, where, "")
        elif not isinstance(value, Mapping):
            raise ClusterUsageError(f"`driver` must be a table with keys of its own, but got {value!r} in {where}.")
        else:
            values["driver"] = {
                inner: _check(f"driver.{inner}", _known(inner, _DRIVER_KEYS, where, "driver."), each, where, "")
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
        key, table, keys, prefix = path.strip(), layer, _KEYS, ""
        if key.startswith("driver."):
            key, table, keys, prefix = (
                key.removeprefix("driver."),
                layer.setdefault("driver", {}),
                _DRIVER_KEYS,
                "driver.",
            )
        elif key == "driver":
            raise ClusterUsageError(f"`driver` is a table: write driver.KEY=VALUE, but got {word!r}.")
        key, dot, option = key.partition(".")
        known = _known(key if key == "extra" or not dot else f"{key}.{option}", keys, where, prefix)
        if key == "extra":
            if not option:
                raise ClusterUsageError(
                    f"`{prefix}extra` is a table: write {prefix}extra.NAME=VALUE, but got {word!r}."
                )
            value = {"true": True, "false": False}.get(text, text)
            table.setdefault("extra", {}).update(_check(f"{prefix}extra", known, {option: value}, where))
        elif key in _LISTS:
            added = _check(prefix + key, known, [text] if text else [], where)
            table[key] = table.get(key, ()) + added
        else:
            table[key] = _check(prefix + key, known, known.parse(text) if text else "", where, "")
    return layer


def _merge(below: dict[str, Any], above: Mapping[str, Any]) -> None:
    """Lay one layer over another: tables key by key, all else (lists too) replaced."""
    for key, value in above.items():
        if isinstance(value, dict) and isinstance(below.get(key), dict):
            _merge(below[key], value)
        else:
            below[key] = value
