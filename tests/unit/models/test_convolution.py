"""Products over patches give what the usual convolutions give."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

from trainables.models import build, convolution
from trainables.models.convolution import Conv2d

# in, out, kernel, stride, padding, (height, width): all of them suit once a channel counts as many.
SHAPES = [
    (3, 4, 3, 1, 1, (2, 2)),
    (3, 4, 3, 1, 1, (1, 1)),
    (3, 4, 3, 2, 1, (4, 4)),
    (3, 4, 3, 2, 1, (5, 3)),
    (2, 5, 1, 1, 0, (4, 2)),
    (2, 5, 1, 2, 0, (4, 3)),
    (2, 5, 1, 2, 1, (4, 3)),
    (2, 3, 5, 3, 2, (7, 4)),
    (2, 3, 3, 1, 0, (3, 6)),
]


def pair(inputs: int, outputs: int, kernel: int, stride: int, padding: int, *, bias: bool) -> tuple[Conv2d, nn.Conv2d]:
    """Both kinds with the same weights, in float64."""
    torch.manual_seed(0)
    ours = Conv2d(inputs, outputs, kernel, stride, padding, bias=bias).double().to(memory_format=torch.channels_last)
    usual = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=bias).double()
    usual.load_state_dict(ours.state_dict())
    return ours, usual


@pytest.fixture
def any_channels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convolution, "MANY_CHANNELS", 1)


@pytest.mark.usefixtures("any_channels")
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_values_and_gradients_are_those_of_the_usual_kernels(
    shape: tuple[int, int, int, int, int, tuple[int, int]], bias: bool, layout: torch.memory_format
) -> None:
    *choices, sides = shape
    ours, usual = pair(*choices, bias=bias)
    found = []
    for layer in (ours, usual):
        torch.manual_seed(1)
        x = torch.randn(3, choices[0], *sides, dtype=torch.float64).contiguous(memory_format=layout).requires_grad_()
        assert layer is usual or ours._suits(x)
        y = layer(x)
        y.square().sum().backward()
        assert x.grad is not None
        found.append([y, x.grad, *(parameter.grad for parameter in layer.parameters())])
    for here, there in zip(*found, strict=True):
        torch.testing.assert_close(here, there, rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("any_channels")
def test_what_needs_no_gradient_gets_none_and_no_image_is_no_failure() -> None:
    ours, _ = pair(2, 3, 3, 1, 1, bias=True)
    ours.weight.requires_grad_(False)
    x = torch.randn(2, 2, 2, 2, dtype=torch.float64)
    ours(x).sum().backward()
    assert ours.weight.grad is None and ours.bias is not None and ours.bias.grad is not None and x.grad is None
    assert ours(x[:0]).shape == (0, 3, 2, 2)


@pytest.mark.usefixtures("any_channels")
def test_a_gradient_can_be_differentiated_once_more() -> None:
    ours, _ = pair(2, 3, 3, 2, 1, bias=True)
    x = torch.randn(2, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    assert ours.bias is not None
    parts = (x, ours.weight.detach().requires_grad_(), ours.bias.detach().requires_grad_())
    assert torch.autograd.gradgradcheck(lambda *given: convolution._OverPatches.apply(*given, 2, 1).pow(2), parts)


def test_only_small_maps_under_many_channels_are_products() -> None:
    layer = Conv2d(256, 256, 3, padding=1)
    fits = torch.zeros(1, 256, 4, 4)
    assert layer._suits(fits)
    assert not layer._suits(torch.zeros(1, 256, 5, 4))
    assert not layer._suits(fits.double())
    assert not layer._suits(fits.to("meta"))
    assert not layer._suits(fits[0])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not layer._suits(fits)
        assert layer(fits).dtype == torch.bfloat16
    for other in (
        Conv2d(255, 256, 3, padding=1),
        Conv2d(256, 256, 3, padding=1, groups=2),
        Conv2d(256, 256, 3, padding=2, dilation=2),
        Conv2d(256, 256, (1, 3), padding=(0, 1)),
        Conv2d(256, 256, 3, padding="same"),
        Conv2d(256, 256, 3, padding=1, padding_mode="reflect"),
    ):
        x = torch.zeros(1, other.in_channels, 4, 4)
        assert not other._suits(x)
        assert other(x).shape == (1, 256, 4, 4)
    with pytest.raises(RuntimeError, match="Kernel size can't be greater"):
        Conv2d(256, 256, 5)(fits)


@pytest.mark.parametrize("name", ["resnet18", "vgg11"])
def test_a_whole_network_at_low_resolution_says_what_it_says_with_usual_kernels(name: str) -> None:
    torch.manual_seed(0)
    network = build(name, channels=3, classes=5).eval()
    images = torch.randn(2, 3, 8, 8)
    layers = [layer for layer in network.modules() if isinstance(layer, Conv2d)]
    used: list[bool] = []
    hooks = [x.register_forward_hook(lambda layer, inputs, _: used.append(layer._suits(inputs[0]))) for x in layers]
    ours = network(images)
    assert any(used) and not all(used)
    for layer, hook in zip(layers, hooks, strict=True):
        hook.remove()
        layer.__class__ = nn.Conv2d  # type: ignore[assignment]
    usual = network(images)
    torch.testing.assert_close(ours.logits, usual.logits, rtol=1e-4, atol=1e-5)


NARROW = """
import subprocess
import sys

import torch
from trainables.models.convolution import Conv2d
torch.set_num_threads(1)
torch.manual_seed(0)
for inputs, side in ((8, 48), (8, 64), (4, 64), (3, 33)):
    layer = Conv2d(inputs, 16, 1, 2, bias=False).to(memory_format=torch.channels_last)
    x = torch.randn(2, inputs, side, side).contiguous(memory_format=torch.channels_last).requires_grad_()
    for _ in range(3):
        layer.zero_grad()
        x.grad = None
        y = layer(x)
        upstream = torch.randn_like(y)
        y.backward(upstream)
    wide = x.detach().double()[:, :, ::2, ::2]
    expected = torch.einsum("bohw,bchw->oc", upstream.double(), wide)
    torch.testing.assert_close(layer.weight.grad[:, :, 0, 0].double(), expected, rtol=1e-4, atol=1e-4)
    back = torch.zeros_like(x, dtype=torch.float64)
    back[:, :, ::2, ::2] = torch.einsum("bohw,oc->bchw", upstream.double(), layer.weight.detach()[:, :, 0, 0].double())
    torch.testing.assert_close(x.grad.double(), back, rtol=1e-4, atol=1e-4)
print("whole")
"""


def test_narrow_strided_shortcuts_of_large_images_do_not_end_the_process() -> None:
    # In a process of its own: what it guards against is a write past the end of a buffer, which kills.
    done = subprocess.run([sys.executable, "-c", NARROW], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout.strip()) == (0, "whole"), done.stderr[-500:]


@pytest.mark.parametrize("side", [8, 16])
def test_small_maps_keep_the_kernels_and_so_the_bits_they_had(side: int) -> None:
    layer = Conv2d(8, 16, 1, 2, bias=False).to(memory_format=torch.channels_last)
    usual = torch.nn.Conv2d(8, 16, 1, 2, bias=False).to(memory_format=torch.channels_last)
    usual.load_state_dict(layer.state_dict())
    x = torch.randn(40, 8, side, side, generator=torch.Generator().manual_seed(1)).contiguous(
        memory_format=torch.channels_last
    )
    assert torch.equal(layer(x), usual(x))
    layer(x).square().sum().backward()
    usual(x).square().sum().backward()
    assert layer.weight.grad is not None
    assert usual.weight.grad is not None
    assert torch.equal(layer.weight.grad, usual.weight.grad)
