"""Which store the same command goes on in, when nobody names one."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path

from sweeps.planning.request import Request
from sweeps.runs.execute import Say, prepare
from sweeps.runs.folder import Place, list_runs
from trainables.errors import SweepsError


def continued(request: Request, place: Place, say: Say) -> Place:
    """Where a request is answered: in the store of the run that it continues, unless a person named another one."""
    if place.named or request.new:
        return place
    stores: dict[Path, set[str]] = {}
    for run in list_runs(place):
        if run.id.startswith(f"{request.study}-"):
            stores.setdefault(place.of_run(run).store, set()).add(run.id)
    for store, ids in stores.items():
        if store == place.store or not store.is_dir():
            continue
        copy = dataclasses.replace(request, settings=list(request.settings))
        with contextlib.suppress(SweepsError):  # Said where the request is answered.
            ready = prepare(copy, Place(place.runs, store), lambda line: None, pack=False)
            run_id = ready.run_id
            if ready.info is not None and run_id in ids:
                say(f"{run_id} was trained into {store}, which is used again; --store DIR would name another store.")
                return Place(place.runs, store)
    return place
