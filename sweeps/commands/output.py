"""What all commands share: flags, tables, JSON or text, and a group that names the nearest command."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from sweeps.commands import completion
from trainables.errors import UsageError, did_you_mean

JSON_SCHEMA = 1
MOST_COLUMNS = 110  # Of help and of what is wrapped: longer lines are hard to read.


def narrate(line: str) -> None:
    """A line for people, on stderr."""
    click.echo(line, err=True)


def answer(content: dict[str, Any], as_json: bool, text: Callable[[], None]) -> None:
    """One JSON object or text, on stdout."""
    if as_json:
        click.echo(json.dumps({"schema": JSON_SCHEMA} | content, default=str))
    else:
        text()


def say_lines(lines: Sequence[str]) -> None:
    """Lines for people, on stdout."""
    for line in lines:
        click.echo(line)


def table(rows: Sequence[Sequence[Any]], heads: Sequence[str]) -> None:
    """A plain table: columns as wide as their content, numbers to the right."""
    shown = [[str(cell) for cell in row] for row in rows]
    widths = [max([len(head), *(len(row[i]) for row in shown)]) for i, head in enumerate(heads)]
    right = [sum(_number(row[i]) for row in shown) > len(shown) / 2 for i in range(len(heads))]
    for row in [list(heads), *shown]:
        cells = (c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right, strict=True))
        click.echo("  ".join(cells).rstrip())


def _number(text: str) -> bool:
    return (
        text.strip() in ("", "-") or text.strip("+-%<").replace(".", "", 1).replace(",", "").replace(":", "").isdigit()
    )


# What people type for our commands.
ELSEWHERE = {
    **dict.fromkeys(("train", "start", "launch", "submit", "sweep"), "run"),
    **dict.fromkeys(("continue", "restart", "retry"), "resume"),
    **dict.fromkeys(("kill", "cancel", "abort"), "stop"),
    **dict.fromkeys(("log", "tail"), "logs"),
    **dict.fromkeys(("ls", "studies"), "list"),
    **dict.fromkeys(("plan", "describe", "info"), "show"),
    **dict.fromkeys(("parameters", "options"), "params"),
    **dict.fromkeys(("results", "plot"), "report"),
    **dict.fromkeys(("datasets", "dataset"), "data"),
    **dict.fromkeys(("rm", "remove", "delete"), "discard"),
    "clean": "gc",
}


def _meant(name: str, known: Sequence[str]) -> str:
    """Which command somebody may have meant, with a space before it, or nothing."""
    if ELSEWHERE.get(name) in known:
        return f" Did you mean '{ELSEWHERE[name]}'?"
    near = did_you_mean(name, known)
    if not near and "run" in known:
        import search_spaces

        if name in search_spaces.names():
            return f" It is a study: python -m sweeps run {name}, or show {name}."
    return near


class Commands(click.Group):
    """A group that answers a wrong command with the nearest one, and none at all with its help."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Help is what somebody wants who names no command: no error."""
        if not args and not ctx.resilient_parsing:
            click.echo(ctx.get_help())
            ctx.exit(0)
        if args[:1] == ["help"] and self.get_command(ctx, "help") is None:
            args = [*args[1:], "--help"]
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Look a command up; a near miss is named."""
        name = args[0] if args else ""
        if name and self.get_command(ctx, name) is None and not name.startswith("-"):
            known = self.list_commands(ctx)
            raise click.UsageError(f"There is no command '{name}'.{_meant(name, known)} See --help.", ctx)
        return super().resolve_command(ctx, args)


def width() -> int:
    """Columns to fill: those of the terminal, within reason."""
    return max(40, min(MOST_COLUMNS, shutil.get_terminal_size().columns))


def study_argument(function: Any) -> Any:
    """Adds the name of a study; without one all are named."""

    def named(context: click.Context, parameter: click.Parameter, word: str | None) -> str | None:
        if word is None and not context.resilient_parsing:
            import search_spaces

            rows = [f"  {name:<30} {search_spaces.load(name).title}" for name in search_spaces.names()]
            example = f"python -m sweeps {context.info_name} horkd_order_ablation"
            raise UsageError("\n".join([f"Name a study, for example: {example}", "There are:", *rows]))
        return word

    return click.argument("study", required=False, metavar="STUDY", callback=named, shell_complete=completion.studies)(
        function
    )


def run_argument(function: Any) -> Any:
    """Adds a run: `latest`, a name, the beginning of one, or a path."""
    return click.argument("run", required=False, metavar="[RUN]", shell_complete=completion.runs)(function)


def preset_flag(words: str) -> Any:
    """Gives --preset."""
    return click.option("--preset", metavar="NAME", shell_complete=completion.presets, help=words)


def json_flag(function: Any) -> Any:
    """Adds --json."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")(function)


def place_flags(function: Any) -> Any:
    """Adds --out and --store."""
    function = click.option(
        "--store", metavar="DIR", help="The store of artifacts, if not OUT/store [env: SWEEPS_STORE]."
    )(function)
    return click.option("--out", metavar="DIR", help="Folder of runs/ and store/ [env: SWEEPS_OUT; default: here].")(
        function
    )


def plugin_flag(function: Any) -> Any:
    """Adds --plugins, which is answered at once: whatever comes after it may name what the files offer."""

    def load(context: click.Context, parameter: click.Parameter, words: tuple[str, ...]) -> list[str]:
        from sweeps.runs import plugin_files

        plugin_files.load(words)
        return plugin_files.named(words)  # What asks for the same elsewhere must name those of the environment, too.

    return click.option(
        "--plugins",
        multiple=True,
        metavar="PATH",
        callback=load,
        is_eager=True,
        help="A file, or a folder of them, with your own losses, networks, data sets or studies [env: SWEEPS_PLUGINS].",
    )(function)


def near(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
