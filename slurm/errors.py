"""What can go wrong with a cluster, said to people; the command line gives each its exit code.

ClusterError              3   SLURM, a node or the run's folder is not fit for it
└── ClusterUsageError     2   something impossible was asked for (also a ValueError)
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ClusterError(Exception):
    """The cluster is not fit for what was asked."""

    exit_code = 3


class ClusterUsageError(ClusterError, ValueError):
    """What was asked for cannot be: an unknown profile or key, a bad value."""

    exit_code = 2


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """` Did you mean 'x'?` with a leading space, or nothing when no name is near."""
    near = difflib.get_close_matches(str(wrong), list(known), n=1, cutoff=0.6)
    return f" Did you mean '{near[0]}'?" if near else ""
