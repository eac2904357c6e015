"""One private SLURM that all tests of this folder share."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "kill"))

import harness
import private_slurm
from scenario import LONG, SLEEP, SLEEP_STUDY, SMALL, ClusterRun, Reference


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = private_slurm.why_not()
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slurm)
            if reason:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def _started() -> Iterator[private_slurm.PrivateSlurm]:
    with private_slurm.PrivateSlurm(cpus=16) as cluster:
        yield cluster


@pytest.fixture
def cluster(_started: private_slurm.PrivateSlurm) -> Iterator[private_slurm.PrivateSlurm]:
    """Two idle nodes, started once for all tests; whatever a test leaves is cancelled and healed after it."""
    yield _started
    for node in private_slurm.NODES:
        if not _started.alive(node):
            _started.start_slurmd(node)
    _started.cancel_all()
    _started.wait_idle()


@contextlib.contextmanager
def _reference(folder: Path, study: str, *words: str) -> Iterator[Reference]:
    reference = Reference(folder, study, *words)
    yield reference
    reference.end()


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reference]:
    """The short run."""
    with _reference(tmp_path_factory.mktemp("short"), harness.STUDY, *SMALL) as found:
        yield found


@pytest.fixture(scope="session")
def long_reference(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reference]:
    """The long run."""
    with _reference(tmp_path_factory.mktemp("long"), SLEEP_STUDY, *LONG) as found:
        yield found


@pytest.fixture(scope="session")
def sleep_reference(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reference]:
    """The run whose stages sleep."""
    with _reference(tmp_path_factory.mktemp("sleep"), SLEEP_STUDY, *SLEEP) as found:
        yield found


@pytest.fixture
def begin(
    cluster: private_slurm.PrivateSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., ClusterRun]]:
    """Makes runs on the cluster; what a failed test leaves is ended."""
    for name, value in cluster.environment().items():
        if name == "SLURM_CONF":
            monkeypatch.setenv(name, value)
    runs: list[ClusterRun] = []

    def make(name: str = "run") -> ClusterRun:
        runs.append(ClusterRun(cluster, tmp_path / name))
        return runs[-1]

    yield make
    cluster.cancel_all()
    for run in runs:
        for pid in run.processes():
            harness.kill(pid)
