"""The Optuna study of a run, in a journal that Optuna's own tools open."""

from __future__ import annotations

import logging
from pathlib import Path

import optuna
from optuna.storages import JournalStorage
from optuna.study import StudyDirection

from sweeps.engine.journal_repair import Say, Sources, StampedBackend, mend

optuna.logging.set_verbosity(optuna.logging.ERROR)
_log = logging.getLogger(__name__)


def open_study(
    path: Path,
    name: str,
    *,
    sampler: optuna.samplers.BaseSampler | None = None,
    prune: int = 0,
    objectives: tuple[str, ...] = ("score",),
    say: Say = _log.warning,
    sources: Sources | None = None,
) -> optuna.Study:
    """The Optuna study of a run.

    Args:
        path: The journal; mended first.
        name: Study name, the run's id.
        sampler: For sampled studies.
        prune: Epochs of the first rung of successive halving; 0 means no pruning.
        objectives: The first is to be large, the others small.
        say: Told what was mended, in words.
        sources: What else knows the trials of a sampled study.
    """
    directions = [StudyDirection.MAXIMIZE, *(StudyDirection.MINIMIZE for _ in objectives[1:])]
    mend(path, name, directions, say, sources)
    storage = JournalStorage(StampedBackend(path.absolute()))
    pruner: optuna.pruners.BasePruner = optuna.pruners.NopPruner()
    if prune:
        pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=prune, reduction_factor=3)
    # Where there is one it is loaded: creating it again would add a line each time.
    if all(each.study_name != name for each in storage.get_all_studies()):
        storage.create_new_study(directions, name)
    return optuna.load_study(storage=storage, study_name=name, sampler=sampler, pruner=pruner)
