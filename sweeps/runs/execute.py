"""The one act behind `run` and `resume`: plan, leave out what the store has, train the rest, record, report.

Starting, resuming and extending are the same. If nothing is left, Ray is not started.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import search_spaces
from search_spaces.study import ARM, OWN, TUNING, Arm, Preset, Study
from slurm import devices
from sweeps.planning import cost, fitting, forecast, left_out, plan, weight_files
from sweeps.engine import resources
from sweeps.runs import plugin_files, provenance, run_file, whereabouts
from sweeps.planning.graph import StageGraph, StageNode
from sweeps.engine.machines import LATE_FILES_SECONDS, LocalMachine, Machine
from sweeps.runs.packing import PackingLine
from sweeps.engine.progress import duration
from sweeps.planning.remarks import without_reference
from sweeps.runs.reporting import fresh_report, record_lines
from sweeps.runs.folder import RUN_SCHEMA, Place, RunFolder, now, stop_content
from trainables import cores
from system import writable_files
from trainables.store.artifacts import Store, make_folder, write_atomically
from trainables.data import catalog
from trainables.data.packed import Packed, open_packed
from trainables.errors import DataError, MachineError, NothingToReport, SweepsError, UsageError
from trainables.spec.registry import Origin
from trainables.spec import TrainingSpec
from trainables.stages.base import is_mendable, verdict

METRICS = {
    "classification": "top1",
    "verification": "verification_accuracy",
    "identification": "top1",
    "retrieval": "recall_at_1",
}  # What `score` means in each task.
LEAST_FREE_BYTES = 200e6  # Ray's session and logs.

Say = Callable[[str], None]


@dataclass
class Request:
    """What a person asked for, as it is kept in run.json."""

    study: str
    preset: str = "demo"
    data: str | None = None
    data_root: str | None = None
    data_size: int | None = None
    test_data: str | None = None  # Another data set that is tested.
    test_data_root: str | None = None
    settings: list[str] = field(default_factory=list)
    seeds: str | None = None
    trials: int | None = None
    jobs: int | None = None
    gpus: int | None = None
    gpu_share: float = 1.0
    needs: list[str] = field(default_factory=list)
    new: bool = False
    on: str = "local"
    profiles: list[str] = field(default_factory=list)  # Of worker jobs: NAME or NAME:WORKERS.
    workers: int | None = None
    slurm: list[str] = field(default_factory=list)  # KEY=VALUE over the profiles.
    share: bool = True  # Whether equal stages are trained once.
    report: bool = True  # Whether the jobs write the page at the end.
    plugins: list[str] = field(default_factory=list)  # Files and folders, as they were named.

    def command(self, place: Place | None = None) -> str:
        """The command line that asks for the same, in a place that needs to be named or not."""
        words = ["python", "-m", "sweeps", "run", self.study]
        for path in self.plugins:
            words += ["--plugins", path]
        implied = search_spaces.load(self.study).preset_for(self.data)
        for flag, value in (
            ("--preset", self.preset if self.preset != implied else None),
            ("--data", self.data),
            ("--data-root", self.data_root),
            ("--data-size", self.data_size),
            ("--test-data", self.test_data),
            ("--test-data-root", self.test_data_root),
            ("--seeds", self.seeds),
            ("--trials", self.trials),
        ):
            if value is not None:
                words += [flag, str(value)]
        for setting in self.settings:
            words += ["--set", setting]
        if not self.share:
            words += ["--no-share"]
        if self.on != "local":
            words += ["--on", self.on]
            if self.workers is not None:
                words += ["--workers", str(self.workers)]
        for flag, several in (("--profile", self.profiles), ("--slurm", self.slurm), ("--need", self.needs)):
            for value in several:
                words += [flag, value]
        if place is not None:
            words += whereabouts.place_words(place.runs, place.store)
        return shlex.join(words)


@dataclass
class Prepared:
    """A request after everything was checked: nothing has started yet."""

    request: Request
    study: Study
    resolved: plan.Resolved
    info: catalog.PackedInfo | None
    data: dict[str, Any]
    survey: plan.Survey
    store: Store
    missing_data: str = ""  # Why the data set cannot be used, when a mere look was asked for.
    test_data: dict[str, Any] | None = None  # What run.json says of the data set tested, where it is another one.
    also_read: dict[str, Any] | None = None  # The same, or what is guessed of it while it is not packed.

    @property
    def packed_bytes(self) -> float:
        """Of the data sets once they are packed; estimated where they are not."""
        return sum(cost.packed_bytes(part) for part in (self.data, self.also_read) if part)

    @property
    def unpacked_bytes(self) -> float:
        """Of those of them that are still to be packed; packing takes as much again meanwhile."""
        parts = (self.data, self.also_read)
        return sum(cost.packed_bytes(p) for p in parts if p and p["fingerprint"] == plan.UNPACKED)

    def outputs(self, *, measure: bool = False) -> list[forecast.Forecast]:
        """What frozen networks will be asked, live and kept; their time estimated, or measured here under load."""
        packed = open_packed(self.info.path) if self.info is not None else None
        what = (self.resolved, self.data["fingerprint"], self.data, packed)
        if not measure or packed is None:
            return forecast.forecasts(*what)
        from trainables.stages.outputs import forward_seconds

        jobs = min(cores.available(), sum(self.survey.distinct.values()), forecast.MOST_BUSY + 1)
        with contextlib.ExitStack() as stack:

            @functools.cache
            def beside_others() -> None:
                stack.enter_context(forecast.busy(jobs - 1))

            def timer(spec: TrainingSpec, side: int, batch: int) -> float:
                beside_others()
                return forward_seconds(packed, spec, side, batch)

            return forecast.forecasts(*what, timer)


def data_of(info: catalog.PackedInfo) -> dict[str, Any]:
    """What run.json says of a data set."""
    return {
        "name": info.name,
        "fingerprint": info.fingerprint,
        "classes": len(info.classes),
        "channels": info.channels,
        "height": info.height,
        "width": info.width,
        "train_images": info.train_images,
        "test_images": info.test_images,
        "pairs": info.pairs,
    }


def stand_in(name: str, images: int | None, size: int | None = None) -> dict[str, Any]:
    """What is known, or else guessed, about a data set that was not packed yet, for `show`."""
    known = catalog.DATASETS.get(name)
    side, classes = size or 64, None
    train, test = round((images or 10_000) * 0.8), round((images or 10_000) * 0.2)
    if known is not None and (known.images or known.train):
        train, test, classes = known.train or known.images or 0, known.test or 0, known.classes
        side = size or known.side or side
    if known is not None and known.fixed:
        side = known.side or side  # A set of a plug-in need not say how large its images are.
    return {
        "name": name,
        "fingerprint": plan.UNPACKED,
        "height": side,
        "width": side,
        "train_images": train,
        "test_images": test,
        **({} if classes is None else {"classes": classes}),
    }


def resolve(request: Request) -> tuple[Study, plan.Resolved]:
    """Study and parameters of a request.

    Raises:
        UsageError: For a wrong word.
    """
    study = search_spaces.load(request.study)
    # Words can be wrong whatever the data are; what `own` says of them is known when they are packed.
    return study, _resolve(study, request, fitting.provisional(study, request.preset, request.data))


def _resolve(study: Study, request: Request, fitted: Preset | None) -> plan.Resolved:
    preset = fitted if fitted is not None else study.presets.get(request.preset)
    return plan.resolve(
        study,
        preset=request.preset,
        settings=request.settings,
        seeds=request.seeds,
        trials=request.trials,
        elsewhere=bool(tested_data(request, preset)),
        share=request.share,
        fitted=fitted,
    )


def tested_data(request: Request, preset: Preset | None) -> str | None:
    """Name of the data set that is tested, where it is not the one trained on.

    A preset's own counts only beside the preset's own training data.
    """
    if request.test_data or preset is None:
        return request.test_data
    return preset.test_data if request.data in (None, preset.data) else None


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
    if request.jobs is not None and not 1 <= request.jobs <= cores.available():
        raise UsageError(
            f"--jobs must be from 1 to {cores.available()}, the cores of this machine, got {request.jobs}."
        )
    if request.on == "local" and request.gpus is not None and not 0 <= request.gpus <= find_gpus():
        raise UsageError(
            f"--gpus must be from 0 to {find_gpus()}, the GPUs that this machine offers, got {request.gpus}. Leave it out "
            "to use all there are; `python -m sweeps doctor` says what is found."
        )
    name = request.data or resolved.preset.data
    store = Store(place.store)
    if weight_files.named(resolved):
        if pack:
            place.prepare()
        settings = weight_files.admit(resolved, request.settings, store.root, say, write=pack)
        # What a mere look prints is a command to begin with: the store has the weights once they were admitted to it.
        request.settings = settings if pack else request.settings
    tested = tested_data(request, resolved.preset)
    fits = request.preset == OWN and study.own is not None
    look = fitting.Look()
    try:
        source = _locate(request, name, resolved.preset)
        if fits:
            look = fitting.Look.at(source)
            size = fitting.packed_side(source, look, request.data_size)
            source = (
                source if size is None else _locate(request, name, dataclasses.replace(resolved.preset, data_size=size))
            )
        other = _locate(request, tested, resolved.preset, test=True) if tested else None
    except DataError as error:
        if pack:
            raise
        # What a study would do can be shown without its data; the paper's own sets are seldom at hand.
        data = stand_in(name, None, request.data_size or resolved.preset.data_size)
        if fits:
            resolved = _fitted(study, request, resolved, data, None, look)
        fitting.tell_of_digits(resolved, study, name, say)
        resolved.side = data["height"]
        left_out.leave_out(resolved, data)
        survey = plan.survey(resolved, data, store)
        also = stand_in(tested, None, request.data_size or resolved.preset.data_size) if tested else None
        return Prepared(request, study, resolved, None, data, survey, store, str(error), also_read=also)
    info = _packed(source, place, store, say, pack=pack)
    test_info = _packed(other, place, store, say, pack=pack) if other is not None else None
    data = data_of(info) if info is not None else stand_in(name, source.images, source.size)
    if info is not None:
        data["name"] = source.name
    if fits:
        resolved = _fitted(study, request, resolved, data, open_packed(info.path) if info is not None else None, look)
    fitting.tell_of_digits(resolved, study, name, say)
    resolved.side = data["height"]
    if other is not None:
        resolved.test_fingerprint = test_info.fingerprint if test_info is not None else plan.UNPACKED
    for arm, why in left_out.leave_out(resolved, data).items():
        say(f"Left out: {arm} ({why}).")
    if remark := without_reference(resolved):
        say(remark)
    planner = plan.Planner(resolved, data["fingerprint"])
    plan.check_against_data(resolved, data, planner)
    for shown, there in ((name, info), (tested, test_info)):
        offered = catalog.protocols_of(there) if there is not None else (resolved.task,)
        if resolved.task not in offered:
            raise UsageError(
                f"{study.name} is about {resolved.task}, but {shown} offers {', '.join(offered)} only. "
                "`python -m sweeps data list` shows what others offer."
            )
    if info is not None and test_info is not None and info.fingerprint == test_info.fingerprint:
        raise UsageError(f"--test-data must be another data set than the one trained on, but both are {info.name}.")
    if info is not None and (other is None or test_info is not None):
        plan.check_splits(resolved, open_packed(info.path), planner, open_packed(test_info.path) if test_info else None)
        weight_files.check_with_data(resolved, open_packed(info.path), planner)
    survey = plan.survey(resolved, data, store, planner, open_packed(info.path) if info is not None else None)
    if fits:
        slots = _slots(request)
        here = f", {duration(survey.seconds / slots)} on {slots} cores" if request.on == "local" else ""
        say(f"Preset own, {resolved.preset.note}.")
        if survey.missing:
            say(
                f"Expected: {survey.missing:,} stages, about {survey.seconds / 60:,.0f} core minutes{here}, within a factor of "
                "three."
            )
    tests = data_of(test_info) | {"name": tested} if test_info is not None else None
    also = tests or (stand_in(tested, other.images, other.size) if tested and other is not None else None)
    return Prepared(request, study, resolved, info, data, survey, store, test_data=tests, also_read=also)


def _fitted(
    study: Study,
    request: Request,
    resolved: plan.Resolved,
    data: Mapping[str, Any],
    packed: Packed | None,
    look: fitting.Look,
) -> plan.Resolved:
    """The request with the preset `own` made from the data."""
    assert study.own is not None
    facts = fitting.facts_of(data, packed, resolved, look)
    found = _resolve(study, request, study.own(facts))
    found.teachers, found.starts = resolved.teachers, resolved.starts
    return found


def _locate(request: Request, name: str, preset: Preset, *, test: bool = False) -> catalog.Source:
    """The files of a data set that was asked for, at the size asked for."""
    root = (request.test_data_root or request.data_root) if test else request.data_root
    size = request.data_size
    if size is None and name in (preset.data, preset.test_data):
        size = preset.data_size
    return catalog.locate(name, data_root=Path(root).expanduser() if root else None, size=size)


def _packed(source: catalog.Source, place: Place, store: Store, say: Say, *, pack: bool) -> catalog.PackedInfo | None:
    """The packed file of a source; made when it is not there and `pack` allows."""
    folder = store.root / "data"
    info, altered = None, ""
    try:
        info = catalog.find_packed(source, folder)
    except DataError as error:
        altered = str(error)
    if info is not None and pack:
        info = catalog.whole_packed(source, folder)
        altered = "" if info is not None else f"The packed data of {source.name} were altered on the disk."
    if altered:
        say(altered)
    if info is None and pack:
        place.prepare()
        _room(store.root, 2 * (source.bytes or 0), f"packing {source.name}")
        say(f"Packing {source.name} ...")
        line = PackingLine(source.name, sys.stderr)
        try:
            info = catalog.pack(source, folder, line)
        finally:
            line.end()
    if info is not None:
        for note in catalog.notes_of(source, folder):
            say(f"{source.name}: {note}.")
    return info


def _room(folder: Path, needed: float, what: str) -> None:
    at = folder
    while not at.exists():
        at = at.parent
    free = shutil.disk_usage(at).free
    if free < needed + LEAST_FREE_BYTES:
        raise MachineError(
            f"{what} needs about {(needed + LEAST_FREE_BYTES) / 1e6:,.0f} MB in {folder}, but {free / 1e6:,.0f} MB are "
            "free. Free some, or choose another folder with --out or --store."
        )


def find_gpus() -> int:
    """GPUs of this machine, without torch; `CUDA_VISIBLE_DEVICES` counts."""
    return devices.here()


@dataclass
class Outcome:
    """What became of a run."""

    run: RunFolder
    code: int
    counts: dict[str, int]
    trained: int
    failures: list[tuple[str, str, str, str]]  # Role, key, why, log.
    unrunnable: int
    summary: Any = None
    message: str = ""
    nothing: str = ""
    elsewhere: str = ""  # Who trained it, when that was not this process.
    ended_early: bool = False  # Drained or halted: Ray ends with this process.
    store: Path | None = None  # That was trained into.


def conduct(
    request: Request,
    place: Place,
    say: Say,
    *,
    retry_failed: bool = False,
    quiet: bool = False,
    report: bool = True,
    run_id: str | None = None,
    machine: Machine | None = None,
    train: bool = True,
) -> Outcome:
    """Do what was asked and return what became of it.

    Args:
        request: What was asked.
        place: Where runs and store live.
        say: Tells the person what takes time.
        retry_failed: Whether stages that failed for good start anew.
        quiet: Whether no progress is shown.
        report: Whether the page is written at the end.
        run_id: The run to continue, when it is known.
        machine: Where stages run; without one, this machine.
        train: Whether missing stages are trained; without that the run is only brought up to what the store has.

    Raises:
        UsageError, DataError, MachineError: When it cannot start; nothing was started then.
    """
    ready = prepare(request, place, say)
    run = run_folder(ready, place, run_id)
    # On a cluster the last driver may have died on another machine, which only its silence tells.
    patience = machine.lock_patience if machine is not None else (0.0 if train else LATE_FILES_SECONDS)
    driver = run.drive(patience=patience, say=say, slots=_slots(request), job=os.environ.get("SLURM_JOB_ID", ""))
    try:
        return _conduct(
            ready,
            run,
            driver,
            say,
            retry_failed=retry_failed,
            quiet=quiet,
            report=report,
            machine=machine,
            train=train,
        )
    finally:
        driver.release()


def run_folder(ready: Prepared, place: Place, run_id: str | None) -> RunFolder:
    """The run a request is or continues, its folders made."""
    place.prepare()
    identity = run_id or ready.resolved.run_id(ready.data["fingerprint"])
    if ready.request.new and run_id is None:
        base, number = identity, 2
        while (place.runs / identity).exists():
            identity = f"{base}-{number}"
            number += 1
    run = RunFolder(place.runs / identity)
    _room(ready.store.root, ready.survey.bytes, "This plan")
    run.prepare()
    plugin_files.keep(run, _plugins(ready))
    return run


def _plugins(ready: Prepared) -> list[Origin]:
    request, preset = ready.request, ready.resolved.preset
    data = [request.data or preset.data, tested_data(request, preset)]
    return plugin_files.used(ready.study.name, data, ready.resolved.plugins(ready.data["fingerprint"]))


def _slots(request: Request) -> int:
    return request.jobs or cores.available()


def _conduct(
    ready: Prepared,
    run: RunFolder,
    driver: Any,
    say: Say,
    *,
    retry_failed: bool,
    quiet: bool,
    report: bool,
    machine: Machine | None,
    train: bool,
) -> Outcome:
    request, study, resolved, store, data = ready.request, ready.study, ready.resolved, ready.store, ready.data
    from sweeps.runs.record_writer import Projector
    from sweeps.engine.sampling import GridCells, SampledCells

    before = _before(run, say)
    revision = provenance.revision()
    if machine is None:
        run.stop_file.unlink(
            missing_ok=True
        )  # On a cluster that was done at the submission: a stop may be meant for us.
    content = describe(ready, run, before, revision)
    graph = StageGraph()
    listener: GridCells | SampledCells
    if study.sampled:
        projector = Projector(run, study.name, data["name"], store, graph)

        def on_cells(cells: list[plan.Cell], trials: list[plan.Trial]) -> None:
            content["cells"] = [_cell(cell, None) for cell in cells]
            content["trials"] = [vars(trial) for trial in trials]
            run.write(content)
            register(store, run, content)

        run.write(content)
        register(store, run, content)
        if retry_failed:
            _forget_all(store, before)
        listener = SampledCells(
            resolved,
            data["fingerprint"],
            graph,
            store,
            run.journal,
            run.id,
            _recording(projector),
            on_cells,
            known=before,
            say=say,
        )
    else:
        graph, trials, cells = _write_grid(ready, run, content, before, retry_failed=retry_failed)
        projector = Projector(run, study.name, data["name"], store, graph)
        record = _recording(projector)
        listener = GridCells(resolved, cells, trials, graph, store, run.journal, run.id, record, say=say)
    known_failures(graph, store)
    trained, halted, drained, warned = 0, "", False, False
    unfinished = not (graph.finished and listener.exhausted())
    if unfinished and train:
        from sweeps.engine import ray_tune, temp_room
        from sweeps.engine.eta import StageSeconds
        from sweeps.engine.progress import Progress

        temp_room.check()
        gpus = request.gpus if request.gpus is not None else find_gpus()
        slots = _slots(request)
        where = (
            f"{'GPU' if gpus else 'CPU'}, {slots} at a time" if machine is None else f"{request.on}, as workers join"
        )
        title = (
            f"{study.name} · {resolved.preset_name}: {resolved.cell_count} cells x {len(resolved.seeds)} seeds on "
            f"{data['name']}, {where}"
        )
        packed = open_packed(ready.info.path) if ready.info is not None else None
        work = StageSeconds(graph, data, packed, cost.measured_rates(store, store.keys()))
        show = Progress(title, lambda: listener.leader, quiet, work, ready.survey.seconds, listener.exhausted)
        share = request.gpu_share if gpus else 0.0
        state = ray_tune.execute(
            graph,
            store,
            run,
            listener,
            driver=driver,
            machine=machine or LocalMachine(slots, gpus),
            needs=resources.parse(request.needs, study.recipe.roles, share),
            revision=revision,
            display=show,
            resume_line=f"Resume: {run.again('resume', store=store.root)}",
        )
        trained, halted, drained, warned = state.trained, state.halted, state.draining, state.warned
    again = machine is not None and warned and stop_content(run).get("warned")
    with contextlib.suppress(OSError):
        run.stop_file.unlink(missing_ok=True)
    try:
        projector.write_missing()
    except (OSError, SweepsError) as error:
        halted = halted or str(error)
    for line in record_lines(projector):
        say(line)
    whys = {node.key: node.why for node in graph.in_state("failed")} | projector.damaged
    failures = [
        (n.role, n.key, whys[n.key], f"{run.path}/logs/{n.role}-{n.key}.log")
        for n in graph.nodes.values()
        if n.key in whys
    ]
    outcome = Outcome(
        run=run,
        code=0,
        counts=dict(graph.counts),
        trained=trained,
        failures=failures,
        unrunnable=graph.counts["unrunnable"],
        store=store.root,
    )
    outcome.ended_early = drained or bool(halted)
    if halted:
        outcome.code, outcome.message = (3 if not halted.startswith("an unexpected") else 1), halted
        return outcome
    if drained:
        outcome.code = machine.lost_code if machine is not None and again else 130
        return outcome
    if failures:
        outcome.code = 1
    if unfinished and not train:
        outcome.code = 130
        return outcome
    if report:
        try:
            outcome.summary = fresh_report(run)
        except NothingToReport as error:
            outcome.nothing = str(error)
            outcome.code = outcome.code or 5
    return outcome


def _before(run: RunFolder, say: Say) -> dict[str, Any]:
    """What run.json says before it is written anew; a damaged one is kept beside, and what is whole in it used."""
    if moved := writable_files.make_way(run.path / run_file.NAME):
        say(f"What lay in the place of run.json of {run.id} was none; it is kept as {moved.name}. It is written anew.")
    content, harm = run_file.salvaged(run.path)
    if harm:
        copy = writable_files.keep_damaged(run.path / run_file.NAME)
        say(f"run.json of {run.id} was damaged: {harm}. It is written anew; as it was it is kept as {copy.name}.")
    return content


def write_plan(ready: Prepared, run: RunFolder, *, retry_failed: bool, say: Say) -> bool:
    """Write what will be done into the run's folder, for jobs that begin later; true when nothing is left to do."""
    before = _before(run, say)
    content = describe(ready, run, before, provenance.revision())
    if ready.study.sampled:
        run.write(content)
        register(ready.store, run, content)
        if retry_failed:
            _forget_all(ready.store, before)
        return False
    graph, _, _ = _write_grid(ready, run, content, before, retry_failed=retry_failed)
    known_failures(graph, ready.store)
    return graph.finished


def _write_grid(
    ready: Prepared, run: RunFolder, content: dict[str, Any], before: dict[str, Any], *, retry_failed: bool
) -> tuple[StageGraph, list[plan.Trial], list[plan.Cell]]:
    graph, trials, cells = plan.build_graph(ready.resolved, ready.data["fingerprint"], ready.store)
    _merge_trials(content, before, trials, cells, ready.resolved)
    run.write(content)
    register(ready.store, run, content)
    if retry_failed:
        for node in graph.nodes.values():
            ready.store.forget_failures(node.key)
    return graph, trials, cells


def _recording(projector: Any) -> Callable[[StageNode], None]:
    def record(node: StageNode) -> None:
        try:
            projector.write(node)
        except SweepsError as error:
            sys.stderr.write(f"{error}\n")

    return record


def known_failures(graph: StageGraph, store: Store) -> None:
    """End stages whose failures, kept in the store, say that trying again cannot help.

    What lay on the disk or the machine may be mended since: such failures are forgotten, and the stage goes again.
    """
    with contextlib.suppress(OSError):
        busy = {entry.name for entry in os.scandir(store.work) if entry.is_dir()}
        for node in list(graph.nodes.values()):
            if node.key in busy and node.state in ("waiting", "ready"):
                failures = store.failures(node.key)
                why = verdict(failures)
                if why is not None and verdict([f for f in failures if not is_mendable(f)]) is None:
                    store.forget_failures(node.key)
                elif why is not None:
                    graph.set(node.key, "failed", why)


def _forget_all(store: Store, before: dict[str, Any]) -> None:
    for trial in before.get("trials", ()):
        for key in trial["stages"].values():
            store.forget_failures(key)


def _cell(cell: plan.Cell, baseline: str | None) -> dict[str, Any]:
    plain = {k: list(v) if isinstance(v, tuple) else v for k, v in cell.point.items()}
    return {"id": cell.id, "parameters": plain, "label": cell.label, "baseline": baseline}


def _merge_trials(
    content: dict[str, Any],
    before: dict[str, Any],
    trials: list[plan.Trial],
    cells: list[plan.Cell],
    resolved: plan.Resolved,
) -> None:
    """Cells and trials of this request, and the seeds of earlier ones: what was asked once stays in the answer."""
    baselines = {cell.id: resolved.baseline(cell) for cell in cells}
    content["cells"] = [
        _cell(cell, b.id if (b := baselines[cell.id]) is not None and b.id != cell.id else None) for cell in cells
    ]
    reference = next((b.id for b in baselines.values() if b is not None), None)
    content["baseline"] = reference
    asked = {(trial.cell, trial.seed) for trial in trials}
    known = {cell.id for cell in cells}
    earlier = [
        trial
        for trial in before.get("trials", ())
        if (trial["cell"], trial["seed"]) not in asked and trial["cell"] in known
    ]
    content["trials"] = earlier + [vars(trial) for trial in trials]
    content["seeds"] = sorted({trial["seed"] for trial in content["trials"]})


def describe(ready: Prepared, run: RunFolder, before: dict[str, Any], revision: str) -> dict[str, Any]:
    """run.json, but for cells and trials."""
    request, study, resolved = ready.request, ready.study, ready.resolved
    commands = list(before.get("commands", ()))
    command = request.command(Place(run.path.parent, ready.store.root))
    if not commands or commands[-1]["command"] != command:
        commands.append({"command": command, "date": now()})
    axes = {name: [list(v) if isinstance(v, tuple) else v for v in values] for name, values in resolved.axes.items()}
    parameters = {k: list(v) if isinstance(v, tuple) else v for k, v in resolved.parameters.items()}
    of_plugins = plugin_files.rows(_plugins(ready), before)
    return {
        "schema": RUN_SCHEMA,
        "run": run.id,
        "study": study.name,
        "title": study.title,
        "paper": study.paper,
        "figure": study.figure,
        "question": study.question,
        "preset": resolved.preset_name,
        "preset_note": resolved.preset.note,
        "departures": list(resolved.preset.departures),
        "data": ready.data,
        "test_data": ready.test_data,
        "seeds": sorted(set(before.get("seeds", ())) | set(resolved.seeds)) if study.sampled else resolved.seeds,
        "trials_asked": resolved.trials,
        "parameters": parameters,
        "axes": axes,
        "pinned": resolved.pinned,
        "ranges": plan.sampled_names(resolved.space),
        "baseline": None,
        "factors": None if study.factor is None else list(study.factor.levels),
        **({} if study.factor is None else {"factor": _factor_words(study)}),
        "task": resolved.task,
        "metric": METRICS[resolved.task],
        "sampled": study.sampled,
        "objectives": list(resolved.objectives) if len(resolved.objectives) > 1 else None,
        "report": study.report,
        "arms": {name: arm_words(resolved.arms[name], resolved.arms) for name in resolved.axes.get(ARM, ())},
        **({"left_out": resolved.left_out} if resolved.left_out else {}),
        "reference": (study.baseline or {}).get(ARM),
        "tuned": TUNING if TUNING in resolved.axes else None,
        "published": [vars(number) for number in study.published],
        "claims": [claim.plain() for claim in study.claims],
        **({"ours": list(study.ours)} if study.ours else {}),
        **({"paper_data": list(study.paper_data)} if study.paper_data else {}),
        "cells": before.get("cells", []),
        "trials": before.get("trials", []),
        "commands": commands,
        "request": vars(request) | {"new": False},
        whereabouts.KEY: whereabouts.recorded(run.path, ready.store.root),
        **({"plugins": of_plugins} if of_plugins else {}),
        "revision": revision,
        "versions": provenance.versions(),
        "started": before.get("started") or now(),
    }


def _factor_words(study: Study) -> dict[str, Any]:
    """What run.json says of a factorial's factor, its parameter by the name that cells give it."""
    assert study.factor is not None
    return study.factor.plain() | {"parameter": study.recipe.canonical(study.factor.parameter)}


def arm_words(arm: Arm, arms: Mapping[str, Arm]) -> dict[str, Any]:
    """What run.json says of an arm; that whose compute it may spend need not be in the run itself."""
    return {
        "title": arm.title,
        "kind": arm.kind,
        "parameters": dict(arm.parameters),
        "tuning": [dict(trial) for trial in arm.tuning],
        "compute_of": arm.compute_of or None,
        "compute_parameters": dict(arms[arm.compute_of].parameters) if arm.compute_of else None,
    }


def register(store: Store, run: RunFolder, content: dict[str, Any]) -> None:
    """Tell the store which keys a run rests on, so that garbage collection leaves them."""
    folder = store.root / ".runs"
    make_folder(folder)
    keys = sorted({key for trial in content["trials"] for key in trial["stages"].values()})
    data = [part["fingerprint"] for part in (content["data"], content.get("test_data")) if part]
    name = hashlib.sha256(str(run.path).encode()).hexdigest()[:12]
    write_atomically(
        folder / f"{run.id}-{name}.json",
        json.dumps({"path": str(run.path), "keys": keys, "data": data[0], "more_data": data[1:]}),
        sync=False,
    )
