"""Writes docs/parameters.md from the words that `python -m sweeps params` uses.

python docs/parameters.py           write it
python docs/parameters.py --check   say whether it is current (exit code 1 if not)
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import search_spaces
from sweeps.planning.parameter_words import ALIASES
from sweeps.planning.parameters import described, range_words, titles, value_words

PAGE = Path(__file__).with_name("parameters.md")
STUDIES = ("horkd_classification", "horkd_order_ablation")  # One of each recipe; together they have every parameter.
TOP = """# Parameters

What `--set` can say. `python -m sweeps params STUDY` prints the same with the values of one of its presets, for its
stages. Each is also for one stage alone, as in `--set student.epochs=5`; several values make an axis,
`--set epochs=5,10`. A word for all stages outranks what a preset says for one of them. Where a name within a group is
the only one of its kind, the group may be left out: `alpha` for `horkd.alpha`. Values below are those of the specs;
presets have their own.
"""


def rows() -> dict[str, dict[str, dict[str, Any]]]:
    """Group -> parameter -> its row, of all studies together, with the defaults of the specs."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for name in STUDIES:
        study = search_spaces.load(name)
        for group, members in described(study, "demo").items():
            for row in members:
                found.setdefault(group, {}).setdefault(row["name"], row)
                if row["name"] in study.recipe.parameters:
                    found[group][row["name"]]["spec"] = study.recipe.parameters[row["name"]][1].default
    order = {group: place for place, group in enumerate(titles())}
    return dict(sorted(found.items(), key=lambda item: order.get(item[0], len(order))))


def page() -> str:
    """The page."""
    lines = [TOP]
    for group, members in rows().items():
        lines += [
            f"## {titles().get(group, group)}",
            "",
            "| name | default | takes | unit | what it is |",
            "|---|---|---|---|---|",
        ]
        for name, row in members.items():
            takes = ": ".join(part for part in (row["type"], range_words(row)) if part)
            takes = "names of the study's arms" if name == "arm" else takes
            default = f"`{value_words(row['spec'])}`" if "spec" in row else "the study's"
            lines.append(f"| `{name}` | {default} | {takes} | {row['unit']} | {row['description']} |")
        lines.append("")
    lines += ["## Other names", "", "These are understood, said, and kept as ours.", "", "| ours | also |", "|---|---|"]
    for ours in dict.fromkeys(ALIASES.values()):
        also = ", ".join(f"`{alias}`" for alias, meant in ALIASES.items() if meant == ours)
        lines.append(f"| `{ours}` | {also} |")
    return "\n".join(lines) + "\n"


def main(words: Sequence[str] | None = None) -> int:
    """Write the page, or compare it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if the page is not current")
    asked = parser.parse_args(words)
    text = page()
    if asked.check:
        current = PAGE.is_file() and PAGE.read_text(encoding="utf-8") == text
        print("current" if current else f"differs: {PAGE.name}; write it with `python docs/parameters.py`")
        return 0 if current else 1
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
