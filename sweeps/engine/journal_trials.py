"""What the lines of a journal say of each trial."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sweeps.engine.journal import (
    CREATE_STUDY,
    CREATE_TRIAL,
    PRUNED,
    RUNNING,
    SET_ATTR,
    SET_PARAM,
    SET_STATE,
    SET_STEP,
    SET_SYSTEM_ATTR,
    JournalText,
    read_journal,
)
from trainables.errors import MachineError


@dataclass
class TrialLines:
    """What the whole lines of a journal say of one trial."""

    params: dict[str, Any] = field(default_factory=dict)  # As Optuna keeps them inside.
    distributions: dict[str, str] = field(default_factory=dict)
    user_attrs: dict[str, Any] = field(default_factory=dict)
    system_attrs: dict[str, Any] = field(default_factory=dict)
    steps: dict[int, float] = field(default_factory=dict)
    state: int = RUNNING
    values: list[float] | None = None
    started: str | None = None
    ended: str | None = None
    is_stamped: bool = True  # Whether checksums vouch for all its lines.


def trials_of(text: JournalText, name: str) -> list[TrialLines]:
    """The trials of a study, by number; what damaged lines said of them is missing."""
    studies: list[str] = []
    for line in text.lines:
        if line.entry["op_code"] == CREATE_STUDY and line.entry["study_name"] not in studies:
            studies.append(line.entry["study_name"])
    # A run's journal holds its own study alone; where the line naming it is gone, all trials are its.
    number = studies.index(name) if name in studies and len(studies) > 1 else None
    trials: dict[int, TrialLines] = {}
    of_others: set[int] = set()
    following = 0
    for line in text.lines:
        entry = line.entry
        if line.created is not None:
            following = max(following, line.created)
        if entry["op_code"] == CREATE_TRIAL:
            if number is not None and entry["study_id"] != number:
                of_others.add(following)
            trial = trials.setdefault(following, TrialLines())
            following += 1
            _begin(trial, entry)
        elif "trial_id" in entry:
            trial = trials.setdefault(entry["trial_id"], TrialLines())
            following = max(following, entry["trial_id"] + 1)  # The line that created it was lost.
            _apply(trial, entry)
        else:
            continue
        trial.is_stamped = trial.is_stamped and line.number is not None
    return [trials[key] for key in sorted(trials) if key not in of_others]


def _begin(trial: TrialLines, entry: Mapping[str, Any]) -> None:
    trial.started, trial.ended = entry["datetime_start"], entry.get("datetime_complete")
    trial.state = entry.get("state", RUNNING)
    trial.params |= entry.get("params", {})
    trial.distributions |= entry.get("distributions", {})
    trial.user_attrs |= entry.get("user_attrs", {})
    trial.system_attrs |= entry.get("system_attrs", {})
    for step, value in entry.get("intermediate_values", {}).items():
        with contextlib.suppress(ValueError):
            trial.steps[int(step)] = value
    value, values = entry.get("value"), entry.get("values")
    trial.values = values if values is not None else ([value] if value is not None else None)


def _apply(trial: TrialLines, entry: Mapping[str, Any]) -> None:
    operation = entry["op_code"]
    if operation == SET_PARAM:
        trial.params[entry["param_name"]] = entry["param_value_internal"]
        trial.distributions[entry["param_name"]] = entry["distribution"]
    elif operation == SET_STATE:
        trial.state, trial.ended = entry["state"], entry.get("datetime_complete")
        trial.values = entry["values"] if entry["values"] is not None else trial.values
    elif operation == SET_STEP:
        trial.steps[entry["step"]] = entry["intermediate_value"]
    elif operation == SET_ATTR:
        trial.user_attrs |= entry["user_attr"]
    elif operation == SET_SYSTEM_ATTR:
        trial.system_attrs |= entry["system_attr"]


def pruned_cells(path: Path) -> set[str]:
    """Cells that Optuna pruned; none where the journal cannot be read."""
    with contextlib.suppress(MachineError):
        trials = trials_of(read_journal(path), "")
        return {
            str(trial.user_attrs["cell"]) for trial in trials if trial.state == PRUNED and "cell" in trial.user_attrs
        }
    return set()
