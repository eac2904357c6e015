"""Fills the generated blocks of README.md from a finished run, and copies its figure into docs/figures/.

    python docs/readme.py RUN_FOLDER TERMINAL_LOG           # write
    python docs/readme.py RUN_FOLDER TERMINAL_LOG --check   # exit 1 if README or figure are not what would be written

TERMINAL_LOG is what `make demo` printed, stdout and stderr together. No host name and no absolute path gets in.
"""

from __future__ import annotations

import argparse
import json
import re
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FIGURE = "docs/figures/order_ablation"
MOST_BYTES = 300_000
SHOWN_VERSIONS = ("python", "torch", "ray", "optuna", "scikit-learn")

_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_ABSOLUTE = re.compile(r"(?<![\w.)\]])/(?:[\w.+-]+/)+[\w.+-]*")


def terminal(log: str, run: dict[str, Any]) -> str:
    """What the run printed, from its first line to `Report:`, with paths beginning at `runs/`."""
    lines = [_ANSI.sub("", line.rsplit("\r", 1)[-1]).rstrip() for line in log.replace("\r\n", "\n").split("\n")]
    first = next((i for i, line in enumerate(lines) if line.startswith(("Packing ", f"{run['study']} ·"))), None)
    last = next((i for i, line in enumerate(lines) if line.startswith("Report: ")), None)
    if first is None or last is None:
        raise SystemExit(f"The log must hold a whole run of {run['study']}, from its first line to 'Report:'.")
    lines[last] = re.sub(r"^Report: .*?(?=runs/)", "Report: ", lines[last])
    return "\n".join(lines[first : last + 1])


def caption(report: dict[str, Any], run: dict[str, Any], shown: str) -> str:
    """The conditions of the figure: data, seeds, n, hardware, versions."""
    data, seeds = run["data"], run["seeds"]
    rows = [row for panel in report["panels"] for row in panel["rows"]]
    fewest, most = min(row["n"] for row in rows), max(row["n"] for row in rows)
    taught = run["parameters"].get("assistant.train_images")
    images = f"{data['train_images']:,} training" + (f" ({taught} for the assistants)" if taught else "")
    found = dict(report["environment"])
    numerics = re.sub(r" \(\d+ stages\)$", "", str(found.get("numerics", "unknown processor")))
    machine = re.sub(r"^torch [^,]+, ", "", numerics).replace("(R)", "")
    cores = re.search(r", (?:CPU|GPU), (\d+) at a time", shown)
    took = re.search(r"^Done: .*; ([\d: hmin]+)\.$", shown, re.MULTILINE)
    where = [machine, f"{cores[1]} stages at a time" if cores else "", f"{took[1].strip()} in all" if took else ""]
    versions = ", ".join(f"{name} {run['versions'][name]}" for name in SHOWN_VERSIONS if name in run["versions"])
    span = f"{seeds[0]} to {seeds[-1]}" if seeds == list(range(seeds[0], seeds[-1] + 1)) else ", ".join(map(str, seeds))
    return (
        f"*{run['paper']}, {run['figure']}, on {data['name']} ({data['height']}x{data['width']}; {images} and "
        f"{data['test_images']:,} test images), preset {run['preset']}: {len(rows)} cells, seeds {span}, "
        f"n={fewest if fewest == most else f'{fewest} to {most}'} per cell. Bars: 95 % t-intervals over seeds. "
        f"{'; '.join(part for part in where if part)}. {versions}; revision {run['revision']}.*"
    )


def blocks(report: dict[str, Any], run: dict[str, Any], log: str) -> dict[str, str]:
    """Text of each generated block by name."""
    shown = terminal(log, run)
    finding = report["sentence"].split(". ")[0].rstrip(".")
    picture = f"[![{finding}.]({FIGURE}.png)]({FIGURE}.svg)"
    made = {
        "figure": f"{picture}\n\n{caption(report, run, shown)}",
        "demo output": f"```text\n{shown}\n```",
        "answer": f"> {report['sentence']}",
    }
    for name, text in made.items():
        if found := _ABSOLUTE.search(text):
            raise SystemExit(f"The block '{name}' would hold the absolute path {found[0]}.")
        if re.search(rf"\b(?:on|host) {re.escape(socket.gethostname())}\b", text):
            raise SystemExit(f"The block '{name}' would hold the name of this host.")
    return made


def fill(text: str, made: dict[str, str]) -> str:
    """`text` with the content of its generated blocks replaced."""
    for name, content in made.items():
        before, start, rest = text.partition(f"<!-- generated: {name} -->\n")
        _, end, after = rest.partition("<!-- end -->")
        if not start or not end:
            raise SystemExit(f"README.md must have a block 'generated: {name}' that ends with '<!-- end -->'.")
        text = f"{before}{start}{content}\n{end}{after}"
    return text


def main(words: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Write, or with --check compare; 0 when README and figures are as they should be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN_FOLDER")
    parser.add_argument("log", type=Path, metavar="TERMINAL_LOG")
    parser.add_argument("--check", action="store_true")
    asked = parser.parse_args(words)
    run = json.loads((asked.run / "run.json").read_text(encoding="utf-8"))
    report = json.loads((asked.run / "report" / "report.json").read_text(encoding="utf-8"))
    if run["preset"] != "demo":
        raise SystemExit(f"README shows what `make demo` gives, but {asked.run.name} used preset '{run['preset']}'.")
    readme = root / "README.md"
    made = blocks(report, run, asked.log.read_text(encoding="utf-8"))
    wanted = {readme: fill(readme.read_text(encoding="utf-8"), made).encode()}
    for suffix in ("svg", "png"):
        content = (asked.run / "report" / "figures" / f"forest.{suffix}").read_bytes()
        if len(content) > MOST_BYTES:
            raise SystemExit(f"forest.{suffix} may have {MOST_BYTES:,} bytes, but has {len(content):,}.")
        wanted[root / f"{FIGURE}.{suffix}"] = content
    stale = [path for path, content in wanted.items() if not path.is_file() or path.read_bytes() != content]
    for path in stale:
        print(f"{'differs' if asked.check else 'written'}: {path.relative_to(root)}")
        if not asked.check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(wanted[path])
    return 1 if asked.check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
