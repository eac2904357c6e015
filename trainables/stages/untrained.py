"""Untrained: a network as it is drawn, or raw pixels; what a trained network must be better than."""

from __future__ import annotations

from collections.abc import Generator, Mapping

from safetensors.torch import save_file

from trainables.data.packed import open_packed
from trainables.data.protocols import cut_for
from trainables.models.macs import count_macs
from trainables.spec import UntrainedSpec
from trainables.stages.base import Context, Progress, Result
from trainables.store.artifacts import Artifact
from trainables.training.networks import make_network
from trainables.training.numerics import prepare


def run(spec: UntrainedSpec, parents: Mapping[str, Artifact], context: Context) -> Generator[Progress, None, Result]:
    """The weights drawn from (seed, network), published as a training would; reads no image."""
    prepare(spec, context)
    packed = open_packed(context.packed_folder / f"{spec.data}.arrow")
    network = make_network(spec, packed.info, len(cut_for(packed, spec).classes))
    side = spec.upsample_to or spec.resolution or packed.info.height
    yield Progress(1, 1)
    weights = {name: value.contiguous() for name, value in network.state_dict().items()}
    return Result(
        metrics={
            "parameters_count": sum(p.numel() for p in network.parameters()),
            "macs": count_macs(network, channels=packed.info.channels, side=side),
        },
        write=lambda folder: save_file(weights, folder / "weights.safetensors"),
    )
