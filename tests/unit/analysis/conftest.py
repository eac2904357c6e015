import sys
from pathlib import Path

import pytest

# The generator of runs lies beside the tests; they are no package.
sys.path.insert(0, str(Path(__file__).parent))

import synthetic


@pytest.fixture(scope="session")
def ablation_report(tmp_path_factory):
    """One full ablation with planted effects, reported once for all tests that read it."""
    from analysis.report.write import write_report

    folder = synthetic.ablation(tmp_path_factory.mktemp("run") / "it's a run")
    return write_report(folder, folder / "report"), folder
