"""CPU seconds and peak memory of the report of a run with many trials.

    python -m benchmarks.report_memory [--trials 2000 20000] [--kind grid|search] [--folder DIR] [--quick] [--json FILE]

A run is made here, one record for each teacher, student and evaluation (20,000 trials are 40,005 files and 500 MB), and
`python -m sweeps report` is started on it as a person would start it. The seconds are those of user and system together,
the memory is the most that the process held, imports included: what `/usr/bin/time -v` prints. Needs Linux or macOS.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.analysis_query import ORDERS
from benchmarks.measure import ROOT

SEEDS = 5
EPOCHS = 6
ITEMS = 360
KINDS = ("grid", "search")
LIMITS = {2000: (None, 250.0), 20000: (15.0, 600.0)}  # Trials -> CPU seconds and MB that are wanted.


def make(folder: Path, trials: int, kind: str = "grid") -> int:
    """Write a run of about as many trials, five seeds of each cell; returns how many.

    Args:
        folder: Of the run.
        trials: Rounded down to whole cells.
        kind: "grid": orders by resolutions; "search": weights that were drawn.
    """
    from analysis.records import RUN_FILE

    random = np.random.default_rng(0)
    cells: list[dict[str, Any]] = []
    listed = []
    for seed in range(SEEDS):
        _write(folder, "teacher", f"teacher{seed}", seed=seed, validation_score=0.95)
    for number in range(trials // SEEDS):
        cell = f"c{number}"
        cells.append({"id": cell, "label": cell, "parameters": _parameters(number, kind, random)})
        for seed in range(SEEDS):
            correct = int(random.integers(ITEMS // 2, ITEMS))
            stages = {"teacher": f"teacher{seed}", "student": f"s{number}-{seed}", "evaluation": f"e{number}-{seed}"}
            listed.append({"cell": cell, "seed": seed, "stages": stages})
            shared = {"cells": [cell], "seed": seed, "teacher": stages["teacher"], "epochs": EPOCHS}
            validation = correct / ITEMS
            _write(
                folder,
                "student",
                stages["student"],
                validation_score=validation,
                history=_history(validation),
                **shared,
            )
            told = {"metric": "top1", "score": validation, "chance": 0.1, "correct": correct, "items": ITEMS}
            _write(
                folder,
                "evaluation",
                stages["evaluation"],
                parents=[stages["student"]],
                parameters=json.dumps({"resolution": 8, "threads": 1}),
                metrics=json.dumps(told),
                validation_score=validation,
                **{name: told[name] for name in ("metric", "score", "correct", "items")},
                **shared,
            )
    run: dict[str, Any] = {
        "schema": 1,
        "run": folder.name,
        "study": "made_up",
        "metric": "top1",
        "task": "classification",
    }
    run |= {"cells": cells, "trials": listed, "seeds": list(range(SEEDS)), "sampled": kind == "search"}
    sides = sorted({cell["parameters"]["resolution"] for cell in cells}) if kind == "grid" else []
    run |= (
        {"factors": ["1", "2", "3", "C"], "axes": {"orders": list(ORDERS), "resolution": sides}}
        if kind == "grid"
        else {}
    )
    (folder / RUN_FILE).write_text(json.dumps(run))
    return len(listed)


def _parameters(number: int, kind: str, random: np.random.Generator) -> dict[str, Any]:
    if kind == "search":
        return {f"horkd.{name}": float(10 ** random.uniform(-3, 0)) for name in ("alpha", "beta", "gamma")}
    return {"orders": ORDERS[number % len(ORDERS)], "resolution": 8 + number // len(ORDERS)}


def _history(validation: float) -> list[dict[str, Any]]:
    names = ("train/cross_entropy", "train/point", "train/point_weighted", "validation/top1")
    return [
        {"epoch": epoch, "name": name, "value": validation * epoch / EPOCHS}
        for epoch in range(1, EPOCHS + 1)
        for name in names
    ]


def _write(folder: Path, stage: str, key: str, **columns: Any) -> None:
    from analysis.records import RECORDS_FOLDER, write_record

    about = {"stage": stage, "key": key, "status": "completed", "log": f"logs/{stage}-{key}.log", "device": "cpu"}
    times = {"seconds": 12.0, "cpu_seconds": 11.0, "host": "node", "numerics": "torch", "data": "0123456789abcdef"}
    write_record(folder / RECORDS_FOLDER / f"{key}.parquet", about | times | columns)


def measure(out: Path, run: str) -> tuple[float, float]:
    """CPU seconds and peak MB of `python -m sweeps report` on a run in `out`, as the system counts a child."""
    code = (
        "import json, resource, subprocess, sys\n"
        "done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)\n"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN)\n"
        "print(json.dumps([done.returncode, used.ru_utime + used.ru_stime, used.ru_maxrss, done.stderr[-2000:]]))"
    )
    command = [sys.executable, "-m", "sweeps", "report", run, "--out", str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code, *command], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    returncode, seconds, most, words = json.loads(done.stdout)
    if returncode:
        raise RuntimeError(f"The report ended with {returncode}: {words}")
    unit = 1 << 20 if sys.platform == "darwin" else 1 << 10  # Bytes there, KiB here.
    return float(seconds), most * unit / 1e6


def rows(folder: Path, counts: Sequence[int], kind: str) -> Iterator[dict[str, Any]]:
    """One row for each number of trials: what was made, and what its report took."""
    for count in counts:
        run = folder / "runs" / f"{kind}-{count}"
        made = count // SEEDS * SEEDS if (run / "run.json").exists() else make(run, count, kind)
        seconds, memory = measure(folder, run.name)
        most_seconds, most_memory = LIMITS.get(count, (None, None))
        yield {
            "kind": kind,
            "trials": made,
            "records": len(os.listdir(run / "records")),
            "cpu_seconds": round(seconds, 2),
            "peak_mb": round(memory, 1),
            "wanted_seconds": most_seconds,
            "wanted_mb": most_memory,
        }


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the runs, report on them, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, nargs="+", default=None, help="2000 and 20000; with --quick 100")
    parser.add_argument("--kind", choices=KINDS, default="grid", help="of the run")
    parser.add_argument("--folder", type=Path, help="where the runs are made, and kept; by default removed again")
    parser.add_argument("--quick", action="store_true", help="a small run, to see that it works")
    parser.add_argument("--json", type=Path, help="write the rows there, too")
    options = parser.parse_args(arguments)
    counts = options.trials or ([100] if options.quick else [2000, 20000])
    with tempfile.TemporaryDirectory(prefix="report-") as temporary:
        found = []
        for row in rows((options.folder or Path(temporary)).absolute(), counts, options.kind):
            found.append(row)
            wanted = "".join(
                f", wanted at most {row[name]:.0f} {unit}"
                for name, unit in (("wanted_seconds", "s"), ("wanted_mb", "MB"))
                if row[name] is not None
            )
            print(
                f"{row['trials']:,} trials of a {row['kind']}, {row['records']:,} records: {row['cpu_seconds']:.1f} s of CPU, "
                f"peak {row['peak_mb']:.0f} MB{wanted}",
                flush=True,
            )
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
