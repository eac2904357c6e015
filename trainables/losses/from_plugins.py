"""Losses that plug-ins bring: what they are given, and what they must give back."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from trainables.errors import UsageError
from trainables.losses import geometry
from trainables.spec import registry

if TYPE_CHECKING:
    from trainables.losses.distiller import Batch, Outputs
    from trainables.spec.registry import Entry


def offers_of(methods: Iterable[str]) -> list[Entry]:
    """The losses of plug-ins among some methods."""
    return [offer for name in methods if (offer := registry.plugin("loss", name)) is not None]


class Seen:
    """What a loss sees of one network: the outputs it said it reads, in float32 or wider."""

    def __init__(self, outputs: Outputs, offer: Entry, *, constant: bool) -> None:
        self._outputs, self._offer, self._constant = outputs, offer, constant

    def _wide(self, x: Tensor) -> Tensor:
        return geometry.at_least_float32(x.detach() if self._constant else x)

    def _allowed(self, what: str) -> None:
        if not self._offer.facts[what]:
            raise UsageError(
                f"The loss '{self._offer.name}' reads {what} and must say so: @plugins.loss(\"{self._offer.name}\", {what}=True)."
            )

    @property
    def embedding(self) -> Tensor:
        """[B, D]."""
        return self._wide(self._outputs.embedding)

    @property
    def logits(self) -> Tensor:
        """[B, C]."""
        self._allowed("logits")
        return self._wide(self._outputs.logits)

    @property
    def maps(self) -> tuple[Tensor, ...]:
        """One [B, F, h, w] per stage, shallow to deep."""
        self._allowed("maps")
        return tuple(self._wide(one) for one in self._outputs.maps)


class PluginTerm(nn.Module):
    """A plug-in's loss as one term: outside autocast, the teacher constant, its result checked."""

    def __init__(self, offer: Entry, options: Mapping[str, Any], **known: Any) -> None:
        """Args: the loss; its options, `weight` among them; what is known of the networks and the data."""
        super().__init__()
        self.offer = offer
        self.options = {name: value for name, value in options.items() if name != "weight"}
        self.inner: nn.Module | None = None
        if inspect.isclass(offer.load()):
            asked = inspect.signature(offer.load()).parameters
            try:
                made: Any = offer.load()(**{k: v for k, v in known.items() if k in asked}, **self.options)
            except Exception as error:
                raise UsageError(f"{self._where} cannot be made: {type(error).__name__}: {error}") from error
            if not isinstance(made, nn.Module):
                raise UsageError(f"{self._where} must be an nn.Module class, but gives {type(made).__name__}.")
            self.inner = made

    @property
    def _where(self) -> str:
        return f"The loss '{self.offer.name}' of {self.offer.where}"

    def forward(self, batch: Batch) -> Tensor:
        """The term [] of a batch.

        Raises:
            UsageError: If it is not a scalar tensor through which gradients flow.
        """
        student, teacher = batch.student, batch.teacher
        with geometry.full_precision(student.embedding):
            seen = Seen(student, self.offer, constant=False), Seen(teacher, self.offer, constant=True)
            if self.inner is not None:
                value = self.inner(*seen, batch.labels)
            else:
                value = self.offer.load()(*seen, batch.labels, **self.options)
        if not isinstance(value, Tensor) or value.ndim != 0 or not value.is_floating_point():
            got = f"a tensor of shape {tuple(value.shape)}, {value.dtype}" if isinstance(value, Tensor) else repr(value)
            raise UsageError(f"{self._where} must give a scalar tensor [] of floating point, but gave {got}.")
        if torch.is_grad_enabled() and student.embedding.requires_grad and not value.requires_grad:
            raise UsageError(
                f"{self._where} must let gradients reach the student, but its value has none. Compute it from the student's "
                "outputs, without .item(), .detach() or numpy."
            )
        return value
