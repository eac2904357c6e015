"""How fast a GPU trains, fills caches and compares angles, and what several trainings at once gain.

Times are wall time between two moments at which the device has done everything; sides take turns in one process.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import direct, measure
from benchmarks.gpu_checks import Answer
from benchmarks.gpu_setting import (
    AUGMENT,
    HIGH,
    PAD,
    PlainLoop,
    Sizes,
    begin,
    fill,
    forget_peak,
    frozen,
    peak_mib,
    splits,
    student_spec,
    teacher_of,
    trainer,
    wait_for,
)
from trainables.data.augment import view_count
from trainables.losses.horkd import angle_loss
from trainables.models.macs import count_macs
from trainables.training.frozen import CachedTeacher, FrozenNetwork

PATIENCE = 240.0  # Seconds that several trainings at once may take before they are ended.


def clock_of(device: torch.device) -> Callable[[], float]:
    """Wall time, read when the device has done everything."""

    def clock() -> float:
        wait_for(device)
        return time.perf_counter()

    return clock


def ceilings(sizes: Sizes, device: torch.device) -> dict[str, float]:
    """Multiply-adds a second of a large matrix product in each number format: what use is measured against."""
    found = {}
    for name, dtype in {"float32": torch.float32, "bfloat16": torch.bfloat16}.items():
        one, other = (torch.randn(sizes.matrix, sizes.matrix, device=device).to(dtype) for _ in range(2))

        def product(one: Tensor = one, other: Tensor = other) -> None:
            one @ other

        seconds = measure.by_turns({"product": product}, 5, clock_of(device))["product"]
        found[name] = sizes.matrix**3 / statistics.median(seconds)
    return found


def steps(sizes: Sizes, device: torch.device, folder: Path) -> list[Answer]:
    """Images a second, use of the device and peak memory of the training step, beside the plain loop."""
    begin(student_spec(sizes, 8), device)
    most = ceilings(sizes, device)
    answers = [
        Answer("device", f"matrix product of {sizes.matrix}, {name}", f"{2 * value / 1e12:.1f} TFLOP/s")
        for name, value in most.items()
    ]
    for batch in sizes.batches:
        data = splits(sizes, batch * sizes.steps, device)
        own = folder / f"cache-{batch}"
        own.mkdir()
        guide = frozen(teacher_of(sizes), data)
        began = clock_of(device)()
        kept, outputs = fill(guide, data, own)
        answers.append(_filling(sizes, batch, outputs, clock_of(device)() - began, guide, most))
        for precision in ("float32", "bfloat16"):
            answers += _step(sizes, device, batch, precision, data, guide, kept, most)
    return answers


def _filling(
    sizes: Sizes, batch: int, outputs: int, seconds: float, guide: FrozenNetwork, most: dict[str, float]
) -> Answer:
    macs = count_macs(guide.network, channels=3, side=HIGH)
    use = macs * outputs / seconds / most["float32"]
    what = f"{outputs} outputs of {sizes.teacher}, {view_count(AUGMENT, PAD)} views, float32, written and checked"
    return Answer("filling", what, f"{outputs / seconds:,.0f} outputs/s, {100 * use:.1f} % of the device")


def _step(
    sizes: Sizes,
    device: torch.device,
    batch: int,
    precision: str,
    data: Any,
    guide: FrozenNetwork,
    kept: Any,
    most: dict[str, float],
) -> list[Answer]:
    """Live, cached and plain, by turns."""
    spec = student_spec(sizes, batch, precision)
    live = trainer(spec, data, guide)
    cached = trainer(spec, data, CachedTeacher(frozen(teacher_of(sizes), data), kept))
    sides: dict[str, Callable[[], object]] = {
        "plain loop": PlainLoop(live, teacher_of(sizes)).train_epoch,
        "live": live.train_epoch,
        "cached": cached.train_epoch,
    }
    peaks = {}
    for name, call in sides.items():
        call()
        forget_peak(device)
        call()
        peaks[name] = peak_mib(device)
    seconds = measure.by_turns(sides, sizes.rounds, clock_of(device))
    student = 3 * live.macs  # A backward pass takes twice the forward pass.
    teacher = count_macs(guide.network, channels=3, side=HIGH)
    work = {"plain loop": student + teacher, "live": student + teacher, "cached": student}
    answers = []
    for name in sides:
        per_second = [batch * sizes.steps / value for value in seconds[name]]
        middle = statistics.median(per_second)
        use = work[name] * middle / most[precision]
        ratio = measure.row("", name, "", seconds["plain loop"], seconds[name])
        figure = f"{middle:,.0f} images/s, {100 * use:.1f} % of the device"
        if peaks[name] is not None:
            figure += f", {peaks[name]:,.0f} MiB"
        if name != "plain loop":
            figure += f", {ratio.ratio:.2f}x the plain loop [{ratio.low:.2f}, {ratio.high:.2f}]"
        what = f"{sizes.student} at {sizes.side} px <- {sizes.teacher}, B={batch}, {precision}: {name}"
        answers.append(Answer("training step", what, figure))
    return answers


def angles(sizes: Sizes, device: torch.device) -> list[Answer]:
    """The angle loss, forward and backward, beside the direct form: time and peak memory."""
    begin(student_spec(sizes, 8), device)
    answers = []
    for batch in sizes.angles:
        draws = torch.Generator().manual_seed(0)
        student, teacher = (torch.randn(batch, width, generator=draws).to(device) for width in sizes.widths)
        student.requires_grad_()

        def call(
            loss: Callable[[Tensor, Tensor], Tensor], student: Tensor = student, teacher: Tensor = teacher
        ) -> None:
            student.grad = None
            loss(student, teacher).backward()

        sides: dict[str, Callable[[], object]] = {
            "direct": lambda call=call: call(direct.angle_loss),  # type: ignore[misc]
            "ours": lambda call=call: call(angle_loss),  # type: ignore[misc]
        }
        peaks = {}
        for name, side in sides.items():
            side()
            forget_peak(device)
            side()
            peaks[name] = peak_mib(device)
        seconds = measure.by_turns(sides, sizes.rounds, clock_of(device))
        row = measure.row("", "", "", seconds["direct"], seconds["ours"])
        figure = f"{measure.amount(row.ours, 's')} against {measure.amount(row.reference, 's')}, {row.ratio:.1f}x"
        if peaks["ours"] is not None and peaks["direct"] is not None:
            figure += f"; {peaks['ours']:,.0f} MiB against {peaks['direct']:,.0f}"
        what = f"B={batch}, D={'/'.join(map(str, sizes.widths))}, forward and backward against the direct form"
        answers.append(Answer("angle loss", what, figure))
    return answers


def together(sizes: Sizes, device: torch.device) -> list[Answer]:
    """Trainings in processes of their own, all at once, against as many one after the other."""
    alone = _trainings(1, sizes, device)
    answers = []
    for number in sizes.together:
        taken = _trainings(number, sizes, device)
        ratio = number * alone / taken
        what = f"{number} at once, B={sizes.batches[0]}, {sizes.student} at {sizes.side} px, labels"
        figure = f"{taken:.2f} s against {number * alone:.2f} s one after the other, {ratio:.2f}x"
        answers.append(Answer("several trainings", what, figure))
    return answers


def _trainings(number: int, sizes: Sizes, device: torch.device) -> float:
    """Seconds from the common start to the last end of `number` trainings that are all warm.

    Raises:
        RuntimeError: If one fails, or they take longer than `PATIENCE`.
    """
    with tempfile.TemporaryDirectory(prefix="gpu-together-") as place:
        words = json.dumps([place, dataclasses.asdict(sizes), device.type])
        command = [sys.executable, "-m", "benchmarks.gpu_speed", "--worker", words]
        said = subprocess.PIPE
        workers = [
            subprocess.Popen(command, cwd=measure.ROOT, env=measure.environment(), stdout=said, stderr=said, text=True)
            for _ in range(number)
        ]
        try:
            ends = time.monotonic() + PATIENCE
            while len(list(Path(place).glob("ready-*"))) < number:
                if any(worker.poll() for worker in workers) or time.monotonic() > ends:
                    break
                time.sleep(0.05)
            (Path(place) / "go").touch()
            spans = []
            for worker in workers:
                told, complaint = worker.communicate(timeout=max(1.0, ends - time.monotonic()))
                if worker.returncode:
                    raise RuntimeError(f"a training ended with {worker.returncode}: {complaint[-500:]}")
                spans.append(json.loads(told.splitlines()[-1]))
        finally:
            for worker in workers:
                if worker.poll() is None:
                    worker.kill()
                    worker.wait()
    return float(max(end for _, end in spans) - min(start for start, _ in spans))


def _worker(words: str) -> None:
    place, plain, kind = json.loads(words)
    plain = {name: tuple(value) if isinstance(value, list) else value for name, value in plain.items()}
    sizes, device = Sizes(**plain), torch.device(kind)
    spec = student_spec(sizes, sizes.batches[0], method="none")
    begin(spec, device)
    made = trainer(spec, splits(sizes, sizes.batches[0] * sizes.steps, device), None)
    made.train_epoch()
    wait_for(device)
    handle, _ = tempfile.mkstemp(prefix="ready-", dir=place)
    with contextlib.closing(open(handle)):
        pass
    while not (Path(place) / "go").exists():
        time.sleep(0.005)
    began = time.time()
    for _ in range(sizes.together_epochs):
        made.train_epoch()
    wait_for(device)
    print(json.dumps([began, time.time()]))


def main(arguments: Sequence[str] | None = None) -> None:
    """One of several trainings; `benchmarks.gpu` is the command for people."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--worker", required=True, help="where, sizes and device, as JSON")
    _worker(parser.parse_args(arguments).worker)


if __name__ == "__main__":
    main()
