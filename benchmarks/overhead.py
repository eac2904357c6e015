"""What the engine costs on this machine: wall time of a run whose stages only sleep, against the ideal (goal G9).

    python -m benchmarks.overhead [--seconds 60] [--stages 16] [--jobs 2] [--quick] [--json FILE]

The ideal is the sum of the stages' own seconds, as their manifests say, over the slots: no start-up, no hand-over, no idle
slot at the end. Wall time is counted twice: of the whole command, planning and the start of Ray included, and from the
first stage's start to the last one's end. `benchmarks.cluster_overhead` does the same on SLURM. Short stages show the
hand-over (`--seconds 1 --stages 512`), long ones what a study pays; sleeping takes no core.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import measure
from benchmarks.cluster_overhead import BEGAN, ENDED, times
from benchmarks.measure import Row

LABELS = 16  # Of the study: it has this many cells, and a teacher of its own for each seed, or fewer.
LONG = 60.0  # Seconds from which on the stricter goal holds.


def words(out: Path, seconds: float, cells: int, seeds: int, jobs: int) -> list[str]:
    """The command under measurement."""
    epochs = max(1, round(seconds))
    labels = ",".join(f"s{number:02d}" for number in range(cells))
    command = [sys.executable, "-m", "sweeps", "run", "_engine_check", "--quiet", "--no-report", "--out", str(out)]
    command += ["--jobs", str(jobs), "--seeds", str(seeds), "--set", f"student.label={labels}"]
    command += ["--set", f"epochs={epochs}", "--set", f"seconds={seconds / epochs}"]
    # Teacher and evaluation end at once, so that only the students count.
    for role in ("teacher", "evaluation"):
        command += ["--set", f"{role}.epochs=1", "--set", f"{role}.seconds=0"]
    return command


def rows(seconds: float, stages: int, jobs: int) -> list[Row]:
    """One run: whole command and stages alone, each against the ideal.

    Raises:
        RuntimeError: If the run fails.
    """
    cells = min(LABELS, stages)
    seeds = max(1, round(stages / cells))
    with tempfile.TemporaryDirectory(prefix="overhead-") as folder:
        out = Path(folder)
        began = time.monotonic()
        command = words(out, seconds, cells, seeds, jobs)
        # Locks of its own: stages that sleep need not wait for the cores that other runs hold.
        own = {**measure.environment(), "SWEEPS_CORES_DIR": str(out / "cores")}
        done = subprocess.run(command, cwd=measure.ROOT, env=own, capture_output=True, text=True, check=False)
        wall = time.monotonic() - began
        if done.returncode:
            raise RuntimeError(f"the run ended with {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
        manifests = [json.loads(path.read_text()) for path in out.glob("store/*/manifest.json")]
        span = max(times(out, ENDED)) - min(times(out, BEGAN))
    ideal = sum(float(manifest["seconds"]) for manifest in manifests) / jobs
    slept = sum(manifest["spec"].get("seconds", 0) > 0 for manifest in manifests)
    setting = f"{slept} stages of {seconds:g} s on {jobs} slots, wall"
    wanted = 1.10 if seconds >= LONG else 1.15
    return [
        measure.row(
            "G9", "engine: whole command over the ideal", setting, [ideal], [wall], wanted=wanted, at_most=True
        ),
        # Logs have whole seconds, so this one is right within a second.
        measure.row("G9", "engine: first start to last end", setting, [ideal], [max(span, 1e-9)], at_most=True),
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run it once and print."""
    parser = measure.parser(__doc__)
    parser.add_argument("--seconds", type=float, help="of each stage (60; with --quick 3)")
    parser.add_argument("--stages", type=int, help="that sleep (16; with --quick 8)")
    parser.add_argument("--jobs", type=int, default=2, help="slots (2)")
    options = parser.parse_args(arguments)
    found = measure.facts()
    seconds = options.seconds or (3.0 if options.quick else LONG)
    measure.finish(rows(seconds, options.stages or (8 if options.quick else 16), options.jobs), options, found)


if __name__ == "__main__":
    main()
