"""What training calls: every loss that a spec's `method` switches on, weighed and reported by term.

Each term is a pure function in its own file; here they get their weights, the little networks that some train
along (projectors, a regressor, heads), and what they need of the data. The label term is not here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from trainables.errors import UsageError
from trainables.losses import geometry
from trainables.losses.classic import (
    at_loss,
    fitnet_loss,
    kd_loss,
    pkt_loss,
    rkd_angle_loss,
    rkd_distance_loss,
    sp_loss,
)
from trainables.losses.contrastive import CrdLoss
from trainables.losses.from_plugins import PluginTerm, offers_of
from trainables.losses.horkd import HorkdLoss, normalise_features
from trainables.losses.ranking import darkrank_loss, mkd_absolute_loss, mkd_relative_loss
from trainables.spec import ON_MAPS, TERMS, methods_of, orders_of

if TYPE_CHECKING:
    from trainables.spec import DistillationSpec, FitnetSpec


class Outputs(Protocol):
    """What a network says about a batch, whatever network it is."""

    @property
    def embedding(self) -> Tensor:
        """[B, D]."""

    @property
    def logits(self) -> Tensor:
        """[B, C]."""

    @property
    def maps(self) -> tuple[Tensor, ...]:
        """One [B, F, h, w] per stage, shallow to deep; read where `needs_maps`."""


class Batch(NamedTuple):
    """What a term may read."""

    student: Outputs
    teacher: Outputs
    labels: Tensor  # [B]
    indices: Tensor  # [B]


class Distiller(nn.Module):
    """Weighted sum of the terms of all methods in `spec.method`, times `spec.distillation`.

    Terms are `point pair angle center` (HORKD, by its orders), `kd fitnet at rkd_distance rkd_angle pkt sp
    darkrank mkd_absolute mkd_relative crd`, and those of plug-ins by their names. Embeddings enter as they are, but
    for `darkrank`, which gets rows of length 1, and where a loss normalises them itself. A term outside HORKD whose
    weight is 0 is not computed and not reported. What is trained along is in this module's parameters, and no part of
    the student.
    """

    def __init__(
        self,
        spec: DistillationSpec,
        *,
        student_width: int,
        teacher_width: int,
        student_maps: Sequence[int],
        teacher_maps: Sequence[int],
        classes: int,
        item_labels: Tensor,
        seed_module: Callable[[str], AbstractContextManager[object]],
    ) -> None:
        """Makes what the losses train along and keep.

        Args:
            spec: Methods, weights and choices.
            student_width: Ds of the embeddings.
            teacher_width: Dt of the embeddings.
            student_maps: Channels of each of the student's maps, shallow to deep.
            teacher_maps: The same of the teacher's.
            classes: C.
            item_labels: Classes [N] of the training images, by the positions that `forward` is given.
            seed_module: Gives a context in which torch's global generator is seeded for a purpose, so that one
                loss's weights do not depend on which others are on.

        Raises:
            UsageError: If a choice is unknown, or a loss on maps meets a network without any.
        """
        super().__init__()
        self.spec = spec
        on = methods_of(spec.method)
        self.horkd: HorkdLoss | None = None
        if "horkd" in on and orders_of(spec.horkd.orders):
            with seed_module("projector"):
                self.horkd = HorkdLoss(
                    spec.horkd, student_width=student_width, teacher_width=teacher_width, classes=classes
                )
        weights = {
            "kd": spec.kd.weight,
            "fitnet": spec.fitnet.weight,
            "at": spec.at.weight,
            "rkd_distance": spec.rkd.distance,
            "rkd_angle": spec.rkd.angle,
            "pkt": spec.pkt.weight,
            "sp": spec.sp.weight,
            "darkrank": spec.darkrank.weight,
            "mkd_absolute": spec.mkd.absolute,
            "mkd_relative": spec.mkd.relative,
            "crd": spec.crd.weight,
        }
        own = offers_of(on)
        weights |= {offer.name: spec.plugin.of_loss(offer.name)["weight"] for offer in own}
        names = [name for method, terms in TERMS.items() if method in on for name in terms]
        names += [offer.name for offer in own]
        self._weights = {name: weights[name] for name in names if weights[name] > 0}
        self._on_maps = {*ON_MAPS, *(offer.name for offer in own if offer.facts["maps"])}
        self._on_logits = {"kd", *(offer.name for offer in own if offer.facts["logits"])}
        if self.needs_maps and not (student_maps and teacher_maps):
            raise UsageError(
                f"Losses on feature maps ({', '.join(n for n in self._weights if n in self._on_maps)}) need both networks "
                f"to have some, but the student has {len(student_maps)} and the teacher {len(teacher_maps)}.\n"
                "Choose another method or architecture."
            )
        self.regressor: Regressor | None = None
        if "fitnet" in self._weights:
            with seed_module("loss fitnet"):
                self.regressor = Regressor(spec.fitnet, student_maps, teacher_maps)
        self.mkd_projector: nn.Linear | None = None
        if "mkd_absolute" in self._weights and student_width != teacher_width:
            with seed_module("loss mkd"):
                self.mkd_projector = nn.Linear(student_width, teacher_width, bias=False)
        self.crd: CrdLoss | None = None
        if "crd" in self._weights:
            with seed_module("loss crd"):
                self.crd = CrdLoss(
                    spec.crd,
                    student_width=student_width,
                    teacher_width=teacher_width,
                    items=len(item_labels),
                    classes_of_items=item_labels,
                )

        self.of_plugins = nn.ModuleDict()
        for offer in own:
            if offer.name in self._weights:
                if offer.facts["same_width"] and student_width != teacher_width:
                    raise UsageError(
                        f"The loss '{offer.name}' of {offer.where} needs embeddings of one width, but the student's has "
                        f"{student_width} and the teacher's {teacher_width}.\nSet `embedding` of one to the other's, or choose "
                        "networks of equal widths."
                    )
                with seed_module(f"loss {offer.name}"):
                    self.of_plugins[f"loss_{offer.name}"] = PluginTerm(
                        offer,
                        spec.plugin.of_loss(offer.name),
                        student_width=student_width,
                        teacher_width=teacher_width,
                        student_maps=tuple(student_maps),
                        teacher_maps=tuple(teacher_maps),
                        classes=classes,
                    )

    @property
    def needs_maps(self) -> bool:
        """Whether both networks must give their feature maps."""
        return any(name in self._weights for name in self._on_maps)

    @property
    def needs_logits(self) -> bool:
        """Whether the teacher's logits are read, so that it must know the student's classes."""
        return any(name in self._weights for name in self._on_logits)

    @property
    def uses_teacher_centers(self) -> bool:
        """Whether `set_teacher_centers` must be called before the first batch."""
        return self.horkd is not None and self.horkd.uses_teacher_centers

    @property
    def uses_epoch_centers(self) -> bool:
        """Whether `set_student_centers` must be called before each epoch."""
        return self.horkd is not None and self.horkd.uses_epoch_centers

    def set_teacher_centers(self, total: Tensor, count: Tensor) -> None:
        """As `HorkdLoss.set_teacher_centers`."""
        self._with_centers().set_teacher_centers(total, count)

    def set_student_centers(self, total: Tensor, count: Tensor) -> None:
        """As `HorkdLoss.set_student_centers`."""
        self._with_centers().set_student_centers(total, count)

    def _with_centers(self) -> HorkdLoss:
        if self.horkd is None:
            raise UsageError(f"Centres are used by HORKD only, but the method is '{self.spec.method}'.")
        return self.horkd

    def begin_epoch(self, generator: torch.Generator) -> None:
        """Seeds what is drawn in the coming epoch, from a generator of the CPU; call it before each epoch."""
        if self.crd is not None:
            self.crd.begin_epoch(generator)

    def weights(self, progress: float) -> dict[str, float]:
        """What multiplies each reported term at a share `progress` of training, `spec.distillation` included."""
        weights = self.horkd.weights(progress) if self.horkd is not None else {}
        return {name: self.spec.distillation * weight for name, weight in (weights | self._weights).items()}

    def forward(
        self, student: Outputs, teacher: Outputs, labels: Tensor, indices: Tensor, *, progress: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Weighted total [] and the unweighted terms [] by name.

        Args:
            student: Outputs for B low-resolution images; gradients flow here.
            teacher: Outputs for the same images as the teacher sees them, constant.
            labels: Classes [B], integers below C.
            indices: Positions [B] of the images among the N of the training split.
            progress: Share of the training that is done, in [0, 1].

        Raises:
            UsageError: If shapes do not fit, or something was not set: centres, the epoch's seed.
        """
        if self.horkd is not None:
            total, terms = self.horkd(student.embedding, teacher.embedding, labels, progress=progress)
        else:
            total, terms = geometry.nothing(student.embedding), {}
        batch = Batch(student, teacher, labels, indices)
        for name, weight in self._weights.items():
            term = f"loss_{name}"
            own = self.of_plugins[term] if term in self.of_plugins else getattr(self, f"_{name}")
            terms[name] = own(batch)
            total = total + weight * terms[name]
        return self.spec.distillation * total, terms

    def _kd(self, batch: Batch) -> Tensor:
        return kd_loss(batch.student.logits, batch.teacher.logits, temperature=self.spec.kd.temperature)

    def _fitnet(self, batch: Batch) -> Tensor:
        assert self.regressor is not None
        _check_maps(batch)
        ours = batch.student.maps[self.regressor.student_stage]
        theirs = batch.teacher.maps[self.regressor.teacher_stage]
        if ours.numel() <= ours.shape[1]:
            return geometry.nothing(ours)  # One pixel of one image cannot be normalised.
        return fitnet_loss(self.regressor(ours), theirs, align=self.spec.fitnet.align)

    def _at(self, batch: Batch) -> Tensor:
        return at_loss(batch.student.maps, batch.teacher.maps, power=self.spec.at.power)

    def _rkd_distance(self, batch: Batch) -> Tensor:
        return rkd_distance_loss(batch.student.embedding, batch.teacher.embedding, form=self.spec.rkd.form)

    def _rkd_angle(self, batch: Batch) -> Tensor:
        return rkd_angle_loss(batch.student.embedding, batch.teacher.embedding, form=self.spec.rkd.form)

    def _pkt(self, batch: Batch) -> Tensor:
        return pkt_loss(batch.student.embedding, batch.teacher.embedding)

    def _sp(self, batch: Batch) -> Tensor:
        _check_maps(batch)
        return sp_loss(batch.student.maps[-1], batch.teacher.maps[-1])

    def _darkrank(self, batch: Batch) -> Tensor:
        spec = self.spec.darkrank
        # The published scale and power are those of normalised embeddings; raw ones give losses in the thousands.
        ours, theirs = (normalise_features(x.embedding, "l2") for x in (batch.student, batch.teacher))
        return darkrank_loss(
            ours,
            theirs,
            kind=spec.kind,
            scale=spec.scale,
            power=spec.power,
            length=spec.length,
        )

    def _mkd_absolute(self, batch: Batch) -> Tensor:
        ours = batch.student.embedding
        if self.mkd_projector is not None:
            with geometry.full_precision(ours):
                ours = self.mkd_projector(ours.to(self.mkd_projector.weight.dtype))
        return mkd_absolute_loss(ours, batch.teacher.embedding)

    def _mkd_relative(self, batch: Batch) -> Tensor:
        return mkd_relative_loss(batch.student.embedding, batch.teacher.embedding, form=self.spec.mkd.form)

    def _crd(self, batch: Batch) -> Tensor:
        assert self.crd is not None
        loss: Tensor = self.crd(batch.student.embedding, batch.teacher.embedding, batch.labels, batch.indices)
        return loss


class Regressor(nn.Module):
    """Takes the student's map of one stage to the channels of the teacher's (FitNets, Romero et al. 2015)."""

    def __init__(self, spec: FitnetSpec, student_maps: Sequence[int], teacher_maps: Sequence[int]) -> None:
        """Args: the choices, and the channels of both networks' maps; the last stage stands in for missing ones."""
        super().__init__()
        self.student_stage = min(spec.layer, len(student_maps)) - 1
        self.teacher_stage = min(spec.layer, len(teacher_maps)) - 1
        channels = teacher_maps[self.teacher_stage]
        normalised = spec.regressor == "conv_bn"
        self.convolution = nn.Conv2d(student_maps[self.student_stage], channels, 1, bias=not normalised)
        self.norm = nn.BatchNorm2d(channels) if normalised else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Maps [B, F of the teacher, h, w] in full precision from the student's [B, F, h, w]."""
        with geometry.full_precision(x):
            mapped: Tensor = self.norm(self.convolution(x.to(self.convolution.weight.dtype)))
            return mapped


def _check_maps(batch: Batch) -> None:
    if not batch.student.maps or not batch.teacher.maps:
        raise UsageError(
            f"Losses on feature maps need those of both networks, but got {len(batch.student.maps)} of the student "
            f"and {len(batch.teacher.maps)} of the teacher.\nAsk `needs_maps` and call the networks with maps=True."
        )
