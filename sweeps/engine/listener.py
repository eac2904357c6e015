"""What the engine tells: a listener about each stage, a display about all of them."""

from __future__ import annotations

from typing import Any, Protocol

from sweeps.engine.state import EngineState
from sweeps.planning.graph import StageNode


class Listener(Protocol):
    """What wants to know about the engine's stages: sampling, records, display."""

    def stage_done(self, node: StageNode) -> None: ...

    def stage_failed(self, node: StageNode) -> None: ...

    def stage_value(self, node: StageNode, epoch: int, value: float) -> bool:
        """Told of a validation value; true prunes the stage."""
        ...

    def more(self) -> bool:
        """Asked when a slot is free and nothing is ready: true when new stages were added."""
        ...

    def exhausted(self) -> bool:
        """Whether no further stages will be added."""
        ...


class Display(Protocol):
    """What shows a person how it goes; `terminal` is where people look while stdout belongs to the log."""

    def start(self, state: EngineState, terminal: Any) -> None: ...

    def tick(self, state: EngineState) -> None: ...

    def say(self, line: str) -> None: ...

    def stop(self) -> None: ...
