"""The memory of reports: what the benchmark makes, and that a report imports nothing that it does not need."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from analysis.load import load_run, trial_table
from benchmarks import report_memory


@pytest.mark.parametrize("kind", report_memory.KINDS)
def test_the_run_that_is_made_has_its_records_and_no_trial_without_a_score(tmp_path: Path, kind: str) -> None:
    assert report_memory.make(tmp_path, 20, kind) == 20
    data = load_run(tmp_path)
    assert (data.files_listed, data.files_read, data.unreadable, data.odd) == (45, 45, {}, {})
    trials = trial_table(data)
    assert trials.height == 20 and set(trials["status"]) == {"completed"}


def test_the_command_prints_seconds_and_memory_of_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = tmp_path / "rows.json"
    report_memory.main(["--quick", "--folder", str(tmp_path), "--json", str(told)])
    (row,) = json.loads(told.read_text())
    assert (row["trials"], row["records"]) == (100, 205) and row["cpu_seconds"] > 0
    assert (
        row["peak_mb"] > 50
    )  # Polars alone takes 45; how much more is for the benchmark to say on a machine of its own.
    assert f"peak {row['peak_mb']:.0f} MB" in capsys.readouterr().out
    assert (tmp_path / "runs" / "grid-100" / "report" / "index.html").exists()


def test_a_report_of_sealed_records_imports_neither_pandas_nor_arrow_nor_training(tmp_path: Path) -> None:
    report_memory.make(tmp_path, 10, "search")
    code = (
        "import sys\nfrom pathlib import Path\nimport sweeps.runs.reporting\nfrom analysis.report.write import write_report\n"
        "write_report(Path(sys.argv[1]), Path(sys.argv[1], 'report'))\n"
        "print([m for m in ('pandas', 'seaborn', 'scipy.stats', 'pyarrow', 'torch', 'ray', 'optuna') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip().splitlines()[-1] == "[]"
