"""What to ask SLURM for: what one worker job gets (each runs on one node) and what the driver's job gets.

Where profiles come from is in `profile_files`, what their values may be in `profile_keys`.
"""

from __future__ import annotations

import dataclasses
import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from slurm.errors import ClusterUsageError
from slurm.profile_keys import DRIVER_KEYS, LIST_KEYS, WORKER_KEYS, WrongValue, checked_value, text_lines

Extra = Mapping[str, str | int | float | bool]


@dataclass(frozen=True, kw_only=True)
class DriverResources:
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
    driver: DriverResources = field(default_factory=DriverResources)

    def __post_init__(self) -> None:
        where = f"profile '{self.name}' ({self.source})"
        for keys, holder, prefix in ((WORKER_KEYS, self, ""), (DRIVER_KEYS, self.driver, "driver.")):
            for key, known in keys.items():
                value = getattr(holder, known.field)
                checked_value(prefix + key, known, value, where)
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
        return kept | {key: list(kept[key]) for key in LIST_KEYS}

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any]) -> Profile:
        """The profile `as_dict` kept.

        Raises:
            ClusterUsageError: If it was not kept by `as_dict`, or by that of another version.
        """
        try:
            values = dict(kept)
            lists = {key: text_lines(values.get(key, ())) for key in LIST_KEYS}
            return cls(**values | lists | {"driver": DriverResources(**values.get("driver", {}))})
        except (TypeError, ValueError, WrongValue) as error:
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
