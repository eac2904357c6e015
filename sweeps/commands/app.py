"""The command line: words become a request, wrong words are answered here, before anything starts.

Results go to stdout, narration to stderr. Heavy libraries are imported inside the commands that need them, so that
help and lists answer at once.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from sweeps import example
from sweeps.commands import completion, home_words, pipes
from sweeps.commands.check import check
from sweeps.commands.data import data
from sweeps.commands.doctor import doctor
from sweeps.commands.drive import drive
from sweeps.commands.group import Commands
from sweeps.commands.list import list_command
from sweeps.commands.logs import logs
from sweeps.commands.output import JSON_SCHEMA, MOST_COLUMNS, narrate
from sweeps.commands.params import params
from sweeps.commands.report import report
from sweeps.commands.resume import resume
from sweeps.commands.run import run
from sweeps.commands.scale import scale
from sweeps.commands.show import show
from sweeps.commands.status import status
from sweeps.commands.stop import stop
from sweeps.commands.store import store_group
from sweeps.commands.teachers import teachers_group
from sweeps.commands.work import work
from trainables.errors import MachineError, SweepsError

EXIT_CODES = """\b
Exit codes: 0 done; 1 finished, but with failed stages or a failed check; 2 asked for something impossible, nothing was
started; 3 the machine is not fit (folder, disk, Ray); 4 data missing or damaged; 5 nothing to report yet; 130
interrupted, state saved."""

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": MOST_COLUMNS}

EXAMPLES = f"""Studies of knowledge distillation across image resolutions.

\b
Examples:
  python -m sweeps run {example.STUDY}
  python -m sweeps show {example.STUDY} --preset paper
  python -m sweeps params {example.STUDY}
  python -m sweeps status latest
"""


class Root(Commands):
    """The root of all commands: somebody who reads no further is no error."""

    def make_context(self, *words: Any, **more: Any) -> click.Context:
        """Read the command line; help is answered here."""
        with pipes.told_apart():
            return super().make_context(*words, **more)

    def invoke(self, ctx: click.Context) -> Any:
        """Do what was asked."""
        with pipes.told_apart():
            return super().invoke(ctx)


@click.group(cls=Root, help=EXAMPLES, epilog=EXIT_CODES, context_settings=CONTEXT)
@click.version_option(package_name="sweeps", message="%(version)s")
def cli() -> None:
    """The root of all commands."""


for _command in (
    *(list_command, show, run, resume, status, stop, logs, report, doctor),
    *(params, check, data, store_group, teachers_group, scale, drive, work),
):
    cli.add_command(_command)


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
    except pipes.NobodyReads:
        pipes.forget()
        sys.exit(pipes.EXIT_CODE)
    except OSError as error:  # What nobody else found words for; the log of a run keeps where.
        named = f"{error.filename}: " if error.filename else ""
        advice = "Mend that place or name another with --out, --store or SWEEPS_TMPDIR; what is finished is kept."
        _fail(f"{named}{error.strerror or error}. {advice}", MachineError.exit_code, as_json)


def _fail(message: str, code: int, as_json: bool) -> NoReturn:
    try:
        if as_json:
            click.echo(json.dumps({"schema": JSON_SCHEMA, "error": message, "exit_code": code}))
        else:
            first, *rest = message.splitlines() or [""]
            narrate(f"Error: {first}" + "".join(f"\n       {line}" for line in rest))
    except BrokenPipeError:
        pipes.forget()
    sys.exit(code)
