"""Cells of a grid: each finished one is written into the journal once."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution

from sweeps.engine.journal_repair import CELL, Say
from sweeps.engine.sampling.study import open_study
from sweeps.engine.sampling.values import cell_value
from sweeps.planning.cells import Cell
from sweeps.planning.graph import StageGraph, StageNode
from sweeps.planning.planner import Trial
from sweeps.planning.resolve import Resolved
from trainables.errors import ArtifactError
from trainables.store.artifacts import Store

_log = logging.getLogger(__name__)


class GridCells:
    """Listener of a grid study: writes each finished cell into the journal, once."""

    def __init__(
        self,
        resolved: Resolved,
        cells: list[Cell],
        trials: list[Trial],
        graph: StageGraph,
        store: Store,
        journal: Path,
        name: str,
        on_stage: Callable[[StageNode], None],
        *,
        say: Say = _log.warning,
    ) -> None:
        self.resolved, self.graph, self.store = resolved, graph, store
        self.cells = {cell.id: cell for cell in cells}
        self.on_stage = on_stage
        recipe = resolved.study.recipe
        self._last = resolved.study.recipe.roles[-1]
        self._open: dict[str, set[str]] = {}
        self._measured: dict[str, list[str]] = {}
        for trial in trials:
            self._open.setdefault(trial.cell, set()).add(trial.stages[self._last])
            self._measured.setdefault(trial.cell, []).append(trial.stages[recipe.measured(trial.stages)])
        self._measured_keys = {key for keys in self._measured.values() for key in keys}
        self.study = open_study(journal, name, say=say)
        self._known = {
            (t.user_attrs.get(CELL), t.user_attrs.get("seeds")) for t in self.study.get_trials(deepcopy=False)
        }
        self.leader: tuple[float, str] | None = None
        for cell_id in self._open:
            self._note(cell_id)

    def stage_done(self, node: StageNode) -> None:
        """A stage finished: its cell may be complete."""
        self.on_stage(node)
        if node.role == self._last or node.key in self._measured_keys:
            for cell_id in node.cells:
                self._note(cell_id)

    def _note(self, cell_id: str) -> None:
        keys = self._open[cell_id]
        # What an evaluation read may have been discarded since; then it is made again first.
        if any(self.graph.nodes[key].state != "done" for key in (*keys, *self._measured[cell_id])):
            return
        try:
            value = cell_value(self.store, self._measured[cell_id])
        except ArtifactError:
            return  # Discarded or damaged while the run goes on: the next one writes the cell.
        if value is None:
            return
        cell = self.cells[cell_id]
        if self.leader is None or value > self.leader[0]:
            self.leader = (value, cell.label)
        seeds = len(keys)
        if (cell_id, seeds) in self._known:
            return
        self._known.add((cell_id, seeds))
        params, distributions = self._params(cell)
        self.study.add_trial(
            optuna.trial.create_trial(
                value=value, params=params, distributions=distributions, user_attrs={CELL: cell_id, "seeds": seeds}
            )
        )

    def _params(self, cell: Cell) -> tuple[dict[str, Any], dict[str, BaseDistribution]]:
        params: dict[str, Any] = {}
        distributions: dict[str, BaseDistribution] = {}
        for name, value in cell.point.items():
            declared = self.resolved.study.recipe.declared(name)
            if "parts" in declared:
                # On/off parameters, four of orders: one category of 16 levels takes importance scores minutes.
                for part in declared["parts"]:
                    params[f"{declared['part']}_{part}"] = part in str(value).split("+")
                    distributions[f"{declared['part']}_{part}"] = CategoricalDistribution((False, True))
            else:
                plain = [str(v) if isinstance(v, tuple) else v for v in self.resolved.axes[name]]
                params[name] = str(value) if isinstance(value, tuple) else value
                distributions[name] = CategoricalDistribution(plain)
        return params, distributions

    def stage_failed(self, node: StageNode) -> None:
        """A stage ended as failed."""
        self.on_stage(node)

    def stage_value(self, node: StageNode, epoch: int, value: float) -> bool:
        """Grids are never pruned."""
        return False

    def more(self) -> bool:
        """A grid is complete from the start."""
        return False

    def exhausted(self) -> bool:
        """A grid is complete from the start."""
        return True
