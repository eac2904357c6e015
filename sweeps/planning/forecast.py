"""What keeping the outputs of frozen networks would take and save, counted from the plan before anything is filled."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trainables
from sweeps.planning import cost, rough
from sweeps.planning.plan import Plan
from sweeps.planning.planner import Planner
from trainables.data.packed import Packed
from trainables.errors import MachineError
from trainables.spec import MOST_VIEWS, TEACHER_OUTPUTS, StageSpec, TrainingSpec, distils, has_network
from trainables.spec.compute import forward_macs, layers_of
from trainables.spec.work import CALL_SECONDS, CORE_RATE

MOST_TRIALS = 20_000  # Beyond, only what was asked for is counted.
READ_SECONDS = 2e-6  # Of one kept output, mapped and warm.
MOST_BUSY = 8  # Cores kept busy: each takes 300 MB, and more hardly change what one beside them can do.
BUSY = Path(trainables.__file__).parent / "training" / "busy.py"

Timer = Callable[[TrainingSpec, int, int], float]


@dataclass
class Forecast:
    """How one way of asking frozen networks would go, over all trials of a study.

    Attributes:
        way: live, cached or cached_epochs.
        asked: Outputs that training asks for, images times epochs over distinct stages.
        computed: Outputs that frozen networks compute for it; for `live` all that are asked for.
        bytes: Of what is kept.
        seconds: Of one core, for frozen networks and reading.
        live_anyway: Outputs asked for by stages that read feature maps, which are not kept.
        unbounded: Whether there are too many views to keep, so that `cached` keeps what epochs draw.
    """

    way: str
    asked: int = 0
    computed: int = 0
    bytes: float = 0.0
    seconds: float = 0.0
    live_anyway: int = 0
    unbounded: bool = False

    @property
    def hits(self) -> float:
        """Share of what is asked for that was computed before; 0 where filling computes as much as is read, or more."""
        return max(0.0, 1 - self.computed / self.asked) if self.asked and self.way != "live" else 0.0

    @property
    def sentence(self) -> str:
        """For people."""
        time = rough.hours(self.seconds, "core")
        computed, asked = rough.counted(self.computed), rough.counted(self.asked)
        if self.way == "live":
            return f"{computed} outputs computed, {time}"
        drawn = f", by epochs: an augmentation has more than {MOST_VIEWS:,} views" if self.unbounded else ""
        more = f"; {rough.counted(self.live_anyway)} of them live, for feature maps" if self.live_anyway else ""
        if self.computed > self.asked:
            saved = f"{rough.number(self.computed / self.asked)} times what is read: nothing is saved"
        else:
            saved = f"hits {100 * self.hits:.0f} %" if self.hits < 0.995 else "hits over 99 %"
        return (
            f"{computed} computed for {asked} asked for ({saved}), {rough.size(self.bytes)} kept, {time}{drawn}{more}"
        )


def forecasts(plan: Plan, packed: Packed | None, timer: Timer | None = None) -> list[Forecast]:
    """One for each way, or for the way chosen alone where there are very many trials; empty if nothing is distilled.

    Args:
        plan: The study on its data.
        packed: The data, which tells how many images are trained on; without it that is estimated.
        timer: Seconds for one image of a frozen network, given its spec, side and batch size; without one, an estimate
            from multiply-adds.
    """
    resolved = plan.resolved
    chosen = str(resolved.parameters.get("teacher_outputs", "live"))
    many = resolved.cell_count * len(resolved.seeds) > MOST_TRIALS
    counter = _Counter(dict(plan.data), packed, timer or _estimate)
    found = [counter.count(plan, way) for way in ((chosen,) if many else TEACHER_OUTPUTS)]
    return [forecast for forecast in found if forecast.asked]


@contextlib.contextmanager
def busy(cores: int) -> Iterator[None]:
    """Keeps `cores` cores busy meanwhile, as the other stages of a study will.

    Cores share caches, clocks and sometimes their units of arithmetic: beside others, a network's seconds of CPU can
    be nearly twice those it has alone.

    Raises:
        MachineError: If they cannot be kept busy.
    """
    one = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    with contextlib.ExitStack() as stack:
        others = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, str(BUSY)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    env={**os.environ, **one},
                )
            )
            for _ in range(cores)
        ]
        try:
            for other in others:
                assert other.stdout is not None
                if other.stdout.readline() != b"busy\n":
                    raise MachineError(
                        f"{cores} more processes must run beside what is measured, but one ended with {other.wait()}. "
                        "Leave --measure out for an estimate."
                    )
            yield
        finally:
            for other in others:
                other.kill()


def best(found: list[Forecast]) -> Forecast:
    """The way that takes the least time."""
    return min(found, key=lambda forecast: forecast.seconds)


def _estimate(spec: TrainingSpec, side: int, batch: int) -> float:
    return forward_macs(spec, side) / CORE_RATE + layers_of(spec.architecture) * CALL_SECONDS / batch


class _Counter:
    def __init__(self, data: dict[str, Any], packed: Packed | None, timer: Timer) -> None:
        self.data, self.timer = data, timer
        self.counts = cost.Counts(data, packed)
        self._times: dict[tuple[Any, ...], float] = {}

    def count(self, plan: Plan, way: str) -> Forecast:
        resolved = plan.resolved
        parameters = {k: v for k, v in resolved.parameters.items() if not k.endswith(".teacher_outputs")}
        changed = dataclasses.replace(resolved, parameters=parameters | {"teacher_outputs": way})
        planner = Planner(dataclasses.replace(plan, resolved=changed))
        result = Forecast(way)
        seen: set[str] = set()
        times = resolved.trials if resolved.study.sampled else 1
        for cell in planner.plan.examples():
            made = planner.specs(cell)
            steps = planner.recipe.steps_of(cell.parameters)
            for seed in changed.seeds:
                keys = planner.keys(cell, seed)
                for step in steps:
                    spec, key = made[step.role], keys[step.role]
                    if key in seen:
                        continue
                    seen.add(key)
                    guide = next((made[role] for role in step.parents.values()), None)
                    if has_network(guide):
                        self._add(result, spec, guide, times)
        return result

    def _add(self, result: Forecast, spec: StageSpec, guide: TrainingSpec, times: int) -> None:
        """What a stage asks of its frozen network, or computes of it for others to read."""
        work = spec.work(self.counts, guide)
        if not work.asked:
            # What is kept is kept once, however many trials read it.
            times = 1
            result.bytes += work.bytes if work.computed else 0.0
        elif not work.computed:
            result.seconds += times * work.asked * READ_SECONDS
        elif result.way != "live":
            result.live_anyway += times * work.asked
        result.asked += times * work.asked
        for images, batch in work.computed:
            result.computed += times * images
            result.seconds += times * images * self._seconds(guide, batch)
        result.unbounded |= result.way == "cached" and distils(spec) and spec.keeps_epochs

    def _seconds(self, guide: TrainingSpec, batch: int) -> float:
        mark = (
            guide.architecture,
            guide.width,
            guide.resolution,
            guide.embedding,
            guide.stem,
            guide.upsample_to,
            getattr(guide, "side", 0),
            batch,
        )
        if mark not in self._times:
            self._times[mark] = self.timer(guide, int(self.data["height"]), batch)
        return self._times[mark]
