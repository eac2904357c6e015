"""Two trials of one thread each against one after the other with two threads each (goal G8).

    python -m benchmarks.packing [--steps 30] [--width 0.25 --width 1] [--quick] [--json FILE]

Steps of a ResNet-18 on 64 images of 16 pixels, in processes that are warm and waiting before the clock starts. The only
benchmark that needs wall time, and two idle cores: on a busy machine repeat it, and do not trust a single figure.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence

from benchmarks import measure
from benchmarks.measure import Row

WANTED = 1.1
BATCH, SIDE = 64, 16


def train(width: float, steps: int, threads: int, rounds: int) -> list[float]:
    """Train when told to, `rounds` times: a line on standard input starts a round, a line on standard output ends it."""
    import torch
    from torch.nn import functional as F

    from trainables.models import build
    from trainables.spec import StudentSpec
    from trainables.training.optimizer import make_optimizer

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    network = build("resnet18", channels=3, classes=100, width=width).to(memory_format=torch.channels_last)
    optimizer = make_optimizer(StudentSpec(), list(network.parameters()))
    images = torch.randn(BATCH, 3, SIDE, SIDE).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(100, (BATCH,))

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(network(images).logits, labels).backward()
        optimizer.step()

    for _ in range(3):
        step()
    for _ in range(rounds):
        print("ready", flush=True)
        if not sys.stdin.readline():
            break
        for _ in range(steps):
            step()
        print("done", flush=True)
    return []


class Trial:
    """A process that trains when told to."""

    def __init__(self, width: float, steps: int, threads: int, rounds: int) -> None:
        self.process = subprocess.Popen(
            measure.command("benchmarks.packing:train", width, steps, threads, rounds),
            cwd=measure.ROOT,
            env=measure.environment(threads),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def wait_for(self, word: str) -> None:
        """Until it says so.

        Raises:
            RuntimeError: If it says something else, or ends.
        """
        assert self.process.stdout is not None
        said = self.process.stdout.readline().strip()
        if said != word:
            raise RuntimeError(f"A trial should have said '{word}', but said '{said}'; see its error above.")

    def start(self) -> None:
        """Let it train one round."""
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def end(self) -> None:
        """Stop it, finished or not."""
        self.process.kill()
        self.process.communicate()


def row(width: float, steps: int, rounds: int, threads: int = 2) -> Row:
    """Two trials side by side, a thread each, against one after the other with `threads` each, by turns."""
    alone = [Trial(width, steps, threads, rounds + 1) for _ in range(2)]
    packed = [Trial(width, steps, 1, rounds + 1) for _ in range(2)]
    everyone = (*alone, *packed)

    def one_by_one() -> None:
        for trial in alone:
            trial.start()
            trial.wait_for("done")

    def side_by_side() -> None:
        for trial in packed:
            trial.start()
        for trial in packed:
            trial.wait_for("done")

    def ready(call: object, which: Sequence[Trial]) -> float:
        for trial in which:
            trial.wait_for("ready")
        began = time.monotonic()
        call()  # type: ignore[operator]
        return time.monotonic() - began

    try:
        found: tuple[list[float], list[float]] = ([], [])
        for number in range(rounds + 1):
            pair = ready(one_by_one, alone), ready(side_by_side, packed)
            if number:  # The first round is not counted.
                found[0].append(pair[0])
                found[1].append(pair[1])
    finally:
        for trial in everyone:
            trial.end()
    return measure.row(
        "G8",
        "packing: 2 trials x 1 thread against 2 threads in turn",
        f"ResNet-18 x {width:g} at {SIDE} px, B={BATCH}, {steps} steps, wall",
        *found,
        wanted=WANTED,
        note="wall time; needs two idle cores" if os.getloadavg()[0] > 1 else "",
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = measure.parser(__doc__)
    parser.add_argument("--steps", type=int, help="in a round (30; with --quick 10)")
    parser.add_argument("--width", type=float, action="append", help="of the network (0.25 and 1; with --quick 0.25)")
    options = parser.parse_args(arguments)
    found = measure.facts()
    if found["cores"] < 2:
        print("not run: packing needs two cores, but this process may use one only")
        return
    widths = options.width or ([0.25] if options.quick else [0.25, 1.0])
    steps = options.steps or (10 if options.quick else 30)
    made = [row(width, max(1, round(steps * min(1.0, 0.25 / width))), 3 if options.quick else 7) for width in widths]
    measure.finish(made, options, found)


if __name__ == "__main__":
    main()
