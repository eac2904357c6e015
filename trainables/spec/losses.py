"""Distillation losses: which there are, their terms, and the options of each."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from trainables.errors import UsageError, did_you_mean
from trainables.spec import registry
from trainables.spec.fields import Fields, bounded, choice

ORDERS = ("1", "2", "3", "C")
METHODS = ("horkd", "kd", "fitnet", "at", "rkd", "pkt", "sp", "darkrank", "mkd", "crd")
# Method -> its terms, as histories name them; those of HORKD follow from its orders.
TERMS: dict[str, tuple[str, ...]] = {
    "kd": ("kd",),
    "fitnet": ("fitnet",),
    "at": ("at",),
    "rkd": ("rkd_distance", "rkd_angle"),
    "pkt": ("pkt",),
    "sp": ("sp",),
    "darkrank": ("darkrank",),
    "mkd": ("mkd_absolute", "mkd_relative"),
    "crd": ("crd",),
}
ON_MAPS = ("fitnet", "at", "sp")  # Methods that read feature maps, which are too large to keep for every view.


ORDER_LOSS = {"1": "loss.point", "2": "loss.pair", "3": "loss.angle", "C": "loss.center"}


@functools.lru_cache(maxsize=256)
def canonical_orders(text: str) -> str:
    """`C+3` -> `3+C`; `none` or nothing stands for cross-entropy alone.

    Raises:
        UsageError: If a part is none of 1, 2, 3, C.
    """
    parts = [part.strip().upper() for part in str(text).replace(" ", "+").split("+") if part.strip()]
    if not parts or parts == ["NONE"]:
        return "none"
    for part in parts:
        if part not in ORDERS:
            raise UsageError(
                f"orders: '{part.lower() if part == 'NONE' else part}' is not an order. "
                "Use any of 1, 2, 3, C joined by +, or 'none' for cross-entropy only."
            )
    return "+".join(order for order in ORDERS if order in parts)


@functools.lru_cache(maxsize=256)
def orders_of(text: str) -> tuple[str, ...]:
    """The orders switched on, in the order 1, 2, 3, C."""
    canonical = canonical_orders(text)
    return () if canonical == "none" else tuple(canonical.split("+"))


def methods() -> tuple[str, ...]:
    """The distillation losses there are: METHODS, and those of plug-ins by name."""
    return (*METHODS, *registry.plugin_names("loss"))


def canonical_method(text: str) -> str:
    """`MKD+at` -> `at+mkd`, the order of METHODS, then plug-ins; `none` or nothing stands for labels alone.

    Raises:
        UsageError: If a part is no distillation loss.
    """
    return "+".join(methods_of(text)) or "none"


def methods_of(text: str) -> tuple[str, ...]:
    """The distillation losses switched on, in the order of `methods()`."""
    return _methods_of(str(text), registry.generation())


def reads_maps(method: str) -> bool:
    """Whether a distillation loss reads feature maps, which are never kept."""
    offer = registry.plugin("loss", method)
    return method in ON_MAPS or (offer is not None and bool(offer.facts["maps"]))


@functools.lru_cache(maxsize=256)
def _methods_of(text: str, generation: int) -> tuple[str, ...]:
    parts = [part.strip().lower() for part in text.replace(" ", "+").split("+") if part.strip()]
    if not parts or parts == ["none"]:
        return ()
    known = methods()
    for part in parts:
        if part not in known:
            raise UsageError(
                f"method: '{part}' is not a distillation loss.{did_you_mean(part, known)} "
                f"Use any of {', '.join(known)} joined by +, or 'none' for labels only."
            )
    return tuple(method for method in known if method in parts)


@dataclass(frozen=True, kw_only=True)
class HorkdSpec(Fields):
    """The loss of HORKD (Eq. 8): point + alpha pair + beta angle + gamma centre, each switched on by `orders`."""

    orders: str = "1+2+3+C"  # Any of 1, 2, 3, C joined by +; none = cross-entropy only.
    w_1st: float = bounded(1.0, 0.0)  # Weight of the point term; the paper has no factor there.
    alpha: float = bounded(0.02, 0.0)  # Pair term; 0.02 in HORKD, Sec. 4.4 (by order of appearance).
    beta: float = bounded(0.01, 0.0)  # Angle term; 0.01 there.
    gamma: float = bounded(1.0, 0.0)  # Centre term; 1 there.
    reduction: str = choice("mean", ("mean", "sum_over_anchors_mean", "reference"))
    point_distance: str = choice("mse", ("mse", "squared_l2", "l2", "cosine", "smooth_l1"))
    centers: str = choice("running", ("running", "batch", "epoch"))
    center_momentum: float = bounded(0.9, 0.0, 1.0)
    center_warmup: float = bounded(0.3, 0.0, 1.0)  # Share of training over which gamma rises from 0.
    pair_distance: str = choice("square", ("square", "huber"))
    feature_norm: str = choice("bn", ("none", "l2", "bn"))

    def __post_init__(self) -> None:
        object.__setattr__(self, "orders", canonical_orders(self.orders))
        super().__post_init__()

    def unused(self) -> tuple[str, ...]:
        """What belongs to orders that are off; weights of absent terms must not make equal trainings differ."""
        on = orders_of(self.orders)
        names: list[str] = [] if on else ["reduction"]
        if "1" not in on:
            names += ["w_1st", "point_distance", "feature_norm"]
        if "2" not in on:
            names += ["alpha"]
        if "3" not in on:
            names += ["beta"]
        if "C" not in on:
            names += ["gamma", "centers", "center_momentum", "center_warmup"]
        if "2" not in on and "C" not in on:
            names += ["pair_distance"]
        return tuple(names)


@dataclass(frozen=True, kw_only=True)
class KdSpec(Fields):
    """Softened class probabilities (Hinton et al. 2015): weight x T^2 x KL(teacher || student)."""

    weight: float = bounded(0.9, 0.0)  # RepDistiller and mdistiller: 0.9, beside 0.1 of cross-entropy.
    temperature: float = bounded(4.0, 0.01)  # 4 there.


@dataclass(frozen=True, kw_only=True)
class FitnetSpec(Fields):
    """A hint: the student's map of one stage regressed onto the teacher's (Romero et al. 2015)."""

    weight: float = bounded(100.0, 0.0)  # RepDistiller.
    layer: int = bounded(2, 1, 5)  # Stage of the trunk, counted from 1.
    regressor: str = choice("conv_bn", ("conv_bn", "conv"))  # 1x1 convolution, with or without normalisation.
    align: str = choice("pool", ("pool", "upsample"))  # Larger map pooled to the smaller, or the smaller enlarged.


@dataclass(frozen=True, kw_only=True)
class AtSpec(Fields):
    """Attention maps of every stage (Zagoruyko and Komodakis 2017)."""

    weight: float = bounded(1000.0, 0.0)  # RepDistiller; so large because of the mean over pixels.
    power: float = bounded(2.0, 0.1)


@dataclass(frozen=True, kw_only=True)
class RkdSpec(Fields):
    """Relations of pairs and triplets under a Huber loss (Park et al. 2019)."""

    distance: float = bounded(25.0, 0.0)  # CIFAR: 25 and 50; metric learning: 1 and 2.
    angle: float = bounded(50.0, 0.0)
    form: str = choice("mean", ("mean", "reference"))  # Mean over valid tuples, or over B^2 and B^3 as in public code.


@dataclass(frozen=True, kw_only=True)
class PktSpec(Fields):
    """Probabilistic knowledge transfer (Passalis and Tefas 2018): conditional similarities of a batch."""

    weight: float = bounded(30_000.0, 0.0)  # RepDistiller; it undoes the mean over B^2.


@dataclass(frozen=True, kw_only=True)
class SpSpec(Fields):
    """Similarity preserving (Tung and Mori 2019): row-normalised Gram matrices of the last maps."""

    weight: float = bounded(3000.0, 0.0)  # RepDistiller.


@dataclass(frozen=True, kw_only=True)
class DarkrankSpec(Fields):
    """The teacher's order of the neighbours (Chen et al. 2018)."""

    weight: float = bounded(1.0, 0.0)
    kind: str = choice("hard", ("hard", "soft"))  # ListMLE of the teacher's order, or KL over all orders.
    scale: float = bounded(3.0, 0.0)  # The paper's alpha.
    power: float = bounded(3.0, 0.0)  # The paper's beta.
    length: int = bounded(4, 2, 6)  # Neighbours in a list; "soft" goes over length! orders.


@dataclass(frozen=True, kw_only=True)
class MkdSpec(Fields):
    """Learning metrics from teachers (Yu et al. 2019): embeddings and their distances, raw."""

    absolute: float = bounded(1.0, 0.0)  # CUB: 1 and 0.3.
    relative: float = bounded(0.3, 0.0)
    form: str = choice("mean", ("mean", "reference"))  # Mean over pairs, or the public code's Frobenius norm.


@dataclass(frozen=True, kw_only=True)
class CrdSpec(Fields):
    """Contrastive representation distillation (Tian et al. 2020), with a memory bank of the training set."""

    weight: float = bounded(0.8, 0.0)  # RepDistiller.
    temperature: float = bounded(0.07, 0.001)
    negatives: int = bounded(4096, 1)  # 16384 in the paper; at most what the training set holds.
    width: int = bounded(128, 1)
    momentum: float = bounded(0.5, 0.0, 1.0)
    negatives_from: str = choice("other_classes", ("all", "other_classes"))


@dataclass(frozen=True, kw_only=True)
class TripletSpec(Fields):
    """Triplet loss on labels (no distillation), on L2-normalised embeddings."""

    weight: float = bounded(0.0, 0.0)
    margin: float = bounded(0.2, 0.0)
    mining: str = choice("hard", ("hard", "all"))  # Hardest positive and negative of each anchor, or all triplets.
