"""What can be said of a network whose weights come from a file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, TypeGuard

from trainables.spec.components import Versions, version_of
from trainables.spec.networks import ARCHITECTURES, OUTSIDE, families, family_of, of_files
from trainables.spec.stages import StageSpec
from trainables.spec.training import OF_TRAINING, TrainingSpec, protocol_of
from trainables.spec.values import bounded, choice

PROBED = 256  # Images on which a teacher without a classifier is tried.
PROBED_WITH_HEAD = 1024
# Fields that count only where the role is named: words for all stages describe networks in training.
GIVEN = (
    *("weights", "family", "architecture", "head", "order", "mean", "std", "side"),
    *("width", "embedding", "stem", "resolution", "filter", "blur", "upsample_to"),
)
OUTSIDE_SIDE = 224  # What networks of other libraries read.


@dataclass(frozen=True, kw_only=True)
class GivenSpec(TrainingSpec):
    """A stage whose network has its weights from a file: it is checked on the data, not trained, and has no seed."""

    is_given: ClassVar[bool] = True
    drawn_once: ClassVar[bool] = True
    weights: str = ""  # First 16 hex digits of the file's SHA-256; the command line takes the path.
    family: str = choice("auto", ("auto", *families()))  # Layout of the file; auto: as recognised.
    architecture: str = choice("auto", ("auto", *ARCHITECTURES, *of_files()), prefixes=OUTSIDE)
    head: str = choice("none", ("none", "keep"))  # keep: its logits, where they are of the data's own classes.
    # What images it wants; each family has its own, which plain files may be given.
    order: str = choice("auto", ("auto", "rgb", "bgr"))
    mean: tuple[float, ...] = ()  # Of pixels from 0 to 1; () means the architecture's own.
    std: tuple[float, ...] = ()
    side: int = bounded(0, 0, 1024)  # Side in pixels that the network reads; 0 means the architecture's own.

    def unused(self) -> tuple[str, ...]:
        """All of training, the seed included."""
        return (*super().unused(), *OF_TRAINING, "seed")

    def components(self) -> Versions:
        """How files are read, the data path, the network, and the protocol that splits the classes."""
        names = ["degrade", "pretrained", f"network.{family_of(self.architecture) or self.architecture}"]
        names += protocol_of(self.task)
        return {name: version_of(name) for name in sorted(names) if name != "network.auto"}

    def read_side(self, side: int) -> int:
        """What was said, or else what the network is known to read."""
        return self.side or (OUTSIDE_SIDE if ":" in self.architecture else super().read_side(side))

    @property
    def has_logits(self) -> bool:
        """Whether the file's classifier is kept."""
        return self.head == "keep"


def is_given(spec: StageSpec | None) -> TypeGuard[GivenSpec]:
    """Whether a stage has its network from a file."""
    return spec is not None and spec.is_given


def classes_differ(theirs: int, ours: int, data: str) -> str:
    """What to say of a classifier with other classes."""
    return (
        f"teacher.head=keep needs a classifier of the student's classes, but the file's has {theirs} and {data} gives "
        f"{ours}. Leave head=none: losses on embeddings and feature maps do without."
    )
