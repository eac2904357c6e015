"""A run's cluster as the commands see it: where its nodes meet, and its errors as ours."""

from __future__ import annotations

import contextlib
from typing import Any

from slurm.errors import ClusterError
from slurm.rendezvous import Rendezvous
from sweeps.runs.folder import RunFolder
from trainables.errors import MachineError, SweepsError, UsageError


def rendezvous_of(run: RunFolder) -> Rendezvous:
    """Where the nodes of a run meet."""
    return Rendezvous(run.path / "slurm", run.id)


def explained(error: ClusterError) -> SweepsError:
    """A cluster's error as one of ours, with its exit code."""
    return UsageError(str(error)) if error.exit_code == 2 else MachineError(str(error))


@contextlib.contextmanager
def cluster_errors() -> Any:
    """Turn the cluster's errors into ours."""
    try:
        yield
    except ClusterError as error:
        raise explained(error) from error
