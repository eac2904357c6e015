"""All benchmarks, one after the other, each in a process of its own, and one table of everything.

    python -m benchmarks [--quick] [--only NAME ...] [--json FILE]

Without `--quick` this takes half an hour on an idle machine. `cluster_overhead` needs a SLURM and is run by itself.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks import measure
from benchmarks.measure import Row

NAMES = ("angle_loss", "losses", "whole_step", "sharing", "augmentation", "analysis_query", "packing", "overhead")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run them; 1 if one of them broke, whatever the ratios are."""
    parser = measure.parser(__doc__)
    parser.add_argument("--only", action="append", choices=NAMES, help="this one; may be repeated")
    options = parser.parse_args(arguments)
    found = measure.facts()
    rows: list[Row] = []
    broken = []
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        for name in options.only or NAMES:
            told = Path(folder) / f"{name}.json"
            command = [sys.executable, "-m", f"benchmarks.{name}", "--json", str(told)]
            command += ["--quick"] if options.quick else []
            print(f"-- {name}", flush=True)
            done = subprocess.run(command, cwd=measure.ROOT, env=measure.environment(), check=False)
            if done.returncode:
                broken.append(name)
            elif told.exists():
                rows += measure.read_rows(told)
    print("-- all", flush=True)
    measure.finish(rows, options, found)
    if broken:
        print(f"These did not finish; see above: {', '.join(broken)}.")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
