"""`stop`: drain a run."""

from __future__ import annotations

import json

import click

from sweeps.commands.flags import json_flag, place_flags, run_argument
from sweeps.commands.output import answer, say_lines


@click.command()
@run_argument
@click.option("--now", is_flag=True, help="End at once; the epochs in flight are lost.")
@place_flags
@json_flag
def stop(run: str | None, now: bool, out: str | None, store: str | None, as_json: bool) -> None:
    """Drain a run: its running stages finish their epoch and save."""
    from sweeps.runs.folder import Place, find_run

    place = Place.of(out, store)
    folder = find_run(place, run)
    resume_line = folder.again("resume", store=place.of_run(folder).store)
    if (folder.path / "slurm" / "submissions.json").exists():
        from sweeps.engine import submitted

        if submitted.has_jobs(folder):
            lines = submitted.stop(folder, now)
            content = {"run": folder.id, "now": now, "done": lines, "resume": resume_line}
            answer(content, as_json, lambda: say_lines([*lines, f"Resume: {resume_line}"]))
            return
    driven = folder.is_driven()
    if driven:
        folder.stop_file.write_text(json.dumps({"now": now}))

    def text() -> None:
        if not driven:
            click.echo(f"{folder.id} is not running. Resume: {resume_line}")
        elif now:
            click.echo(f"Ending {folder.id} now. Resume: {resume_line}")
        else:
            click.echo(f"Draining {folder.id}: running stages finish their epoch and save. Resume: {resume_line}")

    answer({"run": folder.id, "was_running": driven, "now": now, "resume": resume_line}, as_json, text)
