"""A group of commands that names the nearest command."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from trainables.errors import did_you_mean

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
