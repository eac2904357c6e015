"""`logs`: what a stage, a job or the driver wrote."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sweeps.commands.flags import json_flag, place_flags, run_argument
from sweeps.commands.output import answer, narrate, near, say_lines
from system.regular_files import read_text
from trainables.errors import MachineError, UsageError, did_you_mean

if TYPE_CHECKING:
    from sweeps.runs.folder import RunFolder


@click.command()
@run_argument
@click.argument("what", required=False, metavar="[STAGE|KEY|JOB|driver]")
@click.option("-n", "--lines", type=click.IntRange(1), default=40, show_default=True, help="Last lines to show.")
@place_flags
@json_flag
def logs(run: str | None, what: str | None, lines: int, out: str | None, store: str | None, as_json: bool) -> None:
    """The log of a stage or of the driver; without one, the list of logs."""
    from sweeps.runs.folder import Place, find_run

    folder = find_run(Place.of(out, store), run)
    paths = {path.stem: path for path in sorted(folder.logs.glob("*.log"), key=lambda path: path.name)}
    paths |= _of_jobs(folder)
    if what is None:

        def listing() -> None:
            for name, path in paths.items():
                click.echo(f"{name}  {near(path)}" if "-job-" in name else near(path))
            click.echo(f"Show one: {folder.again('logs', next(iter(paths), 'driver'))}")

        answer({"run": folder.id, "logs": [str(p) for p in paths.values()]}, as_json, listing)
        return
    log = paths[_meant(what, paths, folder.id)]
    try:
        tail = read_text(log, errors="replace").splitlines()[-lines:]
    except OSError as error:
        raise MachineError(f"The log {log} cannot be read: {error.strerror or error}.") from error

    def text() -> None:
        narrate(near(log))
        say_lines(tail)

    answer({"run": folder.id, "log": str(log), "lines": tail}, as_json, text)


def _meant(what: str, paths: Mapping[str, Path], run_id: str) -> str:
    """The name of the log that a stage, a key or a job has.

    Raises:
        UsageError: If there is none, or several.
    """
    names = [n for n in paths if n == what] or [n for n in paths if what in n.split("-")]
    names = names or [n for n in paths if what in n]
    if not names:
        raise UsageError(f"{run_id} has no log '{what}'.{did_you_mean(what, paths)} It has {len(paths)} logs.")
    if len(names) > 1 and all(n.startswith(f"{what}-") and what.endswith("-job") for n in names):
        return max(names, key=lambda n: paths[n].stat().st_mtime)  # Of several submissions the last one is meant.
    if len(names) > 1:
        shown = ", ".join(names[:5])
        raise UsageError(
            f"'{what}' fits {len(names)} logs: {shown}{' ...' if len(names) > 5 else ''}. Give more of the name."
        )
    return names[0]


def _of_jobs(run: RunFolder) -> dict[str, Path]:
    """Name -> path of the logs of a run's jobs: `driver-job-12`, `worker-job-13_0`."""
    from sweeps.engine.cluster import rendezvous_of

    rendezvous = rendezvous_of(run)
    roles = {i: s["role"] for s in rendezvous.submissions() for i in s["ids"]}
    logs = {}
    for path in sorted((rendezvous.folder / "jobs").glob("*_log.out")):
        job, _, rank = path.name.removesuffix("_log.out").rpartition("_")
        role = roles.get(job) or roles.get(job.partition("_")[0])
        if role:
            logs[f"{role}-job-{job}" + (f"-{rank}" if rank != "0" else "")] = path
    return logs
