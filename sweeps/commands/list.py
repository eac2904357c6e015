"""`list`: the studies there are."""

from __future__ import annotations

import click

from sweeps import example
from sweeps.commands.flags import json_flag, plugin_flag
from sweeps.commands.output import answer, table


@click.command("list")
@plugin_flag
@json_flag
def list_command(as_json: bool, plugins: list[str]) -> None:
    """The studies there are, and what plug-ins add."""
    import search_spaces
    from sweeps.runs import plugin_files

    offers = plugin_files.described()
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
        if offers:
            click.echo()
            table([(o["name"], o["kind"], o["from"]) for o in offers], ("PLUG-IN", "WHAT", "FROM"))
        click.echo(f"\nNext: python -m sweeps show {example.STUDY}   |   try it: python -m sweeps run {example.STUDY}")

    answer({"studies": rows} | ({"plugins": offers} if offers else {}), as_json, text)
