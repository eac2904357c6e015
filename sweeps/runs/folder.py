"""Run folders: where they are, who drives them, and what they say. Reads files only; no ray, no torch.

runs/<study>-<id>/   run.json  optuna.journal  records/*.parquet  logs/  report/  driver.<n>  stop
"""

from __future__ import annotations

import contextlib
import datetime
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from analysis.run_file import text_of
from sweeps import example
from sweeps.runs import run_file, whereabouts
from system.liveness import process_is_gone
from trainables.errors import MachineError, UsageError, did_you_mean
from trainables.store.artifacts import KEY, Store
from trainables.store.files import make_folder, read_json, write_atomically
from trainables.store.leases import Lease, LeaseObserver, OneLook

RUN_SCHEMA = 1
DRIVER_LOOK_SECONDS = 5.0  # Beyond a driver's silence, so that the last look falls after it.

Say = Callable[[str], None]  # Tells the person a line.


def now() -> str:
    """The time as it is written everywhere: UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


@dataclass(frozen=True)
class Place:
    """Where runs and the store live."""

    runs: Path
    store: Path
    # Whether a person named the store for this very command; the place is the same either way.
    named: bool = field(default=False, compare=False)

    @classmethod
    def of(cls, out: str | Path | None, store: str | Path | None) -> Place:
        """`--out` holds `runs/` and, unless `--store` says otherwise, `store/`."""
        root = whereabouts.root_of(out)
        return cls(root / "runs", whereabouts.store_in(root, store), bool(store))

    def of_run(self, run: RunFolder) -> Place:
        """Where that run lives: in the store it was trained into, unless a person named another one."""
        store = self.store if self.named else whereabouts.store_of(run.path)
        return Place(run.path.parent, store, self.named)

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

    def again(self, command: str, *more: str, store: Path | None = None) -> str:
        """A command line about this run that works when it is pasted; `store` is the one in use, where that is known."""
        return whereabouts.again(command, self.path, *more, store=store)

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
            MachineError: If it is missing, unreadable or damaged.
        """
        return run_file.read(self.path)

    def is_readable(self) -> bool:
        """Whether run.json can be read."""
        try:
            self.read()
        except MachineError:
            return False
        return True

    def exists(self) -> bool:
        """Whether there is a run here."""
        return (self.path / "run.json").is_file()

    def write(self, content: Mapping[str, Any]) -> None:
        """Replace run.json."""
        write_atomically(self.path / "run.json", text_of(content))

    def driver(self) -> dict[str, Any] | None:
        """Who drives the run: content of the highest driver lock, or None."""
        numbers = Lease.numbers(self.path, "driver")
        return read_json(self.path / f"driver.{numbers[-1]}") if numbers else None

    def is_driven(self, observer: LeaseObserver | None = None) -> bool:
        """Whether a living process drives the run."""
        numbers = Lease.numbers(self.path, "driver")
        if not numbers:
            return False
        return not (observer or OneLook()).is_dead(self.path / f"driver.{numbers[-1]}")

    def drive(
        self,
        *,
        patience: float = 0.0,
        known_dead: int = 0,
        say: Callable[[str], None] = lambda line: None,
        observer: LeaseObserver | None = None,
        **more: Any,
    ) -> Lease:
        """Become the one driver of the run.

        A driver of another boot, machine or container, and a lock that cannot be read, can be judged by silence alone: it is
        watched for as long as leases are, and taken over when nothing was written meanwhile.

        Args:
            patience: Seconds to wait for a driver that is alive.
            known_dead: Number of a lock whose owner is known to be gone.
            say: Told when it takes a while.
            observer: Who watches; tests shorten its patience.
            more: Written into the lock.

        Raises:
            UsageError: If another process drives it.
        """
        observer = observer or LeaseObserver()
        until = time.monotonic() + patience
        first: dict[str, Any] | None = None
        while True:
            lease = Lease.take(
                self.path, run=self.id, prefix="driver", observer=observer, more=more, known_dead=known_dead
            )
            if lease is not None:
                break
            who = self.driver() or {}
            if first is None and process_is_gone(who) is None:
                first = who
                until = max(until, time.monotonic() + observer.silence + DRIVER_LOOK_SECONDS)
                say(f"{self._last_driver(who)} Watching for {observer.silence:.0f} s whether it lives ...")
            elif first is not None and not patience and who.get("counter") != first.get("counter"):
                break  # It writes.
            if time.monotonic() >= until:
                break
            time.sleep(min(1.0, observer.silence + 0.01))
        if lease is None:
            who = self.driver() or {}
            raise UsageError(
                f"{self.id} is driven by process {who.get('pid')} on {who.get('host')}; a run has one driver. "
                f"Watch it with `{self.again('status')}`, or end it with `{self.again('stop')}`."
            )
        for number in Lease.numbers(self.path, "driver")[:-1]:
            with contextlib.suppress(OSError):
                (self.path / f"driver.{number}").unlink()
        return lease.keep_alive()

    def _last_driver(self, who: Mapping[str, Any]) -> str:
        if not who:
            return f"The lock of {self.id}'s driver cannot be read, as after a power cut."
        return (
            f"{self.id} was last driven by process {who.get('pid')} on {who.get('host')}, of another boot, machine or "
            "container than this one."
        )


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


def _run_at(path: str) -> RunFolder | None:
    with contextlib.suppress(OSError, RuntimeError, ValueError):  # An unknown ~user, a name that no file can have.
        folder = Path(os.path.abspath(Path(path).expanduser()))
        folder = folder.parent if folder.name == "run.json" else folder
        return RunFolder(folder) if (folder / "run.json").is_file() else None
    return None


def find_run(place: Place, name: str | None) -> RunFolder:
    """The run a person means: `latest`, a name, a prefix, or a path of its folder or its run.json.

    Raises:
        UsageError: If there is none, or several begin so.
    """
    runs = list_runs(place)
    if name in (None, "", "latest"):
        if not runs:
            raise UsageError(f"There is no run in {place.runs} yet. Start one: python -m sweeps run {example.STUDY}")
        return runs[0]
    assert name is not None
    if os.sep in name or name in (".", ".."):
        found = _run_at(name)
        if found is not None:
            return found
        raise UsageError(f"{name} is not a run: it has no run.json. `python -m sweeps status --all` lists them.")
    exact = [run for run in runs if run.id == name]
    near = exact or [run for run in runs if run.id.startswith(name)]
    if len(near) == 1:
        return near[0]
    if near:
        raise UsageError(f"'{name}' fits {len(near)} runs: {', '.join(r.id for r in near[:5])}. Give more of the name.")
    beside = _run_at(name)  # As in `cd runs`.
    if beside is not None:
        return beside
    known = [run.id for run in runs]
    raise UsageError(
        f"There is no run '{name}' in {place.runs}.{did_you_mean(name, known)} "
        + (f"The latest is {known[0]}." if known else "There is none yet.")
        + " A run elsewhere is named by its path, or with --out."
    )


def artifacts_of(place: Place, words: Sequence[str]) -> tuple[Place, list[str]]:
    """The keys that words name, be they keys or runs, and where they lie.

    A run stands for the artifacts that its trials rest on and its store has.

    Raises:
        UsageError: If a run is meant that is not there, or runs lie in several stores.
    """
    keys: list[str] = []
    places: dict[Path, Place] = {}
    for word in words:
        if KEY.match(word):
            keys.append(word)
            places.setdefault(place.store, place)
            continue
        try:
            run = find_run(place, word)
        except UsageError as error:
            raise UsageError(f"'{word}' is neither a key of 16 hex digits nor a run. {error}") from None
        own = place.of_run(run)
        places.setdefault(own.store, own)
        present = Store(own.store).keys()
        named = {str(key) for trial in run.read().get("trials", ()) for key in trial["stages"].values()}
        keys += sorted(named & present)
    if len(places) > 1:
        raise UsageError(f"What is named lies in {len(places)} stores: {', '.join(map(str, places))}. Ask for one.")
    return next(iter(places.values()), place), list(dict.fromkeys(keys))
