"""The step of a training: optimiser, learning rate, clipping, the scaler of half precision, averaged weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from trainables.spec import TrainingSpec


def learning_rate(spec: TrainingSpec, progress: float, epoch: float) -> float:
    """The rate at a share `progress` of training, `epoch` epochs in: warm-up, then cosine, steps or constant."""
    rate = spec.learning_rate
    if spec.schedule == "cosine":
        rate *= 0.5 * (1 + math.cos(math.pi * progress))
    elif spec.schedule == "steps":
        rate *= spec.decay ** sum(progress >= share for share in spec.milestones)
    if spec.warmup_epochs > 0:
        rate *= min(1.0, epoch / spec.warmup_epochs)
    return rate


def make_optimizer(spec: TrainingSpec, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """SGD or AdamW as the spec says; fused on the GPU, over lists of tensors on the CPU, where fusing changes bits."""
    fused = bool(parameters) and parameters[0].is_cuda
    foreach = None if fused else True
    if spec.optimizer == "adamw":
        return torch.optim.AdamW(
            parameters,
            lr=spec.learning_rate,
            betas=(spec.momentum, 0.999),
            weight_decay=spec.weight_decay,
            fused=fused,
            foreach=foreach,
        )
    return torch.optim.SGD(
        parameters,
        lr=spec.learning_rate,
        momentum=spec.momentum,
        nesterov=spec.nesterov and spec.momentum > 0,
        weight_decay=spec.weight_decay,
        fused=fused,
        foreach=foreach,
    )


class Stepper:
    """Moves parameters along the gradient of a total, as a spec says."""

    def __init__(self, spec: TrainingSpec, parameters: list[nn.Parameter]) -> None:
        self.spec, self.parameters = spec, parameters
        self.optimizer = make_optimizer(spec, parameters)
        self.scaler = torch.amp.GradScaler("cuda", enabled=spec.precision == "float16")
        self.rate = 0.0

    def set_rate(self, progress: float, epoch: float) -> None:
        """The learning rate at a share `progress` of training, `epoch` epochs in."""
        self.rate = learning_rate(self.spec, progress, epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate

    def step(self, total: Tensor) -> None:
        """One step; waits for no device."""
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(total).backward()
        if self.spec.clip_norm > 0:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.parameters, self.spec.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()


class Average:
    """The running average of a network's weights, buffers that are no floats taken as they are; off at a decay of 0."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network, self.decay = network, decay
        self.kept: dict[str, Tensor] | None = copied(network) if decay > 0 else None

    def update(self) -> None:
        """After a step."""
        if self.kept is None:
            return
        with torch.no_grad():
            for name, value in self.network.state_dict().items():
                kept = self.kept[name]
                if kept.is_floating_point():
                    kept.lerp_(value, 1 - self.decay)
                else:
                    kept.copy_(value)

    def weights(self) -> Mapping[str, Tensor]:
        """The weights that count: averaged ones where there is an average."""
        return self.kept if self.kept is not None else self.network.state_dict()


def copied(network: nn.Module) -> dict[str, Any]:
    """Weights and buffers as they are now."""
    return {name: value.detach().clone() for name, value in network.state_dict().items()}
