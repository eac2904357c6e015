"""Optuna's journal of a run on the disk: written with stamps, and repaired no wider than it was damaged.

A last line that was never finished is cut off. Where other lines are damaged, lost or doubled, the file is kept beside
itself and a new one is written: trials whose lines are whole as they were, the others from what run.json says of their
cells and the store of their stages. What no source knows is asked anew.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    json_to_distribution,
)
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from sweeps.engine import journal
from sweeps.engine.journal import JournalText
from sweeps.engine.journal_trials import TrialLines, trials_of
from sweeps.runs.folder import Say
from system import writable_files

CELL, POINT = "cell", "point"


class StampedBackend(JournalFileBackend):
    """Optuna's file backend, which stamps every line it appends."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), JournalFileSymlinkLock(str(path)))
        self._path, self._counted, self._lines, self._created = path, 0, 0, 0
        self._guard = JournalFileSymlinkLock(str(path))

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append all or nothing: half a line would swallow the next one."""
        self._guard.acquire()
        try:
            with open(self._path, "r+b") as file:
                self._count(file)
                out = b""
                for log in logs:
                    body = json.dumps(log, separators=(",", ":")).encode()
                    out += journal.stamped(body, self._lines, self._created)
                    self._lines += 1
                    self._created += log["op_code"] == journal.CREATE_TRIAL
                size = file.seek(0, os.SEEK_END)
                try:
                    file.write(out)
                    file.flush()
                    os.fsync(file.fileno())
                except OSError:
                    self._counted = self._lines = self._created = 0
                    with contextlib.suppress(OSError):
                        os.ftruncate(file.fileno(), size)
                    raise
                self._counted = size + len(out)
        finally:
            self._guard.release()

    def _count(self, file: Any) -> None:
        """Count what was appended since, by this process or by a tool of Optuna's."""
        file.seek(self._counted)
        for raw in file:
            self._lines += 1
            self._counted += len(raw)
            with contextlib.suppress(ValueError, AttributeError):
                self._created += json.loads(raw).get("op_code") == journal.CREATE_TRIAL


@dataclass
class Sources:
    """What else knows the trials of a sampled run.

    Attributes:
        cell_id: The id of the cell at a point, None where there cannot be such a cell.
        space: What draws a point from a trial.
        values: What a cell would be told, by number of its first seeds; empty while none is finished.
        cells: Points of the cells that run.json lists, by id.
        pruned: Tells the cells that the records say were pruned.
    """

    cell_id: Callable[[Mapping[str, Any]], str | None]
    space: Callable[[Any], dict[str, Any]]
    values: Callable[[str], list[list[float]]]
    cells: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    pruned: Callable[[], frozenset[str]] = frozenset


def remove_locks(path: Path) -> None:
    """Remove what a killed driver held; only the run's one driver may."""
    for lock in path.parent.glob(f"{path.name}.lock*"):
        with contextlib.suppress(OSError):
            lock.unlink()


def mend(path: Path, name: str, directions: Sequence[StudyDirection], say: Say, sources: Sources | None = None) -> int:
    """Make the journal of a run readable and complete, and say what was done.

    Args:
        path: The journal. Only the run's one driver may call this.
        name: Of the study.
        directions: Of its objectives.
        say: Told what was damaged and what became of it; silent where only a torn last line was cut off.
        sources: What else knows the trials; without it trials with damaged lines are left out.

    Returns:
        How many lines were damaged, lost or torn.

    Raises:
        MachineError: If what lies there is no readable file.
    """
    remove_locks(path)
    if moved := writable_files.make_way(path):
        say(f"What lay in the place of {path.name} of {name} was no journal; it is kept as {moved.name}.")
    text = journal.read_journal(path)
    _try_with_optuna(text, name, directions)
    if text.is_whole:
        journal.cut_torn_line(text)
        if sources is None:
            return int(bool(text.torn))
    trials = trials_of(text, name)
    if sources is None:
        kept = [_frozen(trial) for trial in trials if trial.state != journal.RUNNING]
        notes: dict[str, int] = {}
    else:
        kept, notes = _completed(trials, sources, trust=text.is_whole)
    if text.is_whole and not notes:
        return int(bool(text.torn))
    copy = writable_files.keep_damaged(path) if text.size else None
    _write(path, name, directions, kept)
    harm = text.words() or ("it says less than run.json" if text.size else "it is missing or empty")
    done = "".join(f", {count} {what}" for what, count in notes.items())
    held = f" The file as it was is kept as {copy.name}." if copy else ""
    say(f"{path.name} of {name} was damaged: {harm}. It was written anew: {len(kept)} trials{done}.{held}")
    return max(1, len(text.damaged) + text.lost + bool(text.torn))


def _try_with_optuna(text: JournalText, name: str, directions: Sequence[StudyDirection]) -> None:
    """Count as damaged what no checksum vouches for and Optuna could not apply, or would take for another study."""
    good = []
    for place, line in enumerate(text.lines):
        entry = line.entry
        try:
            if line.number is None and entry["op_code"] == journal.SET_PARAM:
                json_to_distribution(entry["distribution"]).to_external_repr(entry["param_value_internal"])
            elif line.number is None and entry["op_code"] == journal.CREATE_TRIAL:
                for key, value in entry.get("params", {}).items():
                    json_to_distribution(entry["distributions"][key]).to_external_repr(value)
            elif line.number is None and entry["op_code"] == journal.CREATE_STUDY:
                _require_directions(entry["directions"], directions)
        except Exception:  # Whatever a foreign word makes of Optuna's readers: the line says nothing usable.
            text.damaged.append(place + 1)
        else:
            good.append(line)
    text.lines = good
    names = [line.entry["study_name"] for line in good if line.entry["op_code"] == journal.CREATE_STUDY]
    if good and name not in names and text.is_whole:
        text.lost = 1


def _require_directions(found: Sequence[int], expected: Sequence[StudyDirection]) -> None:
    if [StudyDirection(each) for each in found] != list(expected):
        raise ValueError


class Given:
    """Answers a space with known values, and remembers from which ranges.

    Raises:
        LookupError: When asked for what is not known, or what its range does not hold.
    """

    def __init__(self, number: int, *known: Mapping[str, Any]) -> None:
        self.number, self._known = number, known
        self.params: dict[str, Any] = {}
        self.distributions: dict[str, BaseDistribution] = {}

    def _take(self, name: str, distribution: BaseDistribution) -> Any:
        for values in self._known:
            if name not in values:
                continue
            value = values[name]
            if isinstance(distribution, CategoricalDistribution):
                # JSON has lists where a space may have tuples.
                same = [c for c in distribution.choices if c == value or (isinstance(c, tuple) and list(c) == value)]
                if not same:
                    continue
                value = same[0]
            elif isinstance(value, bool) or not isinstance(value, int | float):
                continue
            if distribution._contains(distribution.to_internal_repr(value)):
                self.params[name], self.distributions[name] = value, distribution
                return value
        raise LookupError(name)

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """As Optuna's."""
        return float(self._take(name, FloatDistribution(low, high, log=log, step=step)))

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """As Optuna's."""
        return int(self._take(name, IntDistribution(low, high, log=log, step=step)))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """As Optuna's."""
        return self._take(name, CategoricalDistribution(choices))


def _completed(
    trials: Iterable[TrialLines], sources: Sources, *, trust: bool
) -> tuple[list[FrozenTrial], dict[str, int]]:
    """Every trial with what its lines lack, and those of run.json's cells that have none; with counts of what was done."""
    notes: dict[str, int] = {}

    def count(what: str) -> None:
        notes[what] = notes.get(what, 0) + 1

    trials = list(trials)
    listed: set[str] = set()
    bare: set[int] = set()  # Trials of which no line says the cell.
    for number, trial in enumerate(trials):
        if not (trust and trial.is_stamped and CELL in trial.user_attrs):
            before = (dict(trial.params), dict(trial.user_attrs), trial.state, trial.values)
            if not _fill(trial, number, sources):
                bare.add(number)
                continue
            if before != (trial.params, trial.user_attrs, trial.state, trial.values):
                count("completed from run.json and the store")
        listed.add(str(trial.user_attrs.get(CELL, "")))
    for cell, point in sources.cells.items():
        if cell in listed or sources.cell_id(point) != cell:
            continue
        for number in [*sorted(bare), len(trials)]:
            drawn = trials[number].params if number < len(trials) else {}
            made = TrialLines(user_attrs={CELL: cell, POINT: dict(point)})
            if _fill(made, number, sources) and drawn.items() <= made.params.items():
                bare.discard(number)
                trials[number : number + 1] = [made]
                count("rebuilt from run.json and the store")
                break
    for _ in () if trust else bare:
        count("left out, as no source says what was drawn")
    # One killed before its first draw is drawn when the run goes on.
    return [_frozen(trial) for number, trial in enumerate(trials) if trust or number not in bare], notes


def _fill(trial: TrialLines, number: int, sources: Sources) -> bool:
    """Complete what a trial's lines say; false when no source knows the cell it drew."""
    drawn: dict[str, Any] = {}
    for name, value in trial.params.items():
        with contextlib.suppress(Exception):  # A foreign range; the point may know the value.
            drawn[name] = json_to_distribution(trial.distributions[name]).to_external_repr(value)
    named = trial.user_attrs.get(CELL)
    point = trial.user_attrs.get(POINT)
    points = [each for each in (point, sources.cells.get(str(named))) if isinstance(each, dict)]
    # What was drawn is the best witness unless the id of the cell, a digest of its point, speaks against it.
    for known in [(drawn,), *((drawn, each) for each in points), *((each, drawn) for each in points)]:
        given = Given(number, *known)
        try:
            made = sources.space(given)
        except LookupError:
            continue
        cell = sources.cell_id(made)
        if cell is None or (named in sources.cells and cell != named):
            continue
        if isinstance(point, dict) and cell != named and sources.cell_id(point) == named:
            continue
        trial.params = {k: d.to_internal_repr(given.params[k]) for k, d in given.distributions.items()}
        trial.distributions = {k: optuna.distributions.distribution_to_json(d) for k, d in given.distributions.items()}
        if named != cell or sources.cell_id(point or {}) != cell:
            trial.user_attrs = trial.user_attrs | {CELL: cell, POINT: made}
        _settle(trial, cell, sources)
        return True
    # A space that a plug-in changed meanwhile: a told trial stands as it is, an open one is drawn again.
    return CELL in trial.user_attrs and POINT in trial.user_attrs and trial.state != journal.RUNNING


def _settle(trial: TrialLines, cell: str, sources: Sources) -> None:
    """State and values, as far as the store and the records know better; what stays open is settled by the run."""
    if trial.state == journal.RUNNING and cell in sources.pruned():
        trial.state, trial.values = journal.PRUNED, None
    if trial.state != journal.COMPLETE:
        return
    possible = sources.values(cell)
    fits = any(_are_equal(trial.values or [], each) for each in possible)
    if trial.values is None or (possible and not fits and not trial.is_stamped):
        trial.state, trial.values, trial.ended = journal.RUNNING, None, None


def _are_equal(told: Sequence[float], found: Sequence[float]) -> bool:
    return len(told) == len(found) and all(math.isclose(a, b, rel_tol=1e-9) for a, b in zip(told, found, strict=True))


def _frozen(trial: TrialLines) -> FrozenTrial:
    """The trial as Optuna has it."""
    distributions = {name: json_to_distribution(text) for name, text in trial.distributions.items()}
    values = trial.values or None
    state = TrialState(trial.state) if trial.state != journal.COMPLETE or values else TrialState.RUNNING
    made = optuna.trial.create_trial(
        state=state,
        values=values if state in (TrialState.COMPLETE, TrialState.PRUNED) else None,
        params={name: d.to_external_repr(trial.params[name]) for name, d in distributions.items()},
        distributions=distributions,
        user_attrs=trial.user_attrs,
        system_attrs=trial.system_attrs,
        intermediate_values=trial.steps,
    )
    for name, text in (("datetime_start", trial.started), ("datetime_complete", trial.ended)):
        if text and (name == "datetime_start" or state.is_finished()):
            setattr(made, name, datetime.datetime.fromisoformat(text).astimezone().replace(tzinfo=None))
    return made


def _write(path: Path, name: str, directions: Sequence[StudyDirection], trials: Iterable[FrozenTrial]) -> None:
    """Replace the journal by one of these trials, aside first."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    with contextlib.suppress(OSError):
        aside.unlink()
    storage = JournalStorage(StampedBackend(aside))
    study = storage.create_new_study(directions, name)
    for trial in trials:
        storage.create_new_trial(study, template_trial=trial)
    os.replace(aside, path)
