"""What fixes the bits of a training: threads, determinism, device, precision, and the name of all that in a manifest."""

from __future__ import annotations

import functools
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch

from trainables import spec as specs
from trainables.data.batches import generator
from trainables.errors import MachineError
from trainables.stages.base import Context

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@functools.cache
def numerics_of(device: str) -> str:
    """Torch version, processor and vector level: bits are promised for equal ones, on the CPU."""
    name = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    except OSError:
        pass
    level = torch.backends.cpu.get_cpu_capability()
    if device == "cuda":
        return f"torch {torch.__version__}, {torch.cuda.get_device_name()}"
    return f"torch {torch.__version__}, {name}, {level}"


def prepare(spec: specs.StageSpec, context: Context) -> torch.device:
    """Threads, determinism and device for a stage.

    Raises:
        MachineError: If the device or precision is not to be had.
    """
    torch.set_num_threads(spec.threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Nothing here reads memory it did not write; filling it first takes a tenth of a small network's step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if context.device == "cuda":
        if not torch.cuda.is_available():
            raise MachineError("A GPU was asked for, but torch finds none. Run without --gpus, or see `doctor`.")
        torch.backends.cudnn.benchmark = False
        # By default convolutions round float32 to ten bits there (TF32), and a loss would differ in its third digit.
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # Without it cuBLAS is not deterministic.
        if 0 < context.gpu_share < 1:
            torch.cuda.set_per_process_memory_fraction(context.gpu_share)
    elif spec.precision == "float16":
        raise MachineError("precision=float16 needs a GPU; on the CPU use float32 or bfloat16.")
    context.numerics = numerics_of(context.device)
    return torch.device(context.device)


def autocast(spec: specs.StageSpec, device: torch.device) -> Any:
    """Mixed precision where the spec asks for it."""
    return nullcontext() if spec.precision == "float32" else torch.autocast(device.type, PRECISIONS[spec.precision])


@contextmanager
def drawn_from(seed: int, purpose: str) -> Iterator[None]:
    """Torch's global generator, seeded by (seed, purpose) for a while."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator(seed, 0, purpose).initial_seed())
        yield
