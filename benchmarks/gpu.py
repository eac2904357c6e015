"""What a GPU does with this project, in one table: is it right, is it equal, does it wait, how fast is it.

    python -m benchmarks.gpu [--device cuda|cpu] [--tiny] [--only NAME ...] [--seconds 460] [--json FILE]

It needs torch, numpy, safetensors and pyarrow; the data are made up on the spot. `--tiny` tries the same logic with tiny
sizes, also on a CPU, where its times mean nothing. A part that fails says so and the others go on; one that would begin
after `--seconds` is not run and says so. The exit code is 1 if a part failed or an answer does not hold, else 0.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from benchmarks import gpu_checks, gpu_speed
from benchmarks.gpu_checks import Answer
from benchmarks.gpu_setting import FULL, TINY, Sizes

Part = Callable[[Sizes, torch.device, Path], list[Answer]]
PARTS: dict[str, Part] = {
    "components": lambda sizes, device, _: gpu_checks.components(sizes, device),
    "repeatable": lambda sizes, device, _: gpu_checks.repeatable(sizes, device),
    "no_waiting": lambda sizes, device, _: gpu_checks.no_waiting(sizes, device),
    "steps": gpu_speed.steps,
    "angles": lambda sizes, device, _: gpu_speed.angles(sizes, device),
    "together": lambda sizes, device, _: gpu_speed.together(sizes, device),
    "precisions": lambda sizes, device, _: gpu_checks.precisions(sizes, device),
}


def run(
    parts: Sequence[str], sizes: Sizes, device: torch.device, seconds: float, tell: Callable[[list[Answer]], None]
) -> list[Answer]:
    """The answers of all parts, in order; `tell` gets all so far after each part."""
    began, answers = time.monotonic(), list[Answer]()
    for name in parts:
        if time.monotonic() - began > seconds:
            answers.append(Answer(name, f"not run: {seconds:g} s were over", "-"))
            continue
        with tempfile.TemporaryDirectory(prefix="gpu-") as folder:
            try:
                answers += PARTS[name](sizes, device, Path(folder))
            except Exception as error:  # What the others found must not be lost.
                traceback.print_exc()
                said = (str(error).strip().splitlines() or [""])[-1]
                answers.append(Answer(name, "failed; the traceback is above", f"{type(error).__name__}: {said}", False))
        tell(answers)
    return answers


def name_of(device: torch.device) -> str:
    """The card, or the processor's kind."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


def table(answers: Sequence[Answer]) -> str:
    """The answers, aligned."""
    lines = [("question", "what", "holds", "figure")]
    words = {True: "yes", False: "NO", None: "-"}
    lines += [(answer.question, answer.what, words[answer.holds], answer.figure) for answer in answers]
    widths = [max(len(line[column]) for line in lines) for column in range(3)]
    return "\n".join("  ".join([*(c.ljust(w) for c, w in zip(line, widths, strict=False)), line[3]]) for line in lines)


def write(path: Path, answers: Sequence[Answer], machine: dict[str, object]) -> None:
    """Machine and answers as one JSON object."""
    plain = [dataclasses.asdict(answer) for answer in answers]
    path.write_text(json.dumps({"machine": machine, "answers": plain}, indent=1) + "\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Check, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), help="where (cuda; with --tiny cpu if there is no GPU)")
    parser.add_argument("--tiny", action="store_true", help="tiny sizes: tries the logic, measures nothing")
    parser.add_argument("--only", action="append", choices=tuple(PARTS), help="this part; may be repeated")
    parser.add_argument("--seconds", type=float, default=360.0, help="no part begins after this (360)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write machine and answers there, after each part")
    options = parser.parse_args(arguments)
    there = torch.cuda.is_available()
    kind = options.device or ("cuda" if there or not options.tiny else "cpu")
    if kind == "cuda" and not there:
        parser.error("torch finds no GPU here. Try the logic with --tiny --device cpu, or run this where there is one.")
    if kind == "cpu" and not options.tiny:
        parser.error("on a CPU the full sizes take hours; add --tiny, which tries the logic.")
    device, sizes = torch.device(kind), TINY if options.tiny else FULL
    machine: dict[str, object] = {"device": name_of(device), "torch": torch.__version__, "tiny": options.tiny}
    began = time.monotonic()

    def tell(answers: list[Answer]) -> None:
        print(f"-- {time.monotonic() - began:.0f} s: {len(answers)} answers", flush=True)
        if options.json is not None:
            write(options.json, answers, machine)

    answers = run(options.only or tuple(PARTS), sizes, device, options.seconds, tell)
    print(f"{name_of(device)}, torch {torch.__version__}{', tiny sizes: times mean nothing' if options.tiny else ''}")
    print(table(answers))
    print(f"{time.monotonic() - began:.0f} s in all")
    return 1 if any(answer.holds is False for answer in answers) else 0


if __name__ == "__main__":
    sys.exit(main())
