"""The command line: words become a request, wrong words are answered here, before anything starts.

Results go to stdout, narration to stderr. Heavy libraries are imported inside the commands that need them, so that
help and lists answer at once.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import time
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from sweeps.commands import completion, home_words
from sweeps.commands.check import check
from sweeps.commands.cluster import (
    cluster_flags,
    drive,
    follow,
    job_logs,
    say_dry_run,
    scale,
    submit_and_say,
    work,
)
from sweeps.commands.outcome import say_outcome, say_rows
from sweeps.commands.output import (
    JSON_SCHEMA,
    MOST_COLUMNS,
    Commands,
    answer,
    json_flag,
    narrate,
    near,
    place_flags,
    plugin_flag,
    preset_flag,
    run_argument,
    say_lines,
    study_argument,
    table,
)
from sweeps.commands.params import params
from sweeps.commands.shelves import data, store_group
from sweeps.commands.teachers import teachers_group
from sweeps.runs.whereabouts import absolute
from system.regular_files import read_text
from trainables.errors import DataError, MachineError, SweepsError, UsageError, did_you_mean

EXIT_CODES = """\b
Exit codes: 0 done; 1 finished, but with failed stages or a failed check; 2 asked for something impossible, nothing was
started; 3 the machine is not fit (folder, disk, Ray); 4 data missing or damaged; 5 nothing to report yet; 130
interrupted, state saved."""

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": MOST_COLUMNS}

EXAMPLES = """Studies of knowledge distillation across image resolutions.

\b
Examples:
  python -m sweeps run horkd_order_ablation
  python -m sweeps show horkd_order_ablation --preset paper
  python -m sweeps params horkd_order_ablation
  python -m sweeps status latest
"""


def study_flags(function: Any) -> Any:
    """Adds what run and show share."""
    flags = [
        preset_flag(
            "demo, small, own (made from the data), tuning, paper or tiny [default: what the data has, else own]."
        ),
        click.option(
            "--data", metavar="NAME", shell_complete=completion.data_sets, help="A name of `data list`, or folder:PATH."
        ),
        click.option("--data-root", metavar="DIR", help="Where the data set lies [env: SWEEPS_DATA_ROOT]."),
        click.option("--data-size", type=int, metavar="PIXELS", help="Side at which image files are packed."),
        click.option(
            "--test-data",
            metavar="NAME",
            shell_complete=completion.data_sets,
            help="Another data set to test, all of it; --data is trained on.",
        ),
        click.option("--test-data-root", metavar="DIR", help="Where that one lies [default: --data-root]."),
        click.option("--seeds", metavar="N", help="5 means seeds 0 to 4; also 100-104 or 0,3,7."),
        click.option(
            "--set",
            "settings",
            multiple=True,
            metavar="KEY=VALUE",
            shell_complete=completion.settings,
            help="Any parameter (`params STUDY` lists them); several values: an axis.",
        ),
        click.option("--trials", type=int, metavar="N", help="Cells of a study that draws them."),
        click.option("--no-share", "share", flag_value=False, default=True, help="Train equal stages once per trial."),
        plugin_flag,
    ]
    for flag in reversed(flags):
        function = flag(function)
    return function


def _request(study: str, **words: Any) -> Any:
    import search_spaces
    from sweeps.planning.parameters import spelled_out
    from sweeps.runs.execute import Request

    for name in ("settings", "profiles", "slurm", "needs", "plugins"):
        words[name] = list(words.get(name) or ())
    words["data_root"] = words.get("data_root") or os.environ.get("SWEEPS_DATA_ROOT")
    # A run is resumed from any folder, so that its paths must not hang on this one.
    for name in ("data_root", "test_data_root"):
        words[name] = absolute(words[name]) if words.get(name) else None
    for name in ("data", "test_data"):
        prefix, colon, path = (words.get(name) or "").partition(":")
        if prefix == "folder" and path:
            words[name] = f"{prefix}{colon}{absolute(path)}"
    words["plugins"] = [absolute(path) for path in words["plugins"]]
    found = search_spaces.load(study)
    words["settings"], notes = spelled_out(found, words["settings"])
    for note in notes:
        narrate(note)
    if words.get("preset") is None:
        words["preset"] = found.preset_for(words.get("data"))
    return Request(study=study, **words)


@click.group(cls=Commands, help=EXAMPLES, epilog=EXIT_CODES, context_settings=CONTEXT)
@click.version_option(package_name="sweeps", message="%(version)s")
def cli() -> None:
    """The root of all commands."""


@cli.command("list")
@plugin_flag
@json_flag
def list_command(as_json: bool, plugins: list[str]) -> None:
    """The studies there are, and what plug-ins add."""
    import search_spaces
    from sweeps.runs import plugin_files

    found = plugin_files.described()

    rows = []
    for name in search_spaces.names():
        study = search_spaces.load(name)
        demo = study.presets.get("demo") or next(iter(study.presets.values()))
        count = demo.trials
        if not study.sampled:
            count = sum(1 for _ in study.points(demo.axes or study.axes))
        rows.append(
            {
                "name": name,
                "paper": f"{study.paper}, {study.figure}",
                "question": study.title,
                "cells": count,
                "seeds": demo.seeds,
                "kind": "sampled" if study.sampled else "grid",
                "presets": list(study.preset_names),
            }
        )

    def text() -> None:
        table(
            [(r["name"], r["paper"], r["question"], f"{r['cells']} x {r['seeds']}", r["kind"]) for r in rows],
            ("NAME", "PAPER", "QUESTION", "CELLS x SEEDS", "KIND"),
        )
        if found:
            click.echo()
            table([(o["name"], o["kind"], o["from"]) for o in found], ("PLUG-IN", "WHAT", "FROM"))
        click.echo(
            "\nNext: python -m sweeps show horkd_order_ablation   |   try it: python -m sweeps run horkd_order_ablation"
        )

    answer({"studies": rows} | ({"plugins": found} if found else {}), as_json, text)


@cli.command()
@study_argument
@study_flags
@place_flags
@click.option("--cells", is_flag=True, help="List every cell.")
@click.option("--measure", is_flag=True, help="Pack the data and time the frozen networks here, for a better forecast.")
@json_flag
def show(
    study: str, out: str | None, store: str | None, cells: bool, measure: bool, as_json: bool, **words: Any
) -> None:
    """What a study would do: cells, stages, cost, detectable gain. Starts nothing."""
    from sweeps.commands.show import show as say
    from sweeps.runs.continuation import continued
    from sweeps.runs.execute import prepare
    from sweeps.runs.folder import Place

    request = _request(study, **words)
    place = continued(request, Place.of(out, store), narrate)
    # Which images are trained on, and so what is timed, only the packed data tell.
    say(prepare(request, place, narrate, pack=measure), place, cells, as_json, measure=measure)


@cli.command()
@study_argument
@study_flags
@place_flags
@cluster_flags
@click.option("--jobs", type=int, metavar="N", help="Cores to use [default: all this process may use].")
@click.option("--gpus", type=int, metavar="N", help="GPUs to use [default: all found].")
@click.option("--gpu-share", type=click.FloatRange(0.01, 1.0), default=1.0, help="Share of a GPU a stage takes.")
@click.option("--new", is_flag=True, help="Start another run instead of continuing the same one.")
@click.option("--dry-run", is_flag=True, help="Check everything, print the plan, start nothing.")
@click.option("--no-report", is_flag=True, help="Train and record only; `report` writes the page later.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@json_flag
def run(
    study: str,
    out: str | None,
    store: str | None,
    dry_run: bool,
    no_report: bool,
    quiet: bool,
    as_json: bool,
    wait: bool,
    **words: Any,
) -> None:
    """Run a study, or continue it: the same command trains only what is missing."""
    from sweeps.runs.continuation import continued
    from sweeps.runs.folder import Place

    request = _request(study, **words)
    _only_with_slurm(request, wait)
    place = continued(request, Place.of(out, store), narrate)
    if dry_run:
        _dry_run(request, place, as_json)
        return
    _begin(request, place, as_json=as_json, quiet=quiet, no_report=no_report, wait=wait)


def _only_with_slurm(request: Any, wait: bool) -> None:
    if request.on != "local":
        for flag, given in (("--jobs", request.jobs), ("--gpus", request.gpus)):
            if given is not None:
                raise UsageError(f"{flag} is for this machine; with --on {request.on} use --slurm cpus=N or gpus=N.")
        return
    given = {
        "--workers": request.workers is not None,
        "--profile": bool(request.profiles),
        "--slurm": bool(request.slurm),
        "--wait": wait,
    }
    wrong = [flag for flag, said in given.items() if said]
    if wrong:
        verb = "needs" if len(wrong) == 1 else "need"
        raise UsageError(f"{', '.join(wrong)} {verb} --on slurm, slurm-gang or slurm-array.")


def _dry_run(request: Any, place: Any, as_json: bool) -> None:
    from sweeps.commands.show import show as say
    from sweeps.engine.submission import dry_run, plan_submission
    from sweeps.runs.execute import prepare

    found = None
    if request.on == "local":
        ready = prepare(request, place, narrate, pack=False)
    else:
        found = plan_submission(request, place, narrate, pack=False)
        ready = found.ready
    if ready.missing_data:
        raise DataError(ready.missing_data)
    more: dict[str, Any] = {}
    if found is not None and as_json:
        more["jobs"] = [
            {"role": o.role, "count": len(o.tasks), "nodes": o.nodes, "profile": o.profile.as_dict(), "script": text}
            for o, text in dry_run(found)
        ]
    say(ready, place, False, as_json, more)
    if found is not None and not as_json:
        say_dry_run(found)
    narrate("Nothing was started (dry run).")


def _begin(request: Any, place: Any, *, as_json: bool, quiet: bool, no_report: bool, wait: bool, **more: Any) -> None:
    """Train here, or submit; both end in the same words."""
    quiet = quiet or as_json
    if request.on == "local":
        _conduct(request, place, as_json=as_json, quiet=quiet, report=not no_report, **more)
        return
    request.report = not no_report
    run = submit_and_say(request, place, as_json=as_json, wait=wait, **more)
    if run is not None and not wait:
        return
    began = time.monotonic()
    code = follow(run, place, quiet=quiet) if run is not None else 0
    # What the store has is recorded and reported here, by the same act as on one machine.
    more = {"run_id": run.id if run is not None else more.get("run_id"), "ended": code}
    if run is not None:
        more["began"] = began  # The time that counts is that of the jobs.
        request = dataclasses.replace(request, new=False)
    _conduct(request, place, as_json=as_json, quiet=True, report=not no_report, train=False, **more)


def _conduct(
    request: Any, place: Any, *, as_json: bool, quiet: bool, ended: int = 0, began: float | None = None, **more: Any
) -> None:
    from sweeps.runs.execute import conduct

    followed = began is not None
    began = time.monotonic() if began is None else began
    outcome = conduct(request, place, (lambda line: None) if quiet else narrate, quiet=quiet, **more)
    seconds = time.monotonic() - began
    if followed:
        outcome.elsewhere = "trained by the cluster's nodes"
    if ended and outcome.code in (0, 130):
        outcome.code = ended
    summary = outcome.summary
    content = {
        "run": outcome.run.id,
        "path": str(outcome.run.path),
        "exit_code": outcome.code,
        "stages": outcome.counts,
        "trained": outcome.trained,
        "failures": [dict(zip(("stage", "key", "why", "log"), f, strict=True)) for f in outcome.failures],
        "unrunnable": outcome.unrunnable,
        "seconds": round(seconds, 1),
        "sentence": summary.sentence if summary else None,
        "rows": summary.rows if summary else [],
        "report": str(summary.index) if summary else None,
        "message": outcome.message or outcome.nothing or None,
    }
    answer(content, as_json, lambda: say_outcome(outcome, seconds))
    if outcome.ended_early:
        # Ray is left to the reaper, and so must not be closed in order at the interpreter's exit.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(outcome.code)
    if outcome.code:
        raise click.exceptions.Exit(outcome.code)


@cli.command()
@run_argument
@click.option("--retry-failed", is_flag=True, help="Give failed stages a new start.")
@click.option("--no-report", is_flag=True, help="Train and record only; `report` writes the page later.")
@click.option("--on", metavar="WHERE", help="local, slurm, slurm-gang or slurm-array [default: as it was begun].")
@click.option("--workers", type=int, metavar="N", help="SLURM: nodes that train, at most.")
@click.option("--wait", is_flag=True, help="SLURM: follow the run to its end.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@click.option(
    "--plugins", multiple=True, metavar="PATH", help="More plug-ins; those of the run are taken from its own copies."
)
@place_flags
@json_flag
def resume(
    run: str | None,
    plugins: tuple[str, ...],
    retry_failed: bool,
    no_report: bool,
    on: str | None,
    workers: int | None,
    wait: bool,
    quiet: bool,
    out: str | None,
    store: str | None,
    as_json: bool,
) -> None:
    """Continue a run: plan again, leave out what the store has, train the rest."""
    from sweeps.engine.submission import MODES
    from sweeps.runs import plugin_files
    from sweeps.runs.continuation import request_of
    from sweeps.runs.folder import Place, find_run

    place = Place.of(out, store)
    folder = find_run(place, run)
    request = request_of(folder, folder.read())
    plugin_files.load_more(folder, plugins)
    if on is not None:
        if on not in MODES:
            raise UsageError(f"--on takes {', '.join(MODES)}, got '{on}'.{did_you_mean(on, MODES)}")
        if on != request.on:
            request.gpus = request.jobs = None  # They were those of another place.
        request.on = on
    if request.on != "local":
        request.gpus = request.jobs = None  # The profiles say it.
    elif workers is None and not wait:
        request.workers, request.profiles, request.slurm = None, [], []
    if workers is not None:
        if len(request.profiles) > 1:
            raise UsageError(
                f"{folder.id} has {len(request.profiles)} profiles, so --workers cannot say how many of each. "
                "Give the run command again with --profile NAME:N."
            )
        request.workers = workers
        request.profiles = [word.partition(":")[0] for word in request.profiles]
    _only_with_slurm(request, wait)
    place = place.of_run(folder)
    _begin(
        request,
        place,
        as_json=as_json,
        quiet=quiet,
        no_report=no_report,
        wait=wait,
        retry_failed=retry_failed,
        run_id=folder.id,
    )


@cli.command()
@run_argument
@click.option("--failed", is_flag=True, help="Only what failed.")
@click.option("--all", "every", is_flag=True, help="A line for each run there is.")
@place_flags
@json_flag
def status(run: str | None, failed: bool, every: bool, out: str | None, store: str | None, as_json: bool) -> None:
    """Where a run is: coverage, running stages with their processes, failures, leader."""
    from sweeps.runs.folder import Place, find_run, list_runs
    from sweeps.runs.status import look, say
    from trainables.store.artifacts import Store

    place = Place.of(out, store)
    if every:
        views = [look(one, Store(place.of_run(one).store)) for one in list_runs(place) if one.is_readable()]
        rows = [(v["run"], v["state"], v["trials"]["done"], sum(v["trials"].values()), v["started"]) for v in views]
        answer({"runs": views}, as_json, lambda: table(rows, ("RUN", "STATE", "DONE", "TRIALS", "STARTED")))
        return
    folder = find_run(place, run)
    view = look(folder, Store(place.of_run(folder).store))
    answer(view, as_json, lambda: say(view, failed))


@cli.command()
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


@cli.command()
@run_argument
@click.argument("what", required=False, metavar="[STAGE|KEY|JOB|driver]")
@click.option("-n", "--lines", type=click.IntRange(1), default=40, show_default=True, help="Last lines to show.")
@place_flags
@json_flag
def logs(run: str | None, what: str | None, lines: int, out: str | None, store: str | None, as_json: bool) -> None:
    """The log of a stage or of the driver; without one, the list of logs."""
    from sweeps.runs.folder import Place, find_run

    folder = find_run(Place.of(out, store), run)
    found = {path.stem: path for path in sorted(folder.logs.glob("*.log"), key=lambda path: path.name)}
    found |= dict(job_logs(folder))
    if what is None:

        def listing() -> None:
            for name, path in found.items():
                click.echo(f"{name}  {near(path)}" if "-job-" in name else near(path))
            click.echo(f"Show one: {folder.again('logs', next(iter(found), 'driver'))}")

        answer({"run": folder.id, "logs": [str(p) for p in found.values()]}, as_json, listing)
        return
    names = [n for n in found if n == what] or [n for n in found if what in n.split("-")]
    names = names or [n for n in found if what in n]
    if not names:
        raise UsageError(f"{folder.id} has no log '{what}'.{did_you_mean(what, found)} It has {len(found)} logs.")
    if len(names) > 1 and all(n.startswith(f"{what}-") and what.endswith("-job") for n in names):
        names = [max(names, key=lambda n: found[n].stat().st_mtime)]  # Of several submissions the last one is meant.
    if len(names) > 1:
        shown = ", ".join(names[:5])
        raise UsageError(
            f"'{what}' fits {len(names)} logs: {shown}{' ...' if len(names) > 5 else ''}. Give more of the name."
        )
    hits = [found[names[0]]]
    try:
        tail = read_text(hits[0], errors="replace").splitlines()[-lines:]
    except OSError as error:
        raise MachineError(f"The log {hits[0]} cannot be read: {error.strerror or error}.") from error

    def text() -> None:
        narrate(near(hits[0]))
        for line in tail:
            click.echo(line)

    answer({"run": folder.id, "log": str(hits[0]), "lines": tail}, as_json, text)


@cli.command()
@run_argument
@place_flags
@json_flag
def report(run: str | None, out: str | None, store: str | None, as_json: bool) -> None:
    """Write the report of a run from its records: page, figures, tables."""
    from sweeps.runs.folder import Place, find_run
    from sweeps.runs.reporting import fresh_report, left_out_lines

    folder = find_run(Place.of(out, store), run)
    summary = fresh_report(folder)

    def text() -> None:
        click.echo(summary.sentence)
        click.echo()
        say_rows(summary)
        click.echo()
        click.echo(f"Report: {near(summary.index)}")
        for line in left_out_lines(summary, folder.again("resume")):
            narrate(line)

    content = {"run": folder.id, "sentence": summary.sentence, "rows": summary.rows, "report": str(summary.index)}
    content["records"] = {"listed": summary.records, "left_out": summary.unreadable}
    answer(content, as_json, text)


@cli.command()
@place_flags
@json_flag
def doctor(out: str | None, store: str | None, as_json: bool) -> None:
    """Look whether this machine is fit: packages, folders, disk, cores, GPU, Ray."""
    from sweeps.commands.doctor import examine
    from sweeps.runs.folder import Place

    rows = examine(Place.of(out, store))
    failures = sum(row["state"] == "FAIL" for row in rows)
    warnings = sum(row["state"] == "warn" for row in rows)

    def text() -> None:
        for row in rows:
            click.echo(f"{row['state']:<5} {row['message']}")
        click.echo(f"{failures} failures, {warnings} warnings")

    answer({"checks": rows, "failures": failures, "warnings": warnings}, as_json, text)
    if failures:
        raise click.exceptions.Exit(3)


cli.add_command(params)
cli.add_command(check)
cli.add_command(data)
cli.add_command(store_group)
cli.add_command(teachers_group)
cli.add_command(scale)
cli.add_command(drive)
cli.add_command(work)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit with its code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    as_json = "--json" in words
    try:
        home_words.check(words)
        # Only the script `sweeps` has a name that a shell can complete.
        name = "sweeps" if completion.VARIABLE in os.environ else "python -m sweeps"
        code = cli.main(args=words, prog_name=name, complete_var=completion.VARIABLE, standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except click.exceptions.Abort:
        narrate("Interrupted; nothing was running.")
        sys.exit(130)
    except KeyboardInterrupt:
        narrate("Interrupted; nothing was running.")
        sys.exit(130)
    except click.ClickException as error:
        _fail(error.format_message(), error.exit_code, as_json)
    except SweepsError as error:
        _fail(str(error), error.exit_code, as_json)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(0)
    except OSError as error:  # What nobody else found words for; the log of a run keeps where.
        named = f"{error.filename}: " if error.filename else ""
        advice = "Mend that place or name another with --out, --store or SWEEPS_TMPDIR; what is finished is kept."
        _fail(f"{named}{error.strerror or error}. {advice}", MachineError.exit_code, as_json)


def _fail(message: str, code: int, as_json: bool) -> NoReturn:
    if as_json:
        click.echo(json.dumps({"schema": JSON_SCHEMA, "error": message, "exit_code": code}))
    else:
        first, *rest = message.splitlines() or [""]
        narrate(f"Error: {first}" + "".join(f"\n       {line}" for line in rest))
    sys.exit(code)
