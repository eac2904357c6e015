"""What a value of a profile must be: one check for each key, for files and for the words of `--slurm`.

Nothing here talks to SLURM; only the standard library is imported.
"""

from __future__ import annotations

import datetime
import math
import os
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from slurm.errors import ClusterUsageError, did_you_mean

# Ray's sockets lie up to 85 characters below this folder, and a socket's path ends at 107.
LONGEST_SCRATCH = 22
LONGEST_MINUTES = 365 * 24 * 60
# SLURM keeps the seconds of `--signal` in 16 bits.
LONGEST_WARNING = 65535
_SUBMISSION = "the submission chooses it"
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


class WrongValue(Exception):
    """What must hold of a value."""


def _text(value: Any) -> str:
    # A line break in a value would start a further #SBATCH line.
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise WrongValue("must be one line of text without control characters")
    return value


def _word(value: Any) -> str:
    if re.search(r"[\s:,]", _text(value)):
        raise WrongValue("must be one word without spaces, commas and colons")
    return str(value)


def _whole(value: Any, low: int, high: float = math.inf) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        above = "" if high == math.inf else f", at most {high}"
        raise WrongValue(f"must be a whole number, at least {low}{above}")
    return value


def _memory(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
        raise WrongValue("must be a number of gigabytes above 0")
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
        raise WrongValue(
            "must be minutes, 'minutes:seconds', 'hours:minutes:seconds' or 'days-hours[:minutes[:seconds]]',"
            " between a minute and a year"
        )
    return minutes


def text_lines(value: Any) -> tuple[str, ...]:
    lines = value if isinstance(value, list | tuple) else None
    if lines is None or not all(
        isinstance(line, str) and line.strip() and line.replace("\t", " ").isprintable() for line in lines
    ):
        raise WrongValue("must be a list of texts, each of one line")
    return tuple(lines)


def _modules(value: Any) -> tuple[str, ...]:
    if any(re.search(r"\s", name) for name in text_lines(value)):
        raise WrongValue("must be a list of module names without spaces, one module each")
    return tuple(value)


def _scratch(value: Any) -> str:
    path = _text(value)
    if not path.startswith(("/", "$")):
        raise WrongValue("must be an absolute path, or begin with a $VARIABLE of the job")
    if "$" not in path and len(os.fsencode(path)) > LONGEST_SCRATCH:
        raise WrongValue(
            f"must have at most {LONGEST_SCRATCH} characters, because Ray's sockets lie below it and need a short path"
        )
    return path


def _extra(value: Any, driver: bool = False) -> dict[str, str | int | float | bool]:
    if not isinstance(value, Mapping):
        raise WrongValue("must be a table of sbatch parameters")
    read: dict[str, str | int | float | bool] = {}
    for option, what in value.items():
        name = str(option).replace("-", "_")
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            raise WrongValue(f"must name long sbatch parameters, not {option!r}")
        if name in _NOT_EXTRA and not (driver and name in _EXTRA_FOR_DRIVER):
            raise WrongValue(f"must leave out {option!r} ({_NOT_EXTRA[name]})")
        if isinstance(what, str):
            try:
                _text(what)
            except WrongValue as wrong:
                raise WrongValue(f"{wrong} for {option!r} (false leaves a parameter out)") from None
        elif not isinstance(what, bool | int | float):
            raise WrongValue(f"must hold texts, numbers, true and false, not {what!r} for {option!r}")
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


class Key(NamedTuple):
    """One key of a profile: the dataclass's field, how a value is checked, how a word of `--slurm` becomes one."""

    field: str
    read: Callable[[Any], Any]
    parse: Callable[[str], Any] = str
    optional: bool = True  # Whether an empty text takes it back to "not said".


DRIVER_KEYS = {
    "partition": Key("partition", _text),
    "account": Key("account", _text),
    "qos": Key("qos", _text),
    "cpus": Key("cpus", lambda value: _whole(value, 1), _number, False),
    "memory_gb": Key("memory_gb", _memory, _number),
    "time": Key("time_minutes", _minutes),
    "constraint": Key("constraint", _text),
    "nodelist": Key("nodelist", _text),
    "extra": Key("extra", lambda value: _extra(value, driver=True), optional=False),
}
WORKER_KEYS = {
    **DRIVER_KEYS,
    "gpus": Key("gpus", lambda value: _whole(value, 0), _number, False),
    "gpu_type": Key("gpu_type", _word),
    "time": Key("time_minutes", _minutes, optional=False),
    "setup": Key("setup", text_lines, optional=False),
    "modules": Key("modules", _modules, optional=False),
    "scratch": Key("scratch", _scratch),
    "exclude": Key("exclude", _text),
    "reservation": Key("reservation", _text),
    "interface": Key("interface", _word),
    "warning_seconds": Key("warning_seconds", lambda value: _whole(value, 1, LONGEST_WARNING), _number, False),
    "python": Key("python", _text),
    "extra": Key("extra", _extra, optional=False),
}
LIST_KEYS = ("setup", "modules")


def known_key(key: str, keys: Mapping[str, Key], where: str, prefix: str = "") -> Key:
    if key in keys:
        return keys[key]
    beside = [] if prefix else ["driver"] if where.startswith("--slurm") else ["driver", "extends"]
    names = sorted([prefix + each for each in keys] + beside)
    raise ClusterUsageError(
        f"No key '{prefix}{key}' in a profile ({where}).{did_you_mean(prefix + key, names)}\n"
        f"There are: {', '.join(names)}."
    )


def checked_value(label: str, known: Key, value: Any, where: str, unset: Any = None) -> Any:
    """The value as a profile holds it; None for `unset`, where a key may be left unsaid."""
    if known.optional and value == unset:
        return None
    try:
        return known.read(value)
    except WrongValue as wrong:
        raise ClusterUsageError(f"`{label}` {wrong}, but got {value!r} in {where}.") from None
