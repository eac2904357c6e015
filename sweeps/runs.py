"""Run folders: where they are, who drives them, and what they say. Reads files only; no ray, no torch.

runs/<study>-<id>/   run.json  optuna.journal  records/*.parquet  logs/  report/  driver.<n>  stop
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis import run_file
from trainables.artifacts import Lease, LeaseObserver, Store, make_folder, read_json, write_atomically
from trainables.errors import MachineError, UsageError, did_you_mean

RUN_SCHEMA = 1


def now() -> str:
    """The time as it is written everywhere: UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


@dataclass(frozen=True)
class Place:
    """Where runs and the store live."""

    runs: Path
    store: Path

    @classmethod
    def of(cls, out: str | Path | None, store: str | Path | None) -> Place:
        """`--out` holds `runs/` and, unless `--store` says otherwise, `store/`."""
        root = Path(out or os.environ.get("SWEEPS_OUT") or ".").expanduser().absolute()
        other = store or os.environ.get("SWEEPS_STORE")
        return cls(root / "runs", Path(other).expanduser().absolute() if other else root / "store")

    def prepare(self) -> None:
        """Make both folders and see that they can be written.

        Raises:
            MachineError: If they cannot.
        """
        make_folder(self.runs)
        if not os.access(self.runs, os.W_OK | os.X_OK):
            raise MachineError(f"{self.runs} must be writable, but is not. Choose another folder with --out.")
        Store(self.store).prepare()


class RunFolder:
    """One run on the disk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.id = path.name

    @property
    def records(self) -> Path:
        """One Parquet file per finished stage."""
        return self.path / "records"

    @property
    def logs(self) -> Path:
        """One file per stage, and the driver's."""
        return self.path / "logs"

    @property
    def journal(self) -> Path:
        """Optuna's journal of the cells."""
        return self.path / "optuna.journal"

    @property
    def stop_file(self) -> Path:
        """Its presence asks the workers to save and leave."""
        return self.path / "stop"

    def stage_log(self, role: str, key: str) -> Path:
        """Log of a stage."""
        return self.logs / f"{role}-{key}.log"

    def prepare(self) -> None:
        """Make the folders."""
        for folder in (self.path, self.records, self.logs):
            make_folder(folder)

    def read(self) -> dict[str, Any]:
        """What run.json says.

        Raises:
            MachineError: If it is missing or unreadable.
        """
        found = read_json(self.path / "run.json")
        if found is None:
            raise MachineError(
                f"{self.path} has no readable run.json, so it cannot be read as a run. "
                "`python -m sweeps run STUDY` makes one; the store keeps what was trained."
            )
        if problem := run_file.problem(found):
            raise MachineError(f"run.json of {self.path} is damaged: {problem}.{run_file.MEND}")
        return found

    def before(self) -> dict[str, Any]:
        """What an earlier request wrote into run.json; nothing where that is missing or damaged."""
        found = read_json(self.path / "run.json")
        return {} if found is None or run_file.problem(found) else found

    def is_readable(self) -> bool:
        """Whether run.json can be read."""
        return bool(self.before())

    def exists(self) -> bool:
        """Whether there is a run here."""
        return (self.path / "run.json").is_file()

    def write(self, content: Mapping[str, Any]) -> None:
        """Replace run.json."""
        write_atomically(self.path / "run.json", json.dumps(run_file.with_checksum(content), indent=1))

    def driver(self) -> dict[str, Any] | None:
        """Who drives the run: content of the highest driver lock, or None."""
        numbers = Lease.numbers(self.path, "driver")
        return read_json(self.path / f"driver.{numbers[-1]}") if numbers else None

    def is_driven(self, observer: LeaseObserver | None = None) -> bool:
        """Whether a living process drives the run."""
        numbers = Lease.numbers(self.path, "driver")
        if not numbers:
            return False
        return not (observer or LeaseObserver()).is_dead(self.path / f"driver.{numbers[-1]}")

    def drive(self, *, patience: float = 0.0, known_dead: int = 0, **more: Any) -> Lease:
        """Become the one driver of the run.

        Args:
            patience: Seconds to wait for a silent driver on another machine to prove dead.
            known_dead: Number of a lock whose owner is known to be gone.
            more: Written into the lock.

        Raises:
            UsageError: If another process drives it.
        """
        observer = LeaseObserver()
        until = time.monotonic() + patience
        while True:
            lease = Lease.take(
                self.path, run=self.id, prefix="driver", observer=observer, more=more, known_dead=known_dead
            )
            if lease is not None:
                break
            if time.monotonic() >= until:
                break
            time.sleep(1.0)
        if lease is None:
            who = self.driver() or {}
            raise UsageError(
                f"{self.id} is driven by process {who.get('pid')} on {who.get('host')}; a run has one driver. "
                f"Watch it with `python -m sweeps status {self.id}`, or end it with `python -m sweeps stop {self.id}`."
            )
        for number in Lease.numbers(self.path, "driver")[:-1]:
            with contextlib.suppress(OSError):
                (self.path / f"driver.{number}").unlink()
        return lease.keep_alive()


def stop_content(run: RunFolder) -> dict[str, Any]:
    """What the stop file says: `now`, or that only this life of the driver's job is ending (`warned`)."""
    return read_json(run.stop_file) or {}


def list_runs(place: Place) -> list[RunFolder]:
    """All runs, the one touched last first."""
    with contextlib.suppress(OSError):
        found = [RunFolder(Path(e.path)) for e in os.scandir(place.runs) if e.is_dir() and not e.name.startswith(".")]
        return sorted((r for r in found if r.exists()), key=lambda r: (_touched(r), r.id), reverse=True)
    return []


def _touched(run: RunFolder) -> float:
    with contextlib.suppress(OSError):
        return (run.path / "run.json").stat().st_mtime
    return 0.0


def find_run(place: Place, name: str | None) -> RunFolder:
    """The run a person means: `latest`, a name, a prefix or a path.

    Raises:
        UsageError: If there is none, or several begin so.
    """
    runs = list_runs(place)
    if name in (None, "", "latest"):
        if not runs:
            raise UsageError(
                f"There is no run in {place.runs} yet. Start one: python -m sweeps run horkd_order_ablation"
            )
        return runs[0]
    assert name is not None
    if os.sep in name or name in (".", ".."):
        path = Path(name).expanduser().absolute()
        if (path / "run.json").is_file():
            return RunFolder(path)
        raise UsageError(f"{name} is not a run: it has no run.json. `python -m sweeps status --all` lists them.")
    exact = [run for run in runs if run.id == name]
    near = exact or [run for run in runs if run.id.startswith(name)]
    if len(near) == 1:
        return near[0]
    if near:
        raise UsageError(f"'{name}' fits {len(near)} runs: {', '.join(r.id for r in near[:5])}. Give more of the name.")
    known = [run.id for run in runs]
    raise UsageError(
        f"There is no run '{name}' in {place.runs}.{did_you_mean(name, known)} "
        + (f"The latest is {known[0]}." if known else "There is none yet.")
    )
