"""What all benchmarks share: both sides timed by turns, memory and work in fresh processes, one table, one set of options.

Two sides are measured in one process and round by round, so that what the machine does meanwhile hits both. Time is the
process's CPU time unless a row says otherwise: on a shared machine wall time measures the neighbours. A ratio is the
median of the rounds' own ratios, with their quartiles.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16")  # As Linux calls what speeds up these numbers.
NATIVE_BF16 = ("avx512_bf16", "amx_bf16")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One comparison; `reference` and `ours` are medians in `unit`, `ratio` says how many times less ours takes."""

    goal: str  # As docs/performance.md numbers them; empty for a figure without one.
    what: str
    setting: str
    reference: float
    ours: float
    unit: str
    ratio: float
    low: float  # First and third quartile of the ratio over the rounds.
    high: float
    rounds: int
    wanted: float | None = None
    at_most: bool = False  # The goal is an upper bound: ours over the reference, as for overheads.
    note: str = ""

    @property
    def reached(self) -> bool | None:
        """Whether the goal is reached; None where there is none."""
        if self.wanted is None:
            return None
        return self.ratio <= self.wanted if self.at_most else self.ratio >= self.wanted


def by_turns(
    sides: Mapping[str, Callable[[], object]], rounds: int, clock: Callable[[], float] = time.process_time
) -> dict[str, list[float]]:
    """Seconds of each side in each round, after one call of each that is not counted."""
    for call in sides.values():
        call()
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    names = list(sides)
    for number in range(rounds):
        # Every second round begins at the other end, so that no side always follows the same one.
        for side in names if number % 2 == 0 else reversed(names):
            began = clock()
            sides[side]()
            seconds[side].append(clock() - began)
    return seconds


def row(
    goal: str,
    what: str,
    setting: str,
    reference: Sequence[float],
    ours: Sequence[float],
    *,
    unit: str = "s",
    wanted: float | None = None,
    at_most: bool = False,
    note: str = "",
) -> Row:
    """The row of two sides measured in the same rounds; with `at_most` the ratio is ours over the reference.

    Raises:
        ValueError: If the sides have different numbers of rounds, or none.
    """
    if len(reference) != len(ours) or not ours:
        raise ValueError(f"Both sides need the same rounds, at least one, but have {len(reference)} and {len(ours)}.")
    above, below = (ours, reference) if at_most else (reference, ours)
    # A side too small to be seen (memory of a few pages) counts as the smallest that can be.
    ratios = [a / max(b, 1e-9) for a, b in zip(above, below, strict=True)]
    low, middle, high = _quartiles(ratios)
    return Row(
        goal=goal,
        what=what,
        setting=setting,
        reference=statistics.median(reference),
        ours=statistics.median(ours),
        unit=unit,
        ratio=middle,
        low=low,
        high=high,
        rounds=len(ours),
        wanted=wanted,
        at_most=at_most,
        note=note,
    )


def _quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def extra_memory(call: Callable[[], object]) -> float:
    """Peak resident MiB during `call` beyond what was resident before it; Linux, best in a fresh process.

    It counts all tensors of the call and whatever the numerical libraries allocate, but not what was there before.
    """
    Path("/proc/self/clear_refs").write_text("5")  # Resets the kernel's mark of the peak.
    before = _status("VmRSS")
    call()
    return (_status("VmHWM") - before) / 1024


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1])
    raise RuntimeError(f"/proc/self/status has no field {name}; measuring memory needs Linux.")


def command(function: str, *arguments: Any) -> list[str]:
    """The command that calls `module:function` in a process of its own and prints what it returns, as JSON."""
    return [sys.executable, "-m", "benchmarks.measure", function, json.dumps(arguments)]


def fresh(function: str, *arguments: Any, threads: int = 1) -> Any:
    """What `module:function` returns in a fresh process.

    Raises:
        RuntimeError: If it fails; with the end of what it said.
    """
    done = subprocess.run(
        command(function, *arguments),
        cwd=ROOT,
        env=environment(threads),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{function}{arguments} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def environment(threads: int = 1) -> dict[str, str]:
    """Of a process that finds this package and keeps to `threads` threads."""
    there = os.environ.get("PYTHONPATH")
    one = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS")}
    return {**os.environ, **one, "PYTHONPATH": f"{ROOT}{os.pathsep}{there}" if there else str(ROOT)}


def one_thread() -> None:
    """Keep torch to one thread, as the stages of a sweep do by default."""
    import torch

    torch.set_num_threads(1)


@contextlib.contextmanager
def as_stages_run() -> Iterator[None]:
    """One thread and the deterministic algorithms of a stage, and afterwards what was before."""
    import torch

    threads = torch.get_num_threads()
    strict = torch.are_deterministic_algorithms_enabled()
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    filled = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    try:
        torch.set_num_threads(1)
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(strict, warn_only=warns)
        torch.utils.deterministic.fill_uninitialized_memory = filled  # type: ignore[attr-defined]


def facts() -> dict[str, Any]:
    """What the machine is: a figure without it means little."""
    name, flags = platform.processor() or platform.machine(), set()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            head, _, value = line.partition(":")
            if head.strip() == "model name":
                name = value.strip()
            if head.strip() == "flags":
                flags = set(value.split())
                break
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    import torch

    return {
        "processor": name,
        "cores": usable,
        "flags": [flag for flag in FLAGS if flag in flags],
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "level": torch.backends.cpu.get_cpu_capability(),
    }


def has_bf16() -> bool:
    """Whether the processor multiplies bfloat16 itself; elsewhere it is emulated and gains nothing."""
    return any(flag in facts()["flags"] for flag in NATIVE_BF16)


def facts_line(found: Mapping[str, Any]) -> str:
    """The facts in two lines, with a warning where others keep the machine busy."""
    native = "" if any(flag in found["flags"] for flag in NATIVE_BF16) else ", no bf16 instructions"
    line = (
        f"{found['processor']}, {found['cores']} cores usable, {found['level']}{native}\n"
        f"torch {found['torch']}, Python {found['python']}; CPU time of one thread, medians [quartiles]"
    )
    if found["load"] > 1:
        line += f"; load {found['load']:g} before: others run here, so trust ratios only"
    return line


def table(rows: Sequence[Row]) -> str:
    """The rows, aligned; ratios with their quartiles, the goal, and whether it is reached."""
    heads = ("goal", "what", "setting", "reference", "ours", "ratio", "wanted", "reached")
    body = [
        (
            item.goal or "-",
            item.what,
            item.setting,
            amount(item.reference, item.unit),
            amount(item.ours, item.unit),
            f"{_ratio(item.ratio)} [{_ratio(item.low)}, {_ratio(item.high)}]",
            "-" if item.wanted is None else f"{'<=' if item.at_most else '>='} {item.wanted:g}",
            {True: "yes", False: "no", None: "-"}[item.reached],
        )
        for item in rows
    ]
    widths = [max(len(line[column]) for line in (heads, *body)) for column in range(len(heads))]
    lines = []
    for line in (heads, *body):
        cells = [
            cell.rjust(width) if 3 <= column <= 5 else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    notes = dict.fromkeys(f"{item.what}: {item.note}" for item in rows if item.note)
    return "\n".join([*lines, *notes])


def amount(value: float, unit: str) -> str:
    """`0.0021 s` as `2.10 ms`."""
    if unit != "s":
        return f"{value:,.1f} {unit}" if unit == "MiB" else f"{value:,g} {unit}"
    if value < 1:
        return f"{1e3 * value:.{2 if value < 0.01 else 1 if value < 0.1 else 0}f} ms"
    return f"{value:.2f} s" if value < 100 else f"{value:,.0f} s"


def _ratio(value: float) -> str:
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def parser(doc: str | None) -> argparse.ArgumentParser:
    """Options that every benchmark has; its own docstring is the help."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--quick", action="store_true", help="fewer rounds and smaller settings")
    made.add_argument("--json", type=Path, metavar="FILE", help="write machine and rows there as well")
    return made


def finish(rows: Sequence[Row], options: argparse.Namespace, found: Mapping[str, Any]) -> None:
    """Print the table under the facts, and write the JSON if it was asked for."""
    print(facts_line(found))
    print(table(rows))
    if options.json is not None:
        write_json(options.json, rows, found, quick=options.quick)


def write_json(path: Path, rows: Sequence[Row], found: Mapping[str, Any], *, quick: bool) -> None:
    """Machine and rows as one JSON object."""
    plain = [{**dataclasses.asdict(item), "reached": item.reached} for item in rows]
    path.write_text(json.dumps({"machine": dict(found), "quick": quick, "rows": plain}, indent=1) + "\n")


def read_rows(path: Path) -> list[Row]:
    """The rows that `write_json` wrote."""
    rows = json.loads(path.read_text())["rows"]
    return [Row(**{name: value for name, value in plain.items() if name != "reached"}) for plain in rows]


def _serve(arguments: Sequence[str]) -> None:
    module, _, name = arguments[0].partition(":")
    print(json.dumps(getattr(importlib.import_module(module), name)(*json.loads(arguments[1]))))


if __name__ == "__main__":
    _serve(sys.argv[1:])
