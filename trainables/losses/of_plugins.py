"""The `Term` of losses that plug-ins bring: what they are given, and what they must give back."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from trainables.errors import UsageError
from trainables.losses import geometry
from trainables.losses.terms import Batch, Known, Outputs, Term
from trainables.spec.losses import KNOWN
from trainables.spec.registry import Entry


class Seen:
    """What a loss sees of one network: the outputs it said it reads, in float32 or wider."""

    def __init__(self, outputs: Outputs, entry: Entry, *, constant: bool) -> None:
        self._outputs, self._entry, self._constant = outputs, entry, constant

    def _wide(self, x: Tensor) -> Tensor:
        return geometry.at_least_float32(x.detach() if self._constant else x)

    def _allowed(self, what: str) -> None:
        if not self._entry.facts[what]:
            name = self._entry.name
            raise UsageError(f"The loss '{name}' reads {what} and must say so: @plugins.loss(\"{name}\", {what}=True).")

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


class PluginTerm(Term):
    """A user's function or module as a term: outside autocast, the teacher constant, its result checked."""

    def build(self, known: Known) -> None:
        self.code: Any = self.entry.facts["code"]  # As the user wrote it.
        self.chosen = {name: value for name, value in vars(self.options).items() if name != "weight"}
        self.inner: nn.Module | None = None
        if inspect.isclass(self.code):
            asked = inspect.signature(self.code).parameters
            facts = {name: value for name, value in known._asdict().items() if name in asked and name in KNOWN}
            try:
                made: Any = self.code(**facts, **self.chosen)
            except Exception as error:
                raise UsageError(f"{self.entry.told} cannot be made: {type(error).__name__}: {error}") from error
            if not isinstance(made, nn.Module):
                raise UsageError(f"{self.entry.told} must be an nn.Module class, but gives {type(made).__name__}.")
            self.inner = made
            self.modules = {f"of_plugins.loss_{self.entry.name}.inner": made}

    def value(self, name: str, batch: Batch) -> Tensor:
        """The value [] of a batch.

        Raises:
            UsageError: If it is not a scalar tensor through which gradients flow.
        """
        student, teacher = batch.student, batch.teacher
        with geometry.full_precision(student.embedding):
            seen = Seen(student, self.entry, constant=False), Seen(teacher, self.entry, constant=True)
            if self.inner is not None:
                value = self.inner(*seen, batch.labels)
            else:
                value = self.code(*seen, batch.labels, **self.chosen)
        if not isinstance(value, Tensor) or value.ndim != 0 or not value.is_floating_point():
            got = f"a tensor of shape {tuple(value.shape)}, {value.dtype}" if isinstance(value, Tensor) else repr(value)
            raise UsageError(f"{self.entry.told} must give a scalar tensor [] of floating point, but gave {got}.")
        if torch.is_grad_enabled() and student.embedding.requires_grad and not value.requires_grad:
            raise UsageError(
                f"{self.entry.told} must let gradients reach the student, but its value has none. Compute it from the student's "
                "outputs, without .item(), .detach() or numpy."
            )
        return value
