"""From a request to a plan on its data: everything that can be wrong is said here, before anything starts.

All calls into `sweeps.planning` before a run begins are in this file.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import search_spaces
from search_spaces.study import OWN, Preset, Study
from sweeps.engine import resources
from sweeps.engine.progress import duration
from sweeps.planning import checks, cost, fitting, forecast, identity, weight_files
from sweeps.planning.bind import bind
from sweeps.planning.plan import UNPACKED, Plan
from sweeps.planning.planner import Planner
from sweeps.planning.remarks import without_reference
from sweeps.planning.request import Request
from sweeps.planning.resolve import Resolved
from sweeps.planning.resolve import resolve as answered
from sweeps.planning.survey import Survey
from sweeps.planning.survey import survey as surveyed
from sweeps.runs import machine
from sweeps.runs.datasets import NamedData, tested_data
from sweeps.runs.folder import Place, Say
from trainables import cores
from trainables.data import catalog
from trainables.data.packed import open_packed
from trainables.errors import DataError
from trainables.spec import TrainingSpec
from trainables.store.artifacts import Store


@dataclass
class Prepared:
    """A request after everything was checked: nothing has started yet."""

    request: Request
    study: Study
    planner: Planner
    info: catalog.PackedInfo | None
    data: dict[str, Any]
    survey: Survey
    store: Store
    missing_data: str = ""  # Why the data set cannot be used, when a mere look was asked for.
    test_data: dict[str, Any] | None = None  # What run.json says of the data set tested, where it is another one.
    also_read: dict[str, Any] | None = None  # The same, or what is guessed of it while it is not packed.

    @property
    def plan(self) -> Plan:
        """The study on its data."""
        return self.planner.plan

    @property
    def resolved(self) -> Resolved:
        """The study with every word answered."""
        return self.plan.resolved

    @functools.cached_property
    def run_id(self) -> str:
        """The name of the run that equal requests share."""
        return identity.run_id(self.planner)

    @property
    def packed_bytes(self) -> float:
        """Of the data sets once they are packed; estimated where they are not."""
        return sum(cost.packed_bytes(part) for part in (self.data, self.also_read) if part)

    @property
    def unpacked_bytes(self) -> float:
        """Of those of them that are still to be packed; packing takes as much again meanwhile."""
        parts = (self.data, self.also_read)
        return sum(cost.packed_bytes(p) for p in parts if p and p["fingerprint"] == UNPACKED)

    def outputs(self, *, measure: bool = False) -> list[forecast.Forecast]:
        """What frozen networks will be asked, live and kept; their time estimated, or measured here under load."""
        packed = open_packed(self.info.path) if self.info is not None else None
        if not measure or packed is None:
            return forecast.forecasts(self.plan, packed)
        from trainables.training.filling import forward_seconds

        jobs = min(cores.available(), sum(self.survey.distinct.values()), forecast.MOST_BUSY + 1)
        with contextlib.ExitStack() as stack:

            @functools.cache
            def beside_others() -> None:
                stack.enter_context(forecast.busy(jobs - 1))

            def timer(spec: TrainingSpec, side: int, batch: int) -> float:
                beside_others()
                return forward_seconds(packed, spec, side, batch)

            return forecast.forecasts(self.plan, packed, timer)


@dataclass(frozen=True)
class _Answered:
    """A request with its words answered and its files of weights admitted.

    Attributes:
        request: As it is kept and printed.
        admitted: The same, with files of weights named as the store knows them.
    """

    request: Request
    admitted: Request
    resolved: Resolved
    weights: weight_files.WeightFiles

    @property
    def fits(self) -> bool:
        """Whether the preset is made from the data."""
        return self.request.preset == OWN and self.resolved.study.own is not None

    def bound(self, named: NamedData, data: Mapping[str, Any], say: Say) -> Planner:
        """The study on its data; the preset `own` is made from them."""
        resolved, study = self.resolved, self.resolved.study
        if self.fits:
            assert study.own is not None
            resolved = _resolve(
                study, self.admitted, study.own(fitting.facts_of(data, named.packed, resolved, named.look))
            )
        fingerprint = named.tested_fingerprint
        return Planner(bind(resolved, data, self.weights, say, name=named.name, test_fingerprint=fingerprint))


def resolve(request: Request) -> tuple[Study, Resolved]:
    """Study and parameters of a request.

    Raises:
        UsageError: For a wrong word.
    """
    study = search_spaces.load(request.study)
    # Words can be wrong whatever the data are; what `own` says of them is known when they are packed.
    return study, _resolve(study, request, fitting.provisional(study, request.preset, request.data))


def _resolve(study: Study, request: Request, fitted: Preset | None) -> Resolved:
    preset = fitted if fitted is not None else study.presets.get(request.preset)
    return answered(
        study,
        preset=request.preset,
        settings=request.settings,
        seeds=request.seeds,
        trials=request.trials,
        elsewhere=bool(tested_data(request, preset)),
        share=request.share,
        fitted=fitted,
    )


def prepare(request: Request, place: Place, say: Say, *, pack: bool = True) -> Prepared:
    """Check everything that can be wrong and pack the data, before anything starts.

    Args:
        request: What was asked.
        place: Where runs and store live.
        say: Tells the person what takes time.
        pack: Whether to pack data that is not packed yet; `--dry-run` and a mere `show` do not.

    Raises:
        UsageError, DataError, MachineError: With what must hold, what was got and what to do.
    """
    study, resolved = resolve(request)
    resources.parse(request.needs, study.recipe.roles, request.gpu_share)
    machine.check_request(request)
    store = Store(place.store)
    words = _admit_weights(request, resolved, place, say, write=pack)
    named = NamedData.of(words.request, words.resolved.preset)
    try:
        named.find(words.request, words.resolved.preset, fits=words.fits)
    except DataError as error:
        if pack:
            raise
        # What a study would do can be shown without its data; the paper's own sets are seldom at hand.
        return _without_data(words, named, store, say, str(error))
    named.pack(place, store, say, make=pack)
    data = named.facts()
    planner = words.bound(named, data, say)
    for arm, why in planner.plan.left_out.items():
        say(f"Left out: {arm} ({why}).")
    if remark := without_reference(planner.plan.resolved):
        say(remark)
    _check(planner, named)
    survey = surveyed(planner, store, named.packed)
    if words.fits:
        _say_expected(words.request, planner, survey, say)
    return Prepared(
        words.request,
        study,
        planner,
        named.info,
        data,
        survey,
        store,
        test_data=named.tested_facts(),
        also_read=named.tested_guess(),
    )


def _admit_weights(request: Request, resolved: Resolved, place: Place, say: Say, *, write: bool) -> _Answered:
    """Take the files of weights that a request names into the store; a mere look only reads them."""
    if not weight_files.named((*resolved.parameters, *resolved.axes)):
        return _Answered(request, request, resolved, weight_files.WeightFiles())
    if write:
        place.prepare()
    admitted = weight_files.admit(
        resolved.parameters, resolved.axes, request.settings, Store(place.store).root, say, write=write
    )
    resolved = dataclasses.replace(resolved, parameters=admitted.parameters, axes=admitted.axes)
    as_admitted = dataclasses.replace(request, settings=admitted.settings)
    # What a mere look prints is a command to begin with: the store has the weights once they were admitted to it.
    return _Answered(as_admitted if write else request, as_admitted, resolved, admitted.weights)


def _without_data(words: _Answered, named: NamedData, store: Store, say: Say, why: str) -> Prepared:
    """What can be shown of a study whose data are not at hand."""
    data = named.facts()
    planner = words.bound(named, data, say)
    survey = surveyed(planner, store)
    also = named.tested_guess()
    return Prepared(words.request, words.resolved.study, planner, None, data, survey, store, why, also_read=also)


def _check(planner: Planner, named: NamedData) -> None:
    """See that study and data fit each other.

    Raises:
        UsageError, DataError: With what does not.
    """
    resolved = planner.plan.resolved
    checks.check_against_data(planner)
    named.check(resolved.task, resolved.study.name)
    if named.is_packed and (packed := named.packed) is not None:
        tested = open_packed(named.tested_info.path) if named.tested_info is not None else None
        checks.check_splits(planner, packed, tested)
        checks.check_kept_classifiers(planner, packed)


def _say_expected(request: Request, planner: Planner, survey: Survey, say: Say) -> None:
    """Say what the preset made from the data is, and how long it takes."""
    slots = machine.slots_of(request)
    here = f", {duration(survey.seconds / slots)} on {slots} cores" if request.on == "local" else ""
    say(f"Preset own, {planner.plan.resolved.preset.note}.")
    if survey.missing:
        say(
            f"Expected: {survey.missing:,} stages, about {survey.seconds / 60:,.0f} core minutes{here}, within a factor of "
            "three."
        )
