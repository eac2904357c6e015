"""A run driven inside its job: what was asked is read from run.json, the rest is as on one machine."""

from __future__ import annotations

import os

from sweeps.engine import machines
from sweeps.engine.cluster import cluster_errors, rendezvous_of
from sweeps.engine.submitted import kept_profiles
from sweeps.runs.continuation import request_of
from sweeps.runs.execute import execute
from sweeps.runs.folder import Place, RunFolder, Say
from sweeps.runs.outcome import Outcome


def drive(run: RunFolder, place: Place, say: Say) -> Outcome:
    """The driver's part, inside its job: run it on the nodes that join."""
    rendezvous = rendezvous_of(run)
    request = request_of(run, run.read())
    profile = kept_profiles(rendezvous)[0]
    with cluster_errors():
        machine = machines.ClusterMachine(rendezvous, os.environ.get("SWEEPS_ATTEMPT", "0-0"), profile.interface)
        return execute(request, place, say, run_id=run.id, machine=machine, report=request.report)
