"""Time and memory of the angle loss against the formula as the paper writes it.

    python -m benchmarks.angle_loss [--batch 256] [--quick]

Both sides run in one process, by turns, on one thread, forward and backward. Time is process CPU time (median
and quartiles). Memory is measured for each side in a process of its own: the peak of the resident set during
one call minus what was resident before it, with the kernel's peak mark reset just before (Linux). It counts
all of the call's tensors and whatever the numerical libraries allocate, but not the inputs.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:  # Run as a script, Python looks for imports beside this file only.
    sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
from torch import Tensor  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from trainables.losses import angle_loss  # noqa: E402

STUDENT_WIDTH = 512
TEACHER_WIDTH = 2048


def direct_angle_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean Huber difference of all triplets' cosines, from differences [B, B, D] (HORKD, Eq. 4-5)."""
    ours, theirs = _cosines(student), _cosines(teacher.detach())
    batch = len(student)
    return F.huber_loss(ours, theirs, reduction="sum") / (batch * (batch - 1) * (batch - 2))


def _cosines(x: Tensor) -> Tensor:
    edges = F.normalize(x[:, None, :] - x[None, :, :], dim=2)
    return torch.bmm(edges, edges.transpose(1, 2))


SIDES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"ours": angle_loss, "direct": direct_angle_loss}


def inputs(batch: int) -> tuple[Tensor, Tensor]:
    """Student and teacher embeddings [batch, D], the student's with a gradient."""
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(batch, STUDENT_WIDTH, generator=generator).requires_grad_()
    return student, torch.randn(batch, TEACHER_WIDTH, generator=generator)


def cpu_seconds(side: str, student: Tensor, teacher: Tensor) -> float:
    """CPU seconds of one forward and backward pass."""
    student.grad = None
    started = time.process_time()
    SIDES[side](student, teacher).backward()
    return time.process_time() - started


def extra_memory(side: str, batch: int) -> float:
    """Peak resident MiB beyond the inputs during one call, measured in a fresh process."""
    command = [sys.executable, str(Path(__file__).resolve()), "--measure-memory", side, "--batch", str(batch)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _measure_memory(side: str, batch: int) -> float:
    student, teacher = inputs(batch)
    # A tiny call first, so that lazily loaded code and the libraries' own pools are not counted.
    SIDES[side](student[:8], teacher[:8]).backward()
    student.grad = torch.zeros_like(student)
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    SIDES[side](student, teacher).backward()
    return (_status("VmHWM") - before) / 1024


def _status(field: str) -> int:
    """A field of this process's memory status, in KiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1])
    raise RuntimeError(f"/proc/self/status has no field {field}; this measurement needs Linux.")


def compare(batch: int, rounds: int) -> tuple[float, float]:
    """Prints one block for `batch` and returns how many times less time and less memory ours takes."""
    student, teacher = inputs(batch)
    seconds: dict[str, list[float]] = {side: [] for side in SIDES}
    values = {side: float(SIDES[side](student[:16], teacher[:16]).detach()) for side in SIDES}
    for _ in range(rounds):
        for side in SIDES:
            seconds[side].append(cpu_seconds(side, student, teacher))
    memory = {side: extra_memory(side, batch) for side in SIDES}
    print(f"B={batch}, D_s={STUDENT_WIDTH}, D_t={TEACHER_WIDTH}, float32, {rounds} rounds")
    for side, measured in seconds.items():
        low, middle, high = statistics.quantiles(measured, n=4, method="inclusive")
        print(
            f"  {side:<7} {1e3 * middle:9.1f} ms  [{1e3 * low:.1f}, {1e3 * high:.1f}]   "
            f"{memory[side]:8.1f} MiB   value on 16 rows {values[side]:.8f}"
        )
    times = statistics.median(seconds["direct"]) / statistics.median(seconds["ours"])
    return times, memory["direct"] / max(memory["ours"], 1 / 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=256, help="batch size of the closing ratios (default 256)")
    parser.add_argument("--quick", action="store_true", help="three rounds instead of seven")
    parser.add_argument("--measure-memory", choices=tuple(SIDES), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.batch < 3:
        parser.error(f"--batch must be at least 3, the size of a triplet, but got {options.batch}")
    torch.set_num_threads(1)
    if options.measure_memory:
        print(_measure_memory(options.measure_memory, options.batch))
        return
    print(f"torch {torch.__version__}, CPU, one thread; median [quartiles] of CPU time, extra peak memory")
    rounds = 3 if options.quick else 7
    if options.batch != 64:
        times, less = compare(64, 5 * rounds)
        print(f"  time: {times:.1f} x, memory: 1/{less:.1f}")
    times, less = compare(options.batch, rounds)
    print(f"time: {times:.1f} x")
    print(f"memory: 1/{less:.1f}")


if __name__ == "__main__":
    main()
