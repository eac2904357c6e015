"""What is said of networks that break a contract; `test_registry.py` holds every one of ours to them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trainables.contracts import Broken, networks
from trainables.contracts.networks import OF_NETWORKS
from trainables.models.network import Network, Outputs


def plain(channels: int, classes: int, **more: Any) -> Network:
    """Two convolutions."""
    trunk = nn.Sequential(nn.Conv2d(channels, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 6, 3, padding=1))
    return Network(trunk, 6, classes=classes, embedding=0, stages=[(1, 4), (2, 6)])


class WrongWidth(Network):
    def forward(self, images: Tensor, maps: bool = False) -> Outputs:
        found = super().forward(images, maps)
        return Outputs(torch.cat([found.embedding, found.embedding], 1), found.logits, found.maps)


class WrongMaps(Network):
    def forward(self, images: Tensor, maps: bool = False) -> Outputs:
        found = super().forward(images, maps)
        return Outputs(found.embedding, found.logits, found.maps[:1])


class NoOutputs(Network):
    def forward(self, images: Tensor, maps: bool = False) -> Any:
        return tuple(super().forward(images, maps))


class Mixing(Network):
    def forward(self, images: Tensor, maps: bool = False) -> Outputs:
        found = super().forward(images, maps)
        return Outputs(found.embedding - found.embedding.mean(0), found.logits, found.maps)


class Shared(Network):
    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        self.twin = self.classifier


class Sideways(Network):
    """Takes a convolution's output from within a sequence, before its normalisation."""

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        self.block = nn.Sequential(nn.Conv2d(6, 6, 1), nn.BatchNorm2d(6))

    def forward(self, images: Tensor, maps: bool = False) -> Outputs:
        x = self.trunk(images)
        embedding = (self.block(x) + self.block[0](x)).mean((2, 3))
        return Outputs(embedding, self.classifier(embedding))


class Idle(Network):
    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        self.unused = nn.Linear(3, 3)


def of_class(kind: type[Network]) -> Callable[..., Network]:
    """A builder of some broken kind."""

    def make(channels: int, classes: int) -> Network:
        trunk = nn.Sequential(nn.Conv2d(channels, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 6, 3, padding=1))
        return kind(trunk, 6, classes=classes, embedding=0, stages=[(1, 4), (2, 6)])

    return make


def always_the_same(channels: int, classes: int) -> Network:
    """Seeded by itself."""
    torch.manual_seed(0)
    return plain(channels, classes)


SHAPES, SEED, MIX, LEARN, FILE, FOLD, COST, GUIDE = OF_NETWORKS

BROKEN: list[tuple[Callable[..., Any], str, str]] = [
    (of_class(WrongWidth), SHAPES, r"the embedding is \(2, 12\), not \(2, 6\)"),
    (of_class(WrongMaps), SHAPES, r"the maps have \(4,\) channels, not \(4, 6\)"),
    (of_class(NoOutputs), SHAPES, "must give `Outputs`, but gave tuple"),
    (always_the_same, SEED, "different seeds have the same weights"),
    (of_class(Mixing), MIX, "another embedding when others are beside it"),
    (of_class(Idle), LEARN, "no gradient reaches unused.weight, unused.bias"),
    (of_class(Shared), FILE, "cannot be saved"),
    (of_class(Sideways), FOLD, "its embedding differ by up to"),
]


@pytest.mark.parametrize(("builder", "contract", "told"), BROKEN, ids=lambda x: getattr(x, "__name__", None))
def test_a_network_that_breaks_the_contract_is_told_how(
    builder: Callable[..., Any], contract: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(name: str, *, channels: int, classes: int, width: float = 1.0) -> Any:
        return builder(channels, classes)

    monkeypatch.setattr(networks, "build", build)
    with pytest.raises(Broken, match=told):
        OF_NETWORKS[contract]("made_up")


class NotFrozen(Network):
    """Its outputs need gradients of its own, also where nobody may have any."""

    def forward(self, images: Tensor, maps: bool = False) -> Outputs:
        if not torch.is_grad_enabled():
            raise RuntimeError("needs gradients")
        return super().forward(images, maps)


def test_a_network_that_cannot_be_a_guide_is_told_how(monkeypatch: pytest.MonkeyPatch) -> None:
    made = of_class(NotFrozen)
    monkeypatch.setattr(
        "trainables.training.networks.build", lambda name, *, channels, classes, **more: made(channels, classes)
    )
    monkeypatch.setattr(networks, "build", lambda name, *, channels, classes, **more: made(channels, classes))
    with pytest.raises(
        Broken, match="as a teacher, trained on labels, it ends as failed: RuntimeError: needs gradients"
    ):
        OF_NETWORKS[GUIDE]("resnet_thin")


def test_a_network_without_layers_has_no_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    class Empty(nn.Module):
        def forward(self, images: Tensor, maps: bool = False) -> Outputs:
            return Outputs(images.flatten(1), images.flatten(1))

    monkeypatch.setattr(networks, "build", lambda name, **more: Empty())
    with pytest.raises(Broken, match="no convolution"):
        OF_NETWORKS[COST]("made_up")
