"""What the specs of all stage kinds share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from trainables.spec.components import Versions
from trainables.spec.fields import Fields
from trainables.spec.values import bounded, choice


@dataclass(frozen=True, kw_only=True)
class StageSpec(Fields):
    """What every stage has. Subclasses add the fields that change their numbers."""

    kind: ClassVar[str] = ""
    version: ClassVar[int] = 1  # Raise when the same spec would now give other numbers.
    data: str = ""  # Fingerprint of the packed data set.
    threads: int = bounded(1, 1, 256)  # One and two threads give different bits; never taken from the machine.
    precision: str = choice("float32", ("float32", "bfloat16", "float16"))

    def components(self) -> Versions:
        """Versions of the parts this stage's numbers rest on."""
        return {}

    def resources(self) -> dict[str, float]:
        """What Ray is asked for: cpus, gpu share, memory in bytes. Changes no numbers."""
        return {"cpu": float(self.threads)}
