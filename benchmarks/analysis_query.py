"""A question to 2,000 trials of 100 epochs: our records against Ray's ResultGrid (goal G7).

    python -m benchmarks.analysis_query [--trials 2000] [--epochs 100] [--folder DIR] [--quick] [--json FILE]

Mean validation accuracy by orders, resolution and epoch, from a folder made here (250 MB at the full size): Ray's
layout, with its experiment state and a result.json per trial, read through `ResultGrid`; the same result.json files
scanned with Polars; and our records, one Parquet file per trained stage. Each reading is a fresh process on one
thread, imports and all of Ray's own start-up not counted; memory is its peak beyond what it had before it began. All
give the same table. Needs Linux.
"""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import measure
from benchmarks.measure import Row

ORDERS = (
    "none",
    "1",
    "2",
    "3",
    "C",
    "1+2",
    "1+3",
    "1+C",
    "2+3",
    "2+C",
    "3+C",
    "1+2+3",
    "1+2+C",
    "1+3+C",
    "2+3+C",
    "1+2+3+C",
)
RESOLUTIONS = (8, 12, 16, 24, 32)
TERMS = ("point", "pair", "angle", "center")
EXPERIMENT = "ray"
TABLE = tuple[tuple[str, int, int, float], ...]


def histories(trials: int, epochs: int) -> Iterator[tuple[str, str, int, list[dict[str, float]]]]:
    """(name, orders, resolution, one row per epoch) of each trial, as a training of HORKD logs them."""
    random = np.random.default_rng(0)
    names = ["train/loss", "train/cross_entropy", "train/top1", "train/spread", "learning_rate", "validation/loss"]
    names += [f"train/{term}{kind}" for term in TERMS for kind in ("", "_weighted")] + ["validation/top1"]
    for number in range(trials):
        values = random.random((epochs, len(names)))
        rows = [{"epoch": epoch + 1, **dict(zip(names, row, strict=True))} for epoch, row in enumerate(values.tolist())]
        yield f"{number:08x}", ORDERS[number % len(ORDERS)], RESOLUTIONS[number // len(ORDERS) % len(RESOLUTIONS)], rows


def make(folder: Path, trials: int, epochs: int) -> None:
    """Write both layouts; a trial has the same numbers in both."""
    from analysis.records import RUN_FILE, write_record

    states = _RayStates(folder)
    records = folder / "run" / "records"
    for name, orders, resolution, rows in histories(trials, epochs):
        states.add(name, {"horkd": {"orders": orders}, "resolution": resolution}, rows)
        points = [
            {"epoch": row["epoch"], "name": name_, "value": value}
            for row in rows
            for name_, value in row.items()
            if name_ != "epoch"
        ]
        record = {
            "stage": "student",
            "key": name,
            "cells": [name],
            "status": "completed",
            "parameters": json.dumps({"horkd.orders": orders, "resolution": resolution}),
            "orders": orders,
            "history": points,
        }
        write_record(records / f"{name}.parquet", record)
    (folder / "run" / RUN_FILE).write_text(json.dumps({"study": "made_up"}))
    states.finish()


class _RayStates:
    """Ray's folder of an experiment: a directory per trial and one state of them all."""

    def __init__(self, folder: Path) -> None:
        from ray.train._internal.storage import StorageContext

        self.storage = StorageContext(str(folder), EXPERIMENT)
        self.root = folder / EXPERIMENT
        self.root.mkdir(parents=True, exist_ok=True)  # Ray has made it by now.
        self.states: list[tuple[str, str]] = []

    def add(self, name: str, config: dict[str, Any], rows: list[dict[str, float]]) -> None:
        """A finished trial and its result.json."""
        from ray.tune import PlacementGroupFactory
        from ray.tune.experiment import Trial

        trial = Trial("sweep", config=config, trial_id=name, storage=self.storage, stub=True)
        trial.__dict__["placement_group_factory"] = PlacementGroupFactory([{"CPU": 1}])  # Its declared type is None.
        trial.status = Trial.TERMINATED
        assert trial.storage is not None
        trial.storage.trial_dir_name = f"sweep_{name}"
        own = self.root / trial.storage.trial_dir_name
        own.mkdir()
        lines = [{**row, **self._added(name, config, number)} for number, row in enumerate(rows, start=1)]
        trial.run_metadata.last_result = lines[-1]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (own / "result.json").write_text(text)
        self.states.append(trial.get_json_state())

    def _added(self, name: str, config: dict[str, Any], number: int) -> dict[str, Any]:
        """What Ray adds to every reported row."""
        return {
            "timestamp": 1_790_000_000 + number,
            "checkpoint_dir_name": None,
            "done": False,
            "training_iteration": number,
            "trial_id": name,
            "date": "2026-01-01_00-00-00",
            "time_this_iter_s": 1.25,
            "time_total_s": 1.25 * number,
            "pid": 4242,
            "hostname": "localhost",
            "node_ip": "127.0.0.1",
            "config": config,
            "time_since_restore": 1.25 * number,
            "iterations_since_restore": number,
            "experiment_tag": f"1_{name}",
        }

    def finish(self) -> None:
        """Write the state that a `ResultGrid` begins with."""
        state = {"trial_data": self.states, "runner_data": {}, "stats": {}}
        (self.root / "experiment_state-2026-01-01_00-00-00.json").write_text(json.dumps(state))


def through_result_grid(folder: Path) -> TABLE:
    """Ray's own way: each result's frame, joined and grouped with pandas."""
    import pandas as pd
    from ray.tune import ExperimentAnalysis, ResultGrid

    frames = []
    grid = ResultGrid(ExperimentAnalysis(str(folder / EXPERIMENT)))
    for number in range(len(grid)):
        result = grid[number]
        frame = result.metrics_dataframe
        assert frame is not None and result.config is not None
        frames.append(frame.assign(orders=result.config["horkd"]["orders"], resolution=result.config["resolution"]))
    by = ["orders", "resolution", "epoch"]
    means = pd.concat(frames).groupby(by)["validation/top1"].mean().reset_index().sort_values(by)
    return tuple(means.itertuples(index=False, name=None))


def through_json(folder: Path) -> TABLE:
    """Polars over Ray's files, an explicit list of them: names of trials may hold what looks like a pattern."""
    import polars as pl

    paths = sorted((folder / EXPERIMENT).glob("*/result.json"))
    config = pl.Struct({"horkd": pl.Struct({"orders": pl.String}), "resolution": pl.Int64})
    wanted: Any = {"epoch": pl.Int64, "validation/top1": pl.Float64, "config": config}
    rows = pl.scan_ndjson(paths, schema=wanted).select(
        pl.col("config").struct.field("horkd").struct.field("orders"),
        pl.col("config").struct.field("resolution"),
        "epoch",
        pl.col("validation/top1").alias("value"),
    )
    return _means(rows)


def through_records(folder: Path) -> TABLE:
    """Our records, as reports read them: every file checked, histories exploded, one name kept."""
    import polars as pl

    from analysis.frames.curves import history_points
    from analysis.frames.roles import roles_of
    from analysis.load import load_run

    run = load_run(folder / "run")
    records = run.records.lazy()
    about = records.select(
        "key", "orders", pl.col("parameters").str.json_path_match("$.resolution").cast(pl.Int64).alias("resolution")
    )
    trained = records.select("key", "stage", "cells")
    learners = roles_of(run.run).learners
    parts = [
        history_points(part.lazy().join(trained, on="key"), learners)
        .filter(pl.col("name") == "validation/top1")
        .collect()
        for part in run.histories(run.records["key"].to_list())
    ]
    return _means(pl.concat(parts).lazy().join(about, on="key"))


def _means(rows: Any) -> TABLE:
    import polars as pl

    by = ["orders", "resolution", "epoch"]
    return tuple(rows.group_by(by).agg(pl.col("value").mean()).sort(by).collect().rows())


WAYS: dict[str, Callable[[Path], TABLE]] = {
    "ResultGrid": through_result_grid,
    "result.json": through_json,
    "records": through_records,
}


def read(way: str, folder: str) -> dict[str, float]:
    """CPU seconds and peak MiB of one reading in this process, which must be fresh, and the sum of its means."""
    # Loaded before the clock runs: what a long session or a notebook has anyway.
    if way == "ResultGrid":
        import pandas  # noqa: F401
        from ray.tune import ExperimentAnalysis, ResultGrid  # noqa: F401
    else:
        import polars  # noqa: F401

        import analysis.frames.curves
        import analysis.load  # noqa: F401
    found: list[TABLE] = []
    began = time.process_time()
    memory = measure.extra_memory(lambda: found.append(WAYS[way](Path(folder))))
    seconds = time.process_time() - began
    return {"seconds": seconds, "memory": memory, "rows": len(found[0]), "sum": sum(line[3] for line in found[0])}


def rows(folder: Path, trials: int, epochs: int, rounds: int) -> list[Row]:
    """The rows of all ways; every round reads once each way."""
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for _ in range(rounds):
        for way, readings in found.items():
            readings.append(measure.fresh("benchmarks.analysis_query:read", way, str(folder)))
    first = found["ResultGrid"][0]
    for way, readings in found.items():
        if readings[0]["rows"] != first["rows"] or abs(readings[0]["sum"] - first["sum"]) > 1e-6 * first["sum"]:
            raise RuntimeError(f"{way} read {readings[0]}, but ResultGrid {first}: they must give the same table.")
    setting = f"{trials:,} trials x {epochs} epochs"
    made = []
    for way, wanted in (("records", 100.0), ("result.json", 8.0)):
        what = {
            "records": "analysis: our records against ResultGrid",
            "result.json": "analysis: Polars on Ray's files",
        }[way]
        seconds = [[reading["seconds"] for reading in found[side]] for side in ("ResultGrid", way)]
        made.append(measure.row("G7", what, setting, *seconds, wanted=wanted if trials >= 2000 else None))
        memory = [[reading["memory"] for reading in found[side]] for side in ("ResultGrid", way)]
        made.append(
            measure.row("G7", f"{what}, memory", setting, *memory, unit="MiB", wanted=8.0 if trials >= 2000 else None)
        )
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the folder, measure and print."""
    parser = measure.parser(__doc__)
    parser.add_argument("--trials", type=int, default=None, help="2000; with --quick 200")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--folder", type=Path, help="where the layouts are made, and kept; by default removed again")
    options = parser.parse_args(arguments)
    trials = options.trials or (200 if options.quick else 2000)
    found = measure.facts()
    with contextlib.ExitStack() as stack:
        folder = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="analysis-")))
        if not (folder / EXPERIMENT).exists():
            print(f"making {trials:,} trials of {options.epochs} epochs in {folder} ...", file=sys.stderr)
            make(folder, trials, options.epochs)
        made = rows(folder, trials, options.epochs, 1 if options.quick else 3)
    measure.finish(made, options, found)


if __name__ == "__main__":
    main()
