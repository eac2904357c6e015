"""Pretrained: a teacher whose weights come from a file, tried on the data before anything is distilled from it."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from trainables.spec.compute import forward_macs
from trainables.spec.given import PROBED, PROBED_WITH_HEAD, GivenSpec
from trainables.spec.stages import StageSpec, stage_entry
from trainables.spec.work import KEPT_BYTES, Sizes, Work
from trainables.stages.base import Context, Progress, Result
from trainables.store.artifacts import Artifact

if TYPE_CHECKING:
    from trainables.models.network import Network

RANK = 4


@dataclass(frozen=True, kw_only=True)
class PretrainedSpec(GivenSpec):
    """A teacher whose weights come from a file: it is checked on the data, not trained, and has no seed."""

    kind: ClassVar[str] = "pretrained"

    def work(self, sizes: Sizes, guide: StageSpec | None) -> Work:
        """Some images are tried; its weights are in the store already."""
        images = PROBED_WITH_HEAD if self.has_logits else PROBED
        return Work(macs=images * forward_macs(self, sizes.data["height"]), seconds=1.0, bytes=KEPT_BYTES)


def run(spec: PretrainedSpec, parents: Mapping[str, Artifact], context: Context) -> Generator[Progress, None, Result]:
    """Reads some images: outputs must be finite and differ, a kept classifier must know the classes."""
    from trainables.training.given import try_on_data

    return (yield from try_on_data(spec, context))


def frozen(artifact: Artifact, spec: PretrainedSpec) -> Network:
    """The network with the weights that the store keeps, as the file's family builds it."""
    from trainables.pretrained.frozen import load_frozen

    return load_frozen(artifact, spec)


ENTRY = stage_entry(PretrainedSpec, run, frozen=frozen)
