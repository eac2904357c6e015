"""Reads a run's folder: `run.json`, the records, and one row per trial made from both.

A run may still be going on, so every file that cannot be read is counted and named, and none stops the
reading.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from analysis import record_files, run_file
from analysis.errors import NothingToReport
from analysis.frames.factor import factor_of
from analysis.frames.measures import words_of
from analysis.frames.roles import Roles, roles_of
from analysis.records import EVALUATION, OUTPUTS, RECORDS_FOLDER

CPU_TIME, WALL_TIME = "CPU", "wall"  # Values of `train_clock`.

TRIAL_SCHEMA: dict[str, Any] = {
    "cell": pl.String,
    "label": pl.String,
    "levels": pl.String,  # Of the study's factor, those that are on; null in studies without one.
    "seed": pl.Int64,
    "status": pl.String,
    "failed_stage": pl.String,
    "arm": pl.String,  # Null in studies without arms.
    "resolution": pl.Int64,  # Side in pixels of what the measured network reads.
    "test_resolution": pl.Int64,  # Side the test images were reduced to before that; null: only the former.
    "metric": pl.String,
    "score": pl.Float64,  # The metric on the test split, a fraction.
    "validation_score": pl.Float64,
    "metrics": pl.String,  # JSON object of every number of the evaluation.
    "correct": pl.Int64,
    "items": pl.Int64,
    "teacher": pl.String,
    "teacher_validation_score": pl.Float64,
    "macs": pl.Int64,
    "parameters_count": pl.Int64,
    "train_seconds": pl.Float64,  # Of the measured network, without its guides, by `train_clock`.
    "train_clock": pl.String,  # "CPU", or "wall" on GPUs and where the records of a run do not tell CPU time.
    "epochs": pl.Int64,
    "data": pl.String,
    "numerics": pl.String,
    "key": pl.String,  # Of the evaluation.
    "network": pl.String,  # Of the stage that made the measured network.
    "error": pl.String,
    "error_type": pl.String,
    "log": pl.String,
}


@dataclass(frozen=True, kw_only=True)
class RunData:
    """A run as read from disk."""

    folder: Path
    run: dict[str, Any]
    records: pl.DataFrame  # The columns of `record_parquet.SHORT`, one row per stage, sorted by stage and key.
    files: Mapping[str, str] = field(default_factory=dict)  # Key of a record -> name of its file.
    files_listed: int = 0
    files_read: int = 0
    unreadable: dict[str, str] = field(default_factory=dict)  # File name -> why it was left out.
    odd: dict[str, str] = field(default_factory=dict)  # File name -> what was strange though it was read.

    def histories(self, keys: Collection[str]) -> Iterator[pl.DataFrame]:
        """`key` and `history` of the records with these keys, a part of them at a time."""
        names = [self.files[key] for key in dict.fromkeys(keys) if key in self.files]
        return record_files.histories(self.folder / RECORDS_FOLDER, names)


def load_run(run_folder: Path) -> RunData:
    """Read `run.json` and every record of a run.

    Raises:
        NothingToReport: If the folder has no sound `run.json`, or its records cannot be listed. Damaged records are
            named in the result instead.
    """
    folder = Path(run_folder)
    run = run_file.read(folder)
    records = folder / RECORDS_FOLDER
    try:
        names = record_files.names_of(records)
    except OSError as error:
        raise NothingToReport(f"The records of '{folder.name}' cannot be listed: {error.strerror}.") from error
    found = record_files.read_all(records, names)
    return RunData(
        folder=folder,
        run=run,
        records=found.frame,
        files=found.files,
        files_listed=len(names),
        files_read=len(names) - len(found.unreadable),
        unreadable={_printable(name): why for name, why in found.unreadable.items()},
        odd={_printable(name): why for name, why in found.odd.items()},
    )


def _printable(name: str) -> str:
    """A file's name as text that can be written; bytes that are no text are spelled out."""
    return name.encode("utf-8", "backslashreplace").decode()


def cell_table(run: Mapping[str, Any]) -> pl.DataFrame:
    """One row per cell, in the run's order: `cell`, `label`, `levels` (or null), `parameters` (JSON)."""
    rows = []
    factor = factor_of(run)
    for cell in run.get("cells") or []:
        parameters = cell.get("parameters") or {}
        name = factor.held_in(parameters)
        levels = None if name is None or parameters[name] is None else str(parameters[name])
        label = str(cell.get("label") or levels or cell["id"])
        rows.append((str(cell["id"]), label, levels, json.dumps(parameters, sort_keys=True)))
    schema = {"cell": pl.String, "label": pl.String, "levels": pl.String, "parameters": pl.String}
    return pl.DataFrame(rows, schema=schema, orient="row")


def trial_table(data: RunData) -> pl.DataFrame:
    """One row per trial (cell and seed) the run asks for, with the columns of TRIAL_SCHEMA.

    `status` is `completed`, `failed` (also when an earlier stage of its chain failed, or the score is not
    finite), `pruned` (with all seeds of its cell that had not finished), or `missing` (not finished yet).
    `score` is null unless completed; `validation_score` of a pruned trial is the last one it reported. Rows
    follow the cells' order, then the seed.
    """
    records = _by_key(data)
    # Parameters are read once for each cell, not for every seed.
    cells = {
        row["cell"]: row | {"point": as_object(row["parameters"])} for row in cell_table(data.run).iter_rows(named=True)
    }
    clock, roles = train_clock(data.records), roles_of(data.run)
    rows = [_trial_row(trial, records, cells, data.run, clock, roles) for trial in _trials(data)]
    # The other seeds of a pruned cell never start; they are not still to come.
    pruned = {row["cell"] for row in rows if row["status"] == "pruned"}
    for row in rows:
        if row["status"] == "missing" and row["cell"] in pruned:
            row["status"] = "pruned"
    position = {cell: index for index, cell in enumerate(cells)}
    rows.sort(key=lambda row: (position.get(row["cell"], len(position)), row["cell"], row["seed"]))
    return pl.DataFrame(rows, schema=TRIAL_SCHEMA, orient="row")


Row = Mapping[str, Any]
_NEEDED = (
    *("key", "stage", "status", "parents", "orders", "metric", "score", "validation_score", "metrics", "top1"),
    *("validation_top1", "correct", "items", "epochs", "seconds", "cpu_seconds", "numerics", "data"),
    *("parameters_count", "macs", "teacher", "error", "error_type", "log"),
)


def _by_key(data: RunData) -> dict[str, dict[str, Any]]:
    """What trials are made of, by the key of the stage: with the specs of evaluations and pruned histories only."""
    rows = {row["key"]: row for row in data.records.select(_NEEDED).iter_rows(named=True)}
    evaluations = data.records.filter(pl.col("stage") == EVALUATION).select("key", "parameters")
    for key, parameters in evaluations.iter_rows():
        spec = as_object(parameters)
        rows[key]["sides"] = {name: spec[name] for name in ("resolution", "test_resolution") if name in spec}
    pruned = [key for key, row in rows.items() if row["status"] == "pruned" and _validation(row) is None]
    for part in data.histories(pruned):
        for key, history in part.iter_rows():
            rows[key]["history"] = history
    return rows


def _trials(data: RunData) -> list[dict[str, Any]]:
    """What `run.json` lists; a run that lists none is read back from its evaluation records."""
    listed = data.run.get("trials")
    if listed:
        return list(listed)
    found = []
    for row in data.records.filter(pl.col("stage") == EVALUATION).iter_rows(named=True):
        for cell in row["cells"] or []:
            found.append({"cell": cell, "seed": row["seed"] or 0, "stages": {EVALUATION: row["key"]}})
    return found


def train_clock(records: pl.DataFrame) -> str:
    """By which time trainings are told, one for all of a run: wall time grows with what else a machine does.

    CPU time says nothing of a GPU, and records of the first releases lack it.
    """
    trained = records.filter(pl.col("status") == "completed", pl.col("seconds").is_not_null())
    on_gpu = trained["device"].str.starts_with("cuda").any()
    return WALL_TIME if on_gpu or trained["cpu_seconds"].has_nulls() or trained.is_empty() else CPU_TIME


def _trial_row(
    trial: Row, records: Mapping[str, Row], cells: Mapping[str, Row], run: Row, clock: str, roles: Roles
) -> dict[str, Any]:
    stages: Mapping[str, str] = trial.get("stages") or {}
    cell = str(trial["cell"])
    known = cells.get(cell, {})
    point = known.get("point") or {}
    evaluation = records.get(stages.get(EVALUATION, ""), {})
    measured = _measured(stages, evaluation, records, roles)
    row: dict[str, Any] = dict.fromkeys(TRIAL_SCHEMA)
    row.update(cell=cell, label=known.get("label", cell), seed=int(trial["seed"]), status="missing")
    # What does not vary names no cell. The record's column is called after the first factor there was.
    row["levels"] = known.get("levels") if cell in cells else evaluation.get("orders")
    row["arm"] = None if point.get("arm") is None else str(point["arm"])
    row["resolution"], row["test_resolution"] = _sides(evaluation, point, run, roles)
    row["metric"] = evaluation.get("metric") or run.get("metric")
    row["teacher"] = evaluation.get("teacher") or stages.get(roles.teacher)
    row["teacher_validation_score"] = _validation(records.get(row["teacher"] or "", {}))
    row["key"], row["network"] = stages.get(EVALUATION), measured.get("key")
    for name in ("macs", "parameters_count"):
        row[name] = evaluation.get(name) if evaluation.get(name) is not None else measured.get(name)
    row["epochs"] = measured.get("epochs")
    row["train_clock"] = clock
    row["train_seconds"] = _finite(measured.get("cpu_seconds" if clock == CPU_TIME else "seconds"))
    # By the record's own word: several parts of kept outputs are one kind of stage.
    known_stages = (records[key] for key in stages.values() if key in records)
    chain = _in_order(known_stages, roles)
    bad = [item for item in chain if item["status"] != "completed"]
    if bad:
        # The last pruned or first failed stage explains the trial; what follows it never started.
        first = bad[0]
        row.update(status="pruned" if first["status"] == "pruned" else "failed", failed_stage=first["stage"])
        row.update({name: first[name] for name in ("error", "error_type", "log")})
        if row["status"] == "pruned":
            row["validation_score"] = _last_validation(first, validation_names(run))
    elif evaluation:
        names = ("correct", "items", "data", "numerics", "log", "metrics")
        row.update({name: evaluation[name] for name in names})
        row["validation_score"] = _first(_validation(evaluation), _validation(measured))
        given = evaluation["top1"] if evaluation["score"] is None else evaluation["score"]
        row["score"] = _finite(given)
        row["status"] = "completed"
        if row["score"] is None:
            row.update(status="failed", failed_stage=EVALUATION, error_type="NonFinite")
            row["error"] = f"The test score ({row['metric'] or 'top1'}) is {given}, not a number."
    return row


def _in_order(rows: Iterable[Row], roles: Roles) -> list[Row]:
    """Records of one trial's stages, parents first: roles that the run does not name stay behind what comes before them."""
    placed, place, known = [], 0, roles.place
    for row in rows:
        place = known.get(row["stage"], place)
        placed.append((place, row))
    return [row for _, row in sorted(placed, key=lambda pair: pair[0])]


def _measured(stages: Mapping[str, str], evaluation: Row, records: Mapping[str, Row], roles: Roles) -> Row:
    """The record of the network that was evaluated, or of the last one trained; empty if there is none."""
    # A trial lists its stages parents first.
    trained = [
        stages[name] for name in reversed(list(stages)) if name != EVALUATION and not name.startswith(f"{OUTPUTS}-")
    ]
    about = [stages[role] for role in roles.result if role in stages]
    keys = [*(evaluation.get("parents") or ()), *about, *trained]
    return next((records[key] for key in keys if key in records), {})


def native_side(run: Row) -> int | None:
    """The shorter side of the data set's images, in pixels."""
    data = run.get("data") or {}
    sides = [data[name] for name in ("height", "width") if isinstance(data.get(name), int)]
    return min(sides) if sides else None


def _sides(evaluation: Row, point: Row, run: Row, roles: Roles) -> tuple[int | None, int | None]:
    """Side the network reads and side the test images were reduced to before; the record knows, else the cell."""
    spec = evaluation.get("sides") or {}
    own = spec.get("resolution")
    if "resolution" not in spec:
        # The network's own comes before those of its guides, which a grid may vary too.
        places = {role: place for place, role in enumerate(roles.behind, start=1)}
        first = sorted(
            (name for name in point if name.split(".")[-1] == "resolution"),
            key=lambda name: (places.get(name.partition(".")[0], 0), name),
        )
        own = point[first[0]] if first else None
    tested = spec.get("test_resolution")
    if tested is None:
        tested = next((point[name] for name in sorted(point) if name.split(".")[-1] == "test_resolution"), None)
    own = native_side(run) if own is None else own
    return _whole(own), _whole(tested)


def as_object(text: str | None) -> dict[str, Any]:
    """The JSON object in a column; empty when there is none or it is damaged."""
    try:
        found = json.loads(text) if text else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _validation(record: Row) -> float | None:
    return _first(_finite(record.get("validation_score")), _finite(record.get("validation_top1")))


def _last_validation(record: Row, names: Sequence[str]) -> float | None:
    if (value := _validation(record)) is not None:
        return value
    history = record.get("history") or []
    logged = {item["name"] for item in history}
    name = next((name for name in names if name in logged), None)
    seen = [(item["epoch"], item["value"]) for item in history if item["name"] == name and None not in item.values()]
    return _finite(max(seen)[1]) if seen else None


def validation_names(run: Row) -> tuple[str, ...]:
    """The columns of a history that may be the validation score, the best first: the metric's own, else the task's."""
    return tuple(
        f"validation/{word}" for word in ("score", str(run.get("metric") or "top1"), *words_of(run).validation)
    )


def _first(*values: float | None) -> float | None:
    return next((value for value in values if value is not None), None)


def _whole(value: Any) -> int | None:
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _finite(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
