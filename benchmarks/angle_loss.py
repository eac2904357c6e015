"""Time and memory of the angle loss against the formula as the paper writes it (goals G1 and G2).

    python -m benchmarks.angle_loss [--batch 64 --batch 256] [--memory 256 --memory 512] [--quick] [--json FILE]

Forward and backward. Memory is measured for each side in a fresh process: the peak of the resident set during one call
minus what was resident before it, with the kernel's mark of the peak reset just before (Linux). It counts all of the
call's tensors and whatever the numerical libraries allocate, but not the inputs. At B=512 the formula needs 7 GiB.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from benchmarks import direct, measure
from benchmarks.measure import Row
from trainables.losses.horkd import angle_loss

STUDENT_WIDTH, TEACHER_WIDTH = 512, 2048
SIDES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"direct": direct.angle_loss, "ours": angle_loss}
TIME_WANTED = {64: 40.0, 256: 40.0}
MEMORY_WANTED = {256: 40.0, 512: 100.0}


def inputs(batch: int, student_width: int, teacher_width: int) -> tuple[Tensor, Tensor]:
    """Student and teacher embeddings [batch, D], the student's with a gradient."""
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(batch, student_width, generator=generator).requires_grad_()
    return student, torch.randn(batch, teacher_width, generator=generator)


def time_row(
    batch: int, rounds: int, student_width: int = STUDENT_WIDTH, teacher_width: int = TEACHER_WIDTH, repeats: int = 1
) -> Row:
    """CPU time of one forward and backward pass; ours is short, so each of its rounds is the mean of `repeats`."""
    student, teacher = inputs(batch, student_width, teacher_width)

    def call(side: str, times: int) -> None:
        for _ in range(times):
            student.grad = None
            SIDES[side](student, teacher).backward()

    with measure.as_stages_run():
        seconds = measure.by_turns({"direct": lambda: call("direct", 1), "ours": lambda: call("ours", repeats)}, rounds)
    return measure.row(
        "G1",
        "angle loss, time",
        f"B={batch}, D={student_width}/{teacher_width}",
        seconds["direct"],
        [value / repeats for value in seconds["ours"]],
        wanted=TIME_WANTED.get(batch),
    )


def memory_row(batch: int, rounds: int, student_width: int = STUDENT_WIDTH, teacher_width: int = TEACHER_WIDTH) -> Row:
    """Peak memory of one forward and backward pass."""
    found: dict[str, list[float]] = {side: [] for side in SIDES}
    for _ in range(rounds):
        for side, values in found.items():
            function = "benchmarks.angle_loss:memory_of"
            values.append(measure.fresh(function, side, batch, student_width, teacher_width))
    return measure.row(
        "G2",
        "angle loss, peak memory",
        f"B={batch}, D={student_width}/{teacher_width}",
        found["direct"],
        # A page is the least that the kernel counts.
        [max(value, 1 / 256) for value in found["ours"]],
        unit="MiB",
        wanted=MEMORY_WANTED.get(batch),
    )


def memory_of(side: str, batch: int, student_width: int, teacher_width: int) -> float:
    """Peak MiB of one call in this process, which must be fresh."""
    with measure.as_stages_run():
        student, teacher = inputs(batch, student_width, teacher_width)
        # A tiny call first, so that lazily loaded code and the libraries' own pools are not counted.
        SIDES[side](student[:8], teacher[:8]).backward()
        student.grad = torch.zeros_like(student)
        return measure.extra_memory(lambda: SIDES[side](student, teacher).backward())


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = measure.parser(__doc__)
    parser.add_argument("--batch", type=int, action="append", help="batch size to time (64 and 256)")
    parser.add_argument("--memory", type=int, action="append", help="batch size whose memory is measured (256 and 512)")
    options = parser.parse_args(arguments)
    timed = options.batch or [64, 256]
    weighed = options.memory or ([128, 256] if options.quick else [256, 512])
    if min(*timed, *weighed) < 3:
        parser.error("a batch must have at least 3 images, the size of a triplet")
    found = measure.facts()
    rows = [time_row(batch, 3 if options.quick else 9, repeats=10 if batch <= 64 else 1) for batch in timed]
    rows += [memory_row(batch, 1 if options.quick else 3) for batch in weighed]
    measure.finish(rows, options, found)


if __name__ == "__main__":
    main()
