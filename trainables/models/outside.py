"""Networks of torchvision and timm by name, as ours are: an embedding, one linear classifier, maps where there are any.

`torchvision:NAME` is any classification network of `torchvision.models`, `timm:NAME` any of timm, which is optional.
Nothing is ever downloaded: weights are drawn, or come from a file. The embedding is what the network's own last linear
layer reads (timm: its pooled features); that layer is replaced by ours.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from trainables.errors import MachineError, UsageError, did_you_mean
from trainables.models.foreign import Foreign, run_stages
from trainables.spec import OUTSIDE

RESNET_STAGES = ("layer1", "layer2", "layer3", "layer4")


class Outside(Foreign):
    """A network of another library around our classifier; maps are those of torchvision's residual networks."""

    def __init__(
        self, body: nn.Module, head: str, pooled: int, *, classes: int, embedding: int, normal: Normal
    ) -> None:
        stages = _stages(body)
        super().__init__(embedding or pooled, classes=classes, map_widths=_widths(stages))
        self.body, self.head_name, self.normal = body, head, normal
        self.layer = nn.Linear(pooled, embedding) if embedding else nn.Identity()
        self._staged = bool(stages)

    def embed(self, images: Tensor, kept: list[Tensor]) -> Tensor:
        if not self._staged:
            return self.layer(self.body(images).flatten(1))
        body: Any = self.body
        x = body.maxpool(body.relu(body.bn1(body.conv1(images))))
        return self.layer(run_stages(_stages(body), x, kept).mean((2, 3)))


class Normal:
    """How a library's own weights want images: mean and deviation of RGB from 0 to 1, and the side they were made for."""

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...], side: int, channels: int) -> None:
        self.mean, self.std, self.side, self.channels = mean, std, side, channels


def outside(name: str, *, channels: int, classes: int, embedding: int = 0) -> Outside:
    """The network called `torchvision:NAME` or `timm:NAME`, drawn from torch's global generator.

    Its first convolution is made for `channels`, so grey images need no repetition.

    Raises:
        UsageError: If there is no such network, or it has no linear classifier to replace.
        MachineError: If the library is not installed.
    """
    library, _, model = name.partition(":")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # What these libraries say of their own weights and defaults.
        if library == "torchvision":
            body, head, pooled, normal = _torchvision(model, channels)
        else:
            body, head, pooled, normal = _timm(model, channels)
    return Outside(body, head, pooled, classes=classes, embedding=embedding, normal=normal)


@functools.cache
def first_convolution(name: str) -> str:
    """Name of the convolution that reads the images of a network of another library; nothing where there is none."""
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                body = outside(name, channels=3, classes=0).body
        except (NotImplementedError, RuntimeError):
            # Some read values of what they have just made, which there are none of yet.
            body = outside(name, channels=3, classes=0).body
    return next((part for part, module in body.named_modules() if isinstance(module, nn.Conv2d)), "") + ".weight"


def require_readable(network: nn.Module, name: str, *, channels: int, side: int) -> None:
    """Refuse a network that cannot read images of `side`: some have a least size, some a fixed one.

    Raises:
        UsageError: With what the network says of it.
    """
    training = network.training
    try:
        with torch.no_grad():
            network.eval()(torch.zeros(1, channels, side, side))
    except (RuntimeError, ValueError, AssertionError) as error:
        raise UsageError(
            f"{name} cannot read images of {side} x {side}: {str(error).splitlines()[0][:200].rstrip('.')}. "
            "Raise resolution, set upsample_to (or teacher.side), or choose another architecture."
        ) from None
    finally:
        network.train(training)


def _torchvision(model: str, channels: int) -> tuple[nn.Module, str, int, Normal]:
    models = _library("torchvision.models", "torchvision")
    known = models.list_models(module=models)
    if model not in known:
        raise UsageError(
            f"torchvision has no classification network '{model}'.{did_you_mean(model, known)} "
            f"It has {len(known)}, among them resnet18, resnet50, mobilenet_v3_small."
        )
    builder = models.get_model_builder(model)
    asked: dict[str, Any] = {"weights": None}
    # Both have further classifiers for training, which nothing here reads, and an initialisation that takes a minute.
    asked |= {name: False for name in ("aux_logits", "init_weights") if _takes(builder, name)}
    body = builder(**asked)
    linear = [name for name, module in body.named_modules() if isinstance(module, nn.Linear)]
    if linear:
        head = linear[-1]
        pooled = body.get_submodule(head).in_features
        _replace(body, head, nn.Identity())
    elif hasattr(body, "features") and isinstance(getattr(body, "classifier", None), nn.Sequential):
        # SqueezeNet classifies with a convolution; its features are pooled instead.
        head, pooled = "classifier.1", next(m for m in body.classifier if isinstance(m, nn.Conv2d)).in_channels
        body.classifier = nn.AdaptiveAvgPool2d(1)
    else:
        raise UsageError(f"torchvision:{model} has no linear classifier to replace. Choose another network.")
    if channels != 3:
        _adapt(body, channels)
    if hasattr(body, "transform_input"):
        # Inception and GoogLeNet learned from -1 to 1. torchvision's turn images normalised as the others' into that when
        # they load its weights, and so only there; here images come that way.
        return body, head, pooled, Normal((0.5,) * 3, (0.5,) * 3, 224, 3)
    return body, head, pooled, Normal((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 224, 3)


def _takes(builder: Any, name: str) -> bool:
    module = inspect.getmodule(builder)
    owner = {"googlenet": "GoogLeNet", "inception_v3": "Inception3"}.get(builder.__name__, "")
    cls = getattr(module, owner, None)
    return cls is not None and name in inspect.signature(cls.__init__).parameters


def _timm(model: str, channels: int) -> tuple[nn.Module, str, int, Normal]:
    timm = _library("timm", "timm")
    if not timm.is_model(model):
        known = timm.list_models()
        raise UsageError(f"timm has no network '{model}'.{did_you_mean(model, known)} It has {len(known)}.")
    body = timm.create_model(model, pretrained=False, num_classes=0, in_chans=channels)
    found = dict(getattr(body, "pretrained_cfg", None) or {})
    head = found.get("classifier") or "head"
    head = head if isinstance(head, str) else head[0]
    pooled = int(getattr(body, "head_hidden_size", None) or body.num_features)
    size = found.get("input_size") or (3, 224, 224)
    mean, std = found.get("mean") or (0.5,) * 3, found.get("std") or (0.5,) * 3
    return body, head, pooled, Normal(tuple(mean), tuple(std), int(size[-1]), int(size[0]))


def _library(module: str, package: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        extra = " (or `pip install 'sweeps[timm]'`)" if package == "timm" else ""
        raise MachineError(
            f"Architectures named {package}:... need the package {package}, which is not installed ({error}). "
            f"Install it with `pip install {package}`{extra}, or choose another architecture."
        ) from error


def _replace(body: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(body.get_submodule(parent), last, module)


def _adapt(body: nn.Module, channels: int) -> None:
    """Give the first convolution another number of input channels, drawn anew."""
    name, first = next((n, m) for n, m in body.named_modules() if isinstance(m, nn.Conv2d))
    made = nn.Conv2d(
        channels,
        first.out_channels,
        first.kernel_size,  # type: ignore[arg-type]
        first.stride,  # type: ignore[arg-type]
        first.padding,  # type: ignore[arg-type]
        bias=first.bias is not None,
    )
    nn.init.kaiming_normal_(made.weight, mode="fan_out", nonlinearity="relu")
    _replace(body, name, made)


def _stages(body: nn.Module) -> list[nn.Module]:
    """The four stages of torchvision's residual networks, else none."""
    if not type(body).__module__.startswith("torchvision.models.resnet"):
        return []
    return [body.get_submodule(name) for name in RESNET_STAGES]


def _widths(stages: list[nn.Module]) -> list[int]:
    widths = []
    for stage in stages:
        last = [module for module in stage.modules() if isinstance(module, nn.BatchNorm2d) and module.num_features]
        widths.append(max(module.num_features for module in last))
    return widths


def is_outside(name: str) -> bool:
    """Whether an architecture is another library's."""
    return name.startswith(OUTSIDE)
