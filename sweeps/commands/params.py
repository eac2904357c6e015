"""`params`: what `--set` can say of a study, with types, limits and the preset's values."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

import click

from sweeps.commands.flags import json_flag, plugin_flag, preset_flag, study_argument
from sweeps.commands.output import answer, width


@click.command()
@study_argument
@preset_flag("Whose values are shown [default: demo].")
@plugin_flag
@json_flag
def params(study: str, preset: str | None, as_json: bool, plugins: list[str]) -> None:
    """What --set can say of a study: groups, types, ranges, defaults, units."""
    import search_spaces
    from sweeps.planning.parameters import described

    question = search_spaces.load(study)
    preset = preset or question.preset_for(None)
    groups = described(question, preset)
    content = {
        "study": study,
        "preset": preset,
        "groups": [{"group": group, "parameters": rows} for group, rows in groups.items()],
    }
    answer(content, as_json, lambda: say(study, preset, groups, question.recipe.roles))


def say(study: str, preset: str, groups: Mapping[str, list[dict[str, Any]]], roles: tuple[str, ...]) -> None:
    """Print the table for people, as wide as their terminal."""
    from sweeps.planning.parameters import default_words, range_words, titles

    top = f"What --set can say of {study}; values are those of preset {preset}. Each also for one stage alone, as in "
    top += f"{roles[0]}.epochs=5; several values make an axis: epochs=5,10."
    click.echo("\n".join(textwrap.wrap(top, width())))
    named = titles()
    for group, rows in groups.items():
        click.echo(f"\n{named[group]}")
        for row in rows:
            for line in textwrap.wrap(
                f"{row['name']} = {default_words(row)}", width(), initial_indent="  ", subsequent_indent="      "
            ):
                click.echo(line)
            limits = ": ".join(part for part in (row["type"], range_words(row)) if part)
            unit = f"; {row['unit']}" if row["unit"] else ""
            for line in textwrap.wrap(f"{row['description']} [{limits}{unit}]".strip(), width() - 6):
                click.echo(f"      {line}")
