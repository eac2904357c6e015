"""What a stage takes, counted before anything runs: what costs and forecasts are made of. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

CORE_RATE = 2.5e10  # Multiply-adds a second of one core, small images.
GPU_RATE = 2e13  # Of one data-centre GPU at the batch sizes of the papers.
CALL_SECONDS = 4e-4  # One layer of one call on the CPU, whatever its size.
GPU_CALL_SECONDS = 4e-5
FILL_BATCH = 256  # Images that a frozen network sees at once while its outputs are kept.
KEPT_BYTES = 20_000  # Of a manifest and what lies beside it.


class Sizes(Protocol):
    """How large the data are."""

    data: dict[str, Any]  # What is known of the set: `train_images`, `test_images`, `height`, `classes`, ...

    def __call__(self, spec: Any) -> tuple[int, int]:
        """Images and classes that a stage trains on."""
        ...


@dataclass(frozen=True, kw_only=True)
class Work:
    """What one stage takes.

    Attributes:
        macs: Multiply-adds.
        calls: Calls of layers, each of which costs time whatever its size.
        seconds: What takes time besides, on any machine.
        bytes: Left in the store.
        checkpoint_bytes: Of a checkpoint while it runs.
        asked: Outputs of its frozen teacher that it trains with, computed or read.
        computed: (images, batch size) of the passes for which it runs its frozen teacher.
    """

    macs: float = 0.0
    calls: float = 0.0
    seconds: float = 0.0
    bytes: float = 0.0
    checkpoint_bytes: float = 0.0
    asked: int = 0
    computed: tuple[tuple[int, int], ...] = ()

    def time(self, *, gpu: bool = False) -> float:
        """Estimated seconds on one core or GPU; right within a factor of about three."""
        rate, call = (GPU_RATE, GPU_CALL_SECONDS) if gpu else (CORE_RATE, CALL_SECONDS)
        return self.macs / rate + self.calls * call + self.seconds
