"""Where a run is, from its files alone: no running Ray is asked, nothing is written."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Container, Mapping, Set
from pathlib import Path
from typing import Any

import click

from sweeps.engine.journal_trials import pruned_cells
from sweeps.runs import whereabouts
from sweeps.runs.folder import RunFolder
from trainables.attempts.failures import verdict
from trainables.errors import ArtifactError
from trainables.recipes.step import shown_role
from trainables.spec import OUTPUTS
from trainables.store.artifacts import Store
from trainables.store.files import read_json
from trainables.store.leases import Lease, LeaseObserver, OneLook

MARKS = {"done": "#", "running": "r", "failed": "x", "pruned": "p", "waiting": "."}


def _own(keys: list[str], roles: Mapping[str, str]) -> list[str]:
    """The stages that make a trial a running one: teachers and kept outputs belong to many."""
    return [key for key in keys[1:] if roles[key] != OUTPUTS] if len(keys) > 2 else keys


def look(run: RunFolder, store: Store) -> dict[str, Any]:
    """Everything `status` says about a run, as plain values."""
    content = run.read()
    present = store.keys()
    roles: dict[str, str] = {}
    for trial in content.get("trials", ()):
        for role, key in trial["stages"].items():
            roles[key] = shown_role(role)
    observer = OneLook()
    jobs, queue_error = _jobs(run)
    # A lease on a node that was lost looks alive to who sees it for the first time; the queue knows better.
    asked = (run.path / "slurm" / "submissions.json").exists() and not queue_error
    living = {job["number"] for job in jobs if job["living"]} if asked else None
    running, failed = _at_work(store, set(roles) - present, roles, observer)
    running = [row for row in running if row["run"] != run.id or _lives(_job_of(row["node"]), living)]
    running_keys, failed_keys = {r["key"] for r in running}, {f["key"] for f in failed}
    grid = _grid(content, roles, present, running_keys, failed_keys, _pruned_cells(run, content))
    states = [state for row in grid.values() for state in row.values()]
    driver = run.driver() or {}
    driven = run.is_driven(observer) and _lives(str(driver.get("job") or ""), living)
    return {
        "run": run.id,
        "path": str(run.path),
        "store": str(store.root),
        "store_is_there": store.root.is_dir(),
        "study": content.get("study"),
        "state": _state(driven, states, jobs),
        "jobs": jobs,
        "queue_error": queue_error,
        "driver": {"pid": driver.get("pid"), "host": driver.get("host"), **(driver.get("pids") or {})}
        if driven
        else None,
        "waits": str(driver.get("waits") or "") if driven else "",
        "trials": {name: states.count(name) for name in MARKS},
        "stages": _by_role(roles, present),
        "running": running,
        "failed": failed,
        "seeds": content.get("seeds", []),
        "cells": [
            {"id": c["id"], "label": c.get("label", c["id"]), "seeds": grid.get(c["id"], {})}
            for c in content.get("cells", ())
        ],
        "leader": _leader(content, store, present),
        "started": content.get("started"),
        "report": str(run.path / "report" / "index.html") if (run.path / "report" / "index.html").exists() else None,
    }


def _grid(
    content: Mapping[str, Any],
    roles: Mapping[str, str],
    present: Set[str],
    running: Set[str],
    failed: Set[str],
    pruned: Container[str],
) -> dict[str, dict[int, str]]:
    """Cell -> seed -> state of its trial, from the keys of stages that are there, that run and that failed."""
    grid: dict[str, dict[int, str]] = {}
    for trial in content.get("trials", ()):
        keys = list(trial["stages"].values())
        if keys[-1] in present:
            state = "done"
        elif any(key in failed for key in keys):
            state = "failed"
        elif any(key in running for key in _own(keys, roles)):
            state = "running"
        elif trial["cell"] in pruned:
            state = "pruned"
        else:
            state = "waiting"
        grid.setdefault(trial["cell"], {})[trial["seed"]] = state
    return grid


def _by_role(roles: Mapping[str, str], present: Set[str]) -> dict[str, dict[str, int]]:
    """Role -> how many stages it has and how many of them are done."""
    rows: dict[str, dict[str, int]] = {}
    for key, role in roles.items():
        row = rows.setdefault(role, {"total": 0, "done": 0})
        row["total"] += 1
        row["done"] += key in present
    return rows


def _jobs(run: RunFolder) -> tuple[list[dict[str, Any]], str]:
    """The run's jobs in SLURM's queue; nothing is asked of a run that was never submitted."""
    if not (run.path / "slurm" / "submissions.json").exists():
        return [], ""
    from sweeps.engine.submitted import jobs_of

    return jobs_of(run)


def _job_of(node: str) -> str:
    """The job in a node's name, `w<job>-<life>-<rank>`."""
    return node[1:].partition("-")[0]


def _lives(job: str, living: set[str] | None) -> bool:
    """Whether a job may be alive: none at all is a process of this machine, and SLURM may not have been asked."""
    return not job or living is None or job in living


def _state(driven: bool, states: list[str], jobs: list[dict[str, Any]]) -> str:
    living = [job for job in jobs if job["living"]]
    if states and set(states) <= {"done", "pruned"} and not driven:
        return "finished"
    if living and all(job["state"] == "PENDING" for job in living):
        return "queued"
    return "running" if driven or living else "stopped"


def _at_work(
    store: Store, keys: set[str], roles: dict[str, str], observer: LeaseObserver
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    running, failed = [], []
    busy: list[str] = []
    with contextlib.suppress(OSError):
        busy = sorted(name for name in os.listdir(store.work) if name in keys)
    for key in busy:
        folder = store.work_folder(key)
        numbers = Lease.numbers(folder)
        if numbers and not observer.is_dead(folder / f"lease.{numbers[-1]}"):
            lease = read_json(folder / f"lease.{numbers[-1]}") or {}
            running.append(
                {
                    "key": key,
                    "stage": roles[key],
                    "pid": lease.get("pid"),
                    "host": lease.get("host"),
                    "run": lease.get("run"),
                    "epoch": lease.get("epoch"),
                    "epochs": lease.get("epochs"),
                    "value": lease.get("value"),
                    "node": str(lease.get("node") or ""),
                }
            )
            continue
        failures = store.failures(key)
        why = verdict(failures)
        if why is not None:
            failed.append({"key": key, "stage": roles[key], "why": why, "log": f"logs/{roles[key]}-{key}.log"})
    return running, failed


def _pruned_cells(run: RunFolder, content: dict[str, Any]) -> set[str]:
    """Cells that Optuna pruned, read from the journal as text: importing optuna would take longer than the rest."""
    if not content.get("sampled"):
        return set()
    return pruned_cells(run.journal)


def _leader(content: dict[str, Any], store: Store, present: set[str]) -> dict[str, Any] | None:
    """The cell with the best mean on validation, among those whose seeds are all done."""
    values: dict[str, list[float]] = {}
    whole: dict[str, bool] = {}
    for trial in content.get("trials", ()):
        keys = list(trial["stages"].values())
        cell = trial["cell"]
        if keys[-1] not in present or len(keys) < 2:
            whole[cell] = False
            continue
        with contextlib.suppress(ArtifactError, TypeError, ValueError):
            found = store.get(keys[-2]).metrics
            value = found.get("validation_score", found.get("validation_top1"))
            if value is not None:
                values.setdefault(cell, []).append(float(value))
        whole.setdefault(cell, True)
    means = {cell: sum(v) / len(v) for cell, v in values.items() if whole.get(cell)}
    if not means:
        return None
    best = max(means, key=lambda cell: means[cell])
    labels = {c["id"]: c.get("label", c["id"]) for c in content.get("cells", ())}
    return {"cell": best, "label": labels.get(best, best), "validation_score": means[best], "seeds": len(values[best])}


def _again(view: dict[str, Any], command: str, *more: str) -> str:
    return whereabouts.again(command, Path(view["path"]), *more, store=Path(view["store"]))


def say(view: dict[str, Any], only_failed: bool) -> None:
    """Print a view for people."""
    counts = view["trials"]
    total = sum(counts.values())
    parts = [f"{counts['done']}/{total} trials done"]
    parts += [f"{counts[name]} {name}" for name in ("running", "waiting", "failed", "pruned") if counts[name]]
    click.echo(f"{view['run']}   {view['state']}   " + " · ".join(parts))
    if not view["store_is_there"]:
        click.echo(f"  store       {view['store']} is not there; --store DIR says where it is")
    if not only_failed:
        for role, row in view["stages"].items():
            click.echo(f"  {role:<11} {row['done']}/{row['total']}")
        _say_grid(view)
        if view["driver"]:
            pids = "  ".join(f"{name} {pid}" for name, pid in view["driver"].items() if name != "host")
            click.echo(f"  driver      {pids}  on {view['driver']['host']}")
        if view["waits"]:
            click.echo(f"  waits       for {view['waits']}")
        if view["jobs"] or view["queue_error"]:
            _say_jobs(view)
        for row in view["running"]:
            epoch = f"epoch {row['epoch']}/{row['epochs']}" if row.get("epochs") else "starting"
            value = f", {100 * row['value']:.1f} %" if isinstance(row.get("value"), float) else ""
            click.echo(f"  running     {row['stage']} {row['key']}  pid {row['pid']} on {row['host']}  {epoch}{value}")
        if view["leader"]:
            lead = view["leader"]
            click.echo(
                f"  leader      {lead['label']}  {100 * lead['validation_score']:.2f} % on validation (n={lead['seeds']})"
            )
    for row in view["failed"]:
        click.echo(f"  failed      {row['stage']} {row['key']}: {row['why'].splitlines()[0][:160]}")
        click.echo(f"              {_again(view, 'logs', row['key'])}")
    if view["report"] and not only_failed:
        click.echo(f"  report      {view['report']}")
    if view["state"] == "stopped":
        click.echo(f"Resume: {_again(view, 'resume')}")


def _say_jobs(view: dict[str, Any]) -> None:
    """The jobs of a run, for people."""
    for row in view["jobs"]:
        where = f" on {row['node']}" if row["node"] else ""
        if row["state"] == "PENDING":
            more = f"waits: {row['reason']}" + (f", expected {row['start']}" if row["start"] else "")
        else:
            more = f"{row['elapsed']}, {row['left']} left{where}" + (f", {row['does']}" if row["does"] else "")
        if row["living"] or not any(r["living"] for r in view["jobs"]):
            click.echo(f"  {row['role']:<11} job {row['id']}  {row['state'].lower()}  {more}")
    living = {row["role"] for row in view["jobs"] if row["living"]}
    if "driver" in living and "worker" not in living and view["state"] == "running":
        click.echo(f"  no worker is left in the queue: {_again(view, 'scale', '--workers', 'N')}")
    if view["queue_error"]:
        click.echo(f"  queue       SLURM cannot be asked: {view['queue_error']}")


def _say_grid(view: dict[str, Any], most: int = 40) -> None:
    seeds = view["seeds"]
    if not view["cells"] or len(seeds) > 20:
        return
    width = min(40, max(len(c["label"]) for c in view["cells"]))
    click.echo(" " * (width + 2) + "  seeds " + " ".join(str(s % 1000) for s in seeds))
    for cell in view["cells"][:most]:
        marks = " ".join(
            MARKS[cell["seeds"].get(s, cell["seeds"].get(str(s), "waiting"))].ljust(len(str(s % 1000))) for s in seeds
        )
        click.echo(f"  {cell['label'][:width]:<{width}}        {marks}")
    if len(view["cells"]) > most:
        click.echo(f"  ... {len(view['cells']) - most} more cells")
    click.echo("  " + "  ".join(f"{mark} {name}" for name, mark in MARKS.items()))
