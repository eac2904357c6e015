"""What the engine costs on a SLURM cluster: wall time of a run whose stages only sleep, against the ideal.

    python -m benchmarks.cluster_overhead [--workers 2] [--cpus 2] [--seconds 10] [--seeds 4] [--slurm KEY=VALUE ...]

Needs a SLURM (`SLURM_CONF` says which; `python tests/slurm/private_slurm.py` starts one of two nodes on this host). The
ideal is the sum of the stages' own seconds, as their manifests say, over the slots (workers x cpus): no start-up, no
hand-over, no idle slot at the end. Wall time is counted twice: from the submission to the run's end, queue and start-up of
all nodes included, and from the first stage's start to the last one's end.
"""

from __future__ import annotations

import argparse
import datetime
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BEGAN = re.compile(r"^(\S+ \S+) .* begins, lease ", re.MULTILINE)
ENDED = re.compile(r"^(\S+ \S+) .* published: ", re.MULTILINE)


def words(options: argparse.Namespace, out: str) -> list[str]:
    """The command under measurement."""
    epochs = max(1, round(options.seconds))
    command = [sys.executable, "-m", "sweeps", "run", "_engine_check", "--no-report", "--wait", "--out", out]
    command += ["--on", "slurm", "--workers", str(options.workers), "--slurm", f"cpus={options.cpus}"]
    command += ["--set", f"epochs={epochs}", "--set", f"seconds={options.seconds / epochs}"]
    command += ["--set", "evaluation.epochs=1", "--set", "evaluation.seconds=0", "--seeds", str(options.seeds)]
    return command + [part for setting in options.slurm for part in ("--slurm", setting)]


def times(out: Path, pattern: re.Pattern[str]) -> list[float]:
    """When stages began or ended, from their logs."""
    found = [m for path in out.glob("runs/*/logs/*-*.log") for m in pattern.findall(path.read_text())]
    return [datetime.datetime.strptime(text, "%Y-%m-%d %H:%M:%S").timestamp() for text in found]


def main() -> None:
    """Run it once and print the ratio."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--slurm", action="append", default=[])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="overhead-") as folder:
        began = time.monotonic()
        done = subprocess.run(words(options, folder), cwd=ROOT, capture_output=True, text=True, check=False)
        wall = time.monotonic() - began
        if done.returncode:
            sys.exit(f"the run ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
        out = Path(folder)
        manifests = [json.loads(path.read_text()) for path in out.glob("store/*/manifest.json")]
        span = max(times(out, ENDED)) - min(times(out, BEGAN))
    seconds = sum(float(manifest["seconds"]) for manifest in manifests)
    slots = options.workers * options.cpus
    ideal = seconds / slots
    print(f"{len(manifests)} stages, {seconds:,.0f} s of their own, on {options.workers} nodes x {options.cpus} cpus")
    print(f"ideal                              {ideal:7.1f} s")
    print(f"submission to end                  {wall:7.1f} s   {wall / ideal:.2f} x")
    print(f"first stage's start to last's end  {span:7.1f} s   {span / ideal:.2f} x")


if __name__ == "__main__":
    main()
