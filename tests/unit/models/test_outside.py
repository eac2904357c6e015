"""Networks of torchvision and timm by name: what they give, how they are drawn, which sizes and words are refused."""

from __future__ import annotations

import copy
import socket
from typing import Any

import pytest
import torch
from torch import nn

from trainables.errors import MachineError, UsageError
from trainables.models import Network, build
from trainables.models.macs import count_macs
from trainables.models.network import fold
from trainables.models.outside import outside, require_readable
from trainables.spec import TeacherSpec, stage_key

torchvision = pytest.importorskip("torchvision", reason="torchvision is not installed")

# Name -> width of what its own last linear layer reads.
WIDTHS = {
    "resnet18": 512,
    "mobilenet_v3_small": 1024,
    "squeezenet1_1": 512,
    "shufflenet_v2_x0_5": 1024,
    "mnasnet0_5": 1280,
}


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may be fetched."""

    def refuse(*what: Any, **more: Any) -> None:
        raise AssertionError("a network connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.mark.parametrize("name", WIDTHS)
def test_a_network_of_torchvision_has_an_embedding_and_one_linear_classifier(name: str) -> None:
    network = build(f"torchvision:{name}", channels=3, classes=7).eval()
    assert isinstance(network, Network)
    with torch.no_grad():
        outputs = network(torch.randn(2, 3, 64, 64), maps=True)
    assert outputs.embedding.shape == (2, WIDTHS[name]) == (2, network.embedding_width)
    torch.testing.assert_close(outputs.logits, network.classifier(outputs.embedding))
    assert outputs.logits.shape == (2, 7)
    assert tuple(m.shape[1] for m in outputs.maps) == network.map_widths
    assert count_macs(network, channels=3, side=64) > 1e6


def test_torchvisions_residual_networks_give_the_maps_of_their_stages_and_nothing_else_changes() -> None:
    network = build("torchvision:resnet18", channels=3, classes=7).eval()
    assert isinstance(network, Network)
    own = torchvision.models.resnet18(weights=None, num_classes=7).eval()
    own.load_state_dict({k: v for k, v in network.body.state_dict().items()}, strict=False)  # type: ignore[union-attr, operator]
    own.fc.load_state_dict(network.classifier.state_dict())
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        rich, plain = network(images, maps=True), network(images)
        torch.testing.assert_close(rich.logits, own(images))
    assert [tuple(m.shape[1:]) for m in rich.maps] == [(64, 16, 16), (128, 8, 8), (256, 4, 4), (512, 2, 2)]
    assert plain.maps == () and torch.equal(plain.logits, rich.logits)
    assert build("torchvision:resnet50", channels=3, classes=2).map_widths == (256, 512, 1024, 2048)  # type: ignore[union-attr]


def test_weights_are_drawn_from_the_seed_and_nothing_else() -> None:
    def drawn(seed: int) -> dict[str, torch.Tensor]:
        torch.manual_seed(seed)
        return build("torchvision:mobilenet_v3_small", channels=3, classes=4).state_dict()

    first, again, other = drawn(1), drawn(1), drawn(2)
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert any(not torch.equal(value, other[name]) for name, value in first.items())


def test_grey_images_and_an_embedding_layer_are_built_in() -> None:
    network = build("torchvision:mobilenet_v3_small", channels=1, classes=4, embedding=24).eval()
    assert isinstance(network, Network)
    with torch.no_grad():
        outputs = network(torch.randn(2, 1, 64, 64))
    assert outputs.embedding.shape == (2, 24) and outputs.logits.shape == (2, 4)
    first = next(layer for layer in network.modules() if isinstance(layer, nn.Conv2d))
    assert first.in_channels == 1 and first.stride == (2, 2)


def test_a_size_that_a_network_cannot_read_is_refused() -> None:
    network = build("torchvision:inception_v3", channels=3, classes=2)
    assert network.training
    with pytest.raises(
        UsageError, match=r"torchvision:inception_v3 cannot read images of 32 x 32: .* Raise resolution"
    ):
        require_readable(network, "torchvision:inception_v3", channels=3, side=32)
    require_readable(network, "torchvision:inception_v3", channels=3, side=96)
    assert network.training


@pytest.mark.parametrize(
    ("name", "more", "said"),
    [
        ("torchvision:resnet181", {}, "torchvision has no classification network 'resnet181'. Did you mean 'resnet18'"),
        ("torchvision:fcn_resnet50", {}, "torchvision has no classification network 'fcn_resnet50'"),
        ("torchvision:resnet18", {"width": 0.5}, "`width` and `stem` are of our own networks"),
        ("torchvision:resnet18", {"stem": "large"}, "`width` and `stem` are of our own networks"),
        ("torchvison:resnet18", {}, "No architecture named 'torchvison:resnet18'"),
    ],
)
def test_wrong_names_and_words_are_refused(name: str, more: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        build(name, channels=3, classes=2, **more)


def test_a_missing_library_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MachineError, match=r"need the package timm, which is not installed .* `pip install timm`"):
        build("timm:resnet10t", channels=3, classes=2)


def test_names_of_other_libraries_are_architectures_and_enter_the_key() -> None:
    names = ("torchvision:resnet18", "torchvision:resnet34", "timm:resnet18.a1_in1k", "resnet18")
    keys = {stage_key(TeacherSpec(architecture=name), {}) for name in names}
    assert len(keys) == len(names)
    assert TeacherSpec(architecture="timm:resnet10t").components()["network.timm:resnet10t"] == 1
    for wrong in ("torchvision:", "torchvision:a b", "timm:../x", "elsewhere:resnet18"):
        with pytest.raises(UsageError, match="architecture must be one of"):
            TeacherSpec(architecture=wrong)


def test_folding_leaves_normalisations_alone_that_do_more() -> None:
    class Activating(nn.BatchNorm2d):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return super().forward(input).relu()

    plain = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1), Activating(4)).eval()
    folded = copy.deepcopy(plain)
    fold(folded)
    images = torch.randn(2, 3, 5, 5)
    with torch.no_grad():
        torch.testing.assert_close(folded(images), plain(images))
    assert isinstance(folded[1], nn.Identity) and isinstance(folded[3], Activating)


# Networks of timm, where it is installed.


@pytest.fixture
def timm() -> Any:
    return pytest.importorskip("timm", reason="timm is optional and not installed")


@pytest.mark.parametrize(
    ("name", "side"), [("resnet10t", 64), ("mobilenetv3_small_050", 32), ("vit_tiny_patch16_224", 224)]
)
def test_a_network_of_timm_has_an_embedding_and_one_linear_classifier(timm: Any, name: str, side: int) -> None:
    torch.manual_seed(0)
    network = outside(f"timm:{name}", channels=3, classes=5).eval()
    with torch.no_grad():
        outputs = network(torch.randn(2, 3, side, side), maps=True)
        folded = copy.deepcopy(network)
        fold(folded)
        torch.testing.assert_close(folded(torch.ones(1, 3, side, side)), network(torch.ones(1, 3, side, side)))
    assert outputs.embedding.shape == (2, network.embedding_width) and outputs.logits.shape == (2, 5)
    assert outputs.maps == network.map_widths == ()
    assert len(network.normal.mean) == 3 and network.normal.side >= 32


def test_grey_images_are_read_by_networks_of_timm(timm: Any) -> None:
    network = build("timm:resnet10t", channels=1, classes=5).eval()
    with torch.no_grad():
        assert network(torch.randn(2, 1, 64, 64)).logits.shape == (2, 5)


def test_wrong_names_and_sizes_of_timm_are_refused(timm: Any) -> None:
    with pytest.raises(UsageError, match=r"timm has no network 'resnet10tt'. Did you mean 'resnet10t'"):
        build("timm:resnet10tt", channels=3, classes=2)
    network = build("timm:vit_tiny_patch16_224", channels=3, classes=2)
    with pytest.raises(UsageError, match="timm:vit_tiny_patch16_224 cannot read images of 32 x 32"):
        require_readable(network, "timm:vit_tiny_patch16_224", channels=3, side=32)
