"""Untrained: a network as it is drawn, or raw pixels; what a trained network must be better than."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from trainables.spec.components import Versions, version_of
from trainables.spec.networks import ARCHITECTURES, OUTSIDE
from trainables.spec.stages import StageSpec, stage_entry
from trainables.spec.training import OF_TRAINING, TrainingSpec, protocol_of
from trainables.spec.values import choice
from trainables.spec.work import Sizes, Work
from trainables.stages.base import Context, Progress, Result
from trainables.store.artifacts import Artifact

RANK = 3


@dataclass(frozen=True, kw_only=True)
class UntrainedSpec(TrainingSpec):
    """A network as it is drawn, or raw pixels: the floor that a trained one has to leave behind."""

    kind: ClassVar[str] = "untrained"
    plural: ClassVar[str] = "untrained networks"
    architecture: str = choice("pixels", (*ARCHITECTURES, "pixels"), prefixes=OUTSIDE, registered="network")

    def unused(self) -> tuple[str, ...]:
        """All of training; pixels have no seed either."""
        names = [*OF_TRAINING]
        if self.architecture == "pixels":
            names += ["seed", "width", "embedding", "stem"]
        return (*super().unused(), *names)

    def components(self) -> Versions:
        """The network, and the protocol that says how many classes it has."""
        names = [f"network.{self.architecture}"]
        names += protocol_of(self.task)
        return {name: version_of(name) for name in names}

    def work(self, sizes: Sizes, guide: StageSpec | None) -> Work:
        """Drawing it takes no time worth counting."""
        return Work(seconds=0.1, bytes=self.kept_bytes, checkpoint_bytes=2 * self.weights_bytes)


def run(spec: UntrainedSpec, parents: Mapping[str, Artifact], context: Context) -> Generator[Progress, None, Result]:
    """The weights drawn from (seed, network), published as a training would; reads no image."""
    from safetensors.torch import save_file

    from trainables.data.packed import open_packed
    from trainables.data.protocols import cut_for
    from trainables.models.macs import count_macs
    from trainables.training.networks import make_network
    from trainables.training.numerics import prepare

    prepare(spec, context)
    packed = open_packed(context.packed_folder / f"{spec.data}.arrow")
    network = make_network(spec, packed.info, len(cut_for(packed, spec).classes))
    side = spec.read_side(packed.info.height)
    yield Progress(1, 1)
    weights = {name: value.contiguous() for name, value in network.state_dict().items()}
    return Result(
        metrics={
            "parameters_count": sum(p.numel() for p in network.parameters()),
            "macs": count_macs(network, channels=packed.info.channels, side=side),
        },
        write=lambda folder: save_file(weights, folder / "weights.safetensors"),
    )


ENTRY = stage_entry(UntrainedSpec, run)
