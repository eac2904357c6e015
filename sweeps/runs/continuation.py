"""How a run goes on: what was asked of it before, and in which store, when nobody names one."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import Any

from sweeps.planning.request import Request
from sweeps.runs import plugin_files
from sweeps.runs.folder import Place, RunFolder, Say, list_runs
from sweeps.runs.prepare import prepare
from trainables.errors import SweepsError, UsageError


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


def request_of(run: RunFolder, kept: dict[str, Any]) -> Request:
    """What was asked of a run, with all the seeds it has.

    Raises:
        UsageError: If run.json does not say, or a plug-in of the run cannot be loaded.
    """
    try:
        plugin_files.use_those_of(run, kept)
        names = {f.name for f in dataclasses.fields(Request)}
        words = {k: v for k, v in kept["request"].items() if k in names}
        if kept.get("seeds"):
            first, *others = kept["seeds"]
            words["seeds"] = ",".join(map(str, kept["seeds"])) if others else f"{first}-{first}"
        return Request(**words)
    except (KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{run.id} does not say what was asked ({error!r}); give the run command again.") from None
