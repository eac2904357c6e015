"""The network of a spec: drawn from its seed, read from an artifact, begun with other weights, trained in part."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from trainables import spec as specs
from trainables.data.packed import Packed, PackedInfo
from trainables.data.protocols import Cut, cut_for
from trainables.errors import ArtifactError, UsageError
from trainables.models import build
from trainables.models.network import Network, Pixels
from trainables.spec import TrainingSpec, has_network, registry
from trainables.store.artifacts import Artifact
from trainables.training.numerics import drawn_from

STRUCTURE = ("architecture", "width", "embedding", "stem")  # Of a spec: what the shapes of its weights rest on.


def make_network(spec: TrainingSpec, info: PackedInfo, classes: int) -> Network | Pixels:
    """The network of a spec with weights drawn from (seed, network): the same for every cell of one seed."""
    with drawn_from(spec.seed, f"weights {spec.architecture}"):
        network = build(
            spec.architecture,
            channels=info.channels,
            classes=classes,
            width=spec.width,
            embedding=spec.embedding,
            stem=spec.stem,
        )
    return network.to(memory_format=torch.channels_last)


def load_network(artifact: Artifact, packed: Packed) -> tuple[Network | Pixels, TrainingSpec, Cut]:
    """A trained network, its spec and what it was trained on, from its artifact.

    Raises:
        ArtifactError: If the weights do not fit the spec.
    """
    spec = specs.spec_from(artifact.kind, artifact.manifest["spec"])
    if not has_network(spec):
        raise ArtifactError(f"Artifact {artifact.key} is a {artifact.kind}, which has no network.")
    cut = cut_for(packed, spec)
    frozen = registry.get("stage", artifact.kind).facts["frozen"]
    if frozen is not None:
        return frozen(artifact, spec), spec, cut
    network = make_network(spec, packed.info, len(cut.classes))
    try:
        network.load_state_dict(load_file(artifact.file("weights.safetensors", verify=True)))
    except (SafetensorError, RuntimeError, ValueError, OSError) as error:
        raise ArtifactError(f"The weights of artifact {artifact.key} cannot be used: {str(error)[:300]}") from error
    return network, spec, cut


def begin_with_teacher(
    network: nn.Module,
    spec: TrainingSpec,
    classes: int,
    weights: Mapping[str, Tensor],
    theirs: TrainingSpec,
    their_classes: int,
) -> None:
    """Take the weights of a frozen teacher.

    Raises:
        UsageError: If it has another structure.
    """
    try:
        network.load_state_dict(dict(weights))
    except RuntimeError as error:
        pairs = {name: (getattr(theirs, name), getattr(spec, name)) for name in STRUCTURE}
        pairs["classes"] = (their_classes, classes)
        differ = [f"{name} {there} instead of {here}" for name, (there, here) in pairs.items() if there != here]
        raise UsageError(
            "A network that begins with its guide's weights must have the guide's structure, but the guide has "
            f"{', '.join(differ) or str(error)[:300]}. Make them equal, or set init_from_assistant=false."
        ) from error


class TrainedPart:
    """Which part of a network is trained; the rest is frozen: no gradient, evaluation mode, buffers that never move.

    Args:
        network: All of it; the parameters outside the part stop asking for gradients.
        names: Submodules that are trained, as `named_modules` calls them; none means the whole network.

    Raises:
        UsageError: If the network has no submodule of that name, or nothing in the part can be trained.
    """

    def __init__(self, network: nn.Module, names: Sequence[str] = ()) -> None:
        self.network = network
        modules = dict(network.named_modules())
        missing = [name for name in names if name not in modules]
        if missing:
            raise UsageError(f"A trained part must be a submodule of the network, but it has no {', '.join(missing)}.")
        self.modules = [modules[name] for name in names] or [network]
        # In the order of the network whatever the order of the names; a checkpoint's optimiser counts by place.
        chosen = {id(value) for module in self.modules for value in module.parameters()}
        self.parameters = [value for value in network.parameters() if id(value) in chosen]
        if names:
            network.requires_grad_(False)
            _ask_for_gradients(self.parameters)
        if not self.parameters:
            raise UsageError(
                f"The part of a network that is trained must have parameters, but {list(names)} have none."
            )

    def train(self) -> None:
        """Training mode for the part, evaluation mode for the rest."""
        self.network.eval()
        for module in self.modules:
            module.train()


def _ask_for_gradients(parameters: Iterable[nn.Parameter]) -> None:
    for value in parameters:
        value.requires_grad_(True)
