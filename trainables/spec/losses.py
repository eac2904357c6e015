"""Losses: what can be set of each, and their declarations.

One call of `declare` at the end of the options makes a loss known everywhere: to `method`, to specs and their keys, to lists
of parameters, to training and to its checks. What it computes is a `Term` in `trainables/losses/<paper>.py`.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trainables.errors import UsageError
from trainables.spec import registry
from trainables.spec.fields import Fields
from trainables.spec.registry import Entry
from trainables.spec.values import anything, bounded, choice

KNOWN = (
    "student_width",
    "teacher_width",
    "student_maps",
    "teacher_maps",
    "classes",
)  # What a plug-in's class may ask for.
READS = ("logits", "maps", "same_width")  # What a loss may need of the two networks beside their embeddings.


def loss_facts(
    name: str,
    *,
    terms: Mapping[str, str] | None = None,
    titles: Mapping[str, str] | None = None,
    reads: tuple[str, ...] = (),
    zero: bool = False,
) -> dict[str, Any]:
    """What the registry knows of a loss.

    Args:
        name: Of the loss.
        terms: Its terms, as histories name them -> the option that weighs each; else one, of its name, by `weight`.
        titles: Term -> what figures call it, where that is not the loss's title and the rest of the term's name.
        reads: Some of READS; feature maps are never cached, and both embeddings must have one width for `same_width`.
        zero: Whether it is 0 where student and teacher agree.
    """
    return {
        "terms": dict(terms or {name: "weight"}),
        "titles": dict(titles or {}),
        **{what: what in reads for what in READS},
        "zero": zero,
    }


def term_titles(entry: Entry) -> dict[str, str]:
    """Term, as histories name it -> its title, of a loss or a label loss."""
    title, told = entry.title or entry.name, entry.facts.get("titles", {})
    terms = entry.facts.get("terms", (entry.name,))
    return {term: told.get(term) or f"{title} {_rest(entry.name, term)}".strip() for term in terms}


def _rest(loss: str, term: str) -> str:
    """Of `rkd_distance` what the loss's name leaves."""
    return "" if term == loss else term.removeprefix(f"{loss}_").replace("_", " ")


def declare(name: str, implementation: str, options: type[Fields], *, title: str, **more: Any) -> None:
    """Make a distillation loss known.

    Args:
        name: What `method` calls it.
        implementation: `file:Term` in `trainables/losses/`.
        options: What can be set of it, the weights of its terms among them; set as `<name>.<option>`.
        title: For people.
        more: `version` (1) or `parts`, as in `registry.Entry`; else as `loss_facts`.
    """
    versions = {word: more.pop(word) for word in ("version", "parts") if word in more}
    registry.declare(
        "loss",
        name,
        f"trainables.losses.{implementation}",
        options=options,
        title=title,
        facts=loss_facts(name, **more),
        **versions,
    )


ORDER_TERMS = {"1": "point", "2": "pair", "3": "angle", "C": "center"}  # HORKD's relation orders, and their terms.
ORDERS = tuple(ORDER_TERMS)


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
        if part not in ORDER_TERMS:
            raise UsageError(
                f"orders: '{part.lower() if part == 'NONE' else part}' is not an order. "
                "Use any of 1, 2, 3, C joined by +, or 'none' for cross-entropy only."
            )
    return "+".join(order for order in ORDER_TERMS if order in parts)


@functools.lru_cache(maxsize=256)
def orders_of(text: str) -> tuple[str, ...]:
    """The orders switched on, in the order 1, 2, 3, C."""
    canonical = canonical_orders(text)
    return () if canonical == "none" else tuple(canonical.split("+"))


@dataclass(frozen=True, kw_only=True)
class HorkdSpec(Fields):
    """The loss of HORKD (Eq. 8): point + alpha pair + beta angle + gamma centre, each switched on by `orders`."""

    orders: str = anything(
        "1+2+3+C",
        canonical=canonical_orders,
        parts=ORDERS,
        part="order",
        column="orders",
        text="Relation orders that are on: any of 1, 2, 3, C joined by +; none: no distillation.",
    )
    # The paper has no factor for the point term.
    w_1st: float = bounded(1.0, 0.0, text="Weight of the points (order 1).", unit="factor")
    # Sec. 4.4 gives the three weights by order of appearance.
    alpha: float = bounded(0.02, 0.0, text="Weight of the pairs (order 2); 0.02 in the paper.", unit="factor")
    beta: float = bounded(0.01, 0.0, text="Weight of the angles (order 3); 0.01 in the paper.", unit="factor")
    gamma: float = bounded(1.0, 0.0, text="Weight of the class centres (C); 1 in the paper.", unit="factor")
    reduction: str = choice(
        "mean",
        ("mean", "sum_over_anchors_mean", "reference"),
        text="Means over tuples, sums over anchors, or as public code does.",
    )
    point_distance: str = choice(
        "mse",
        ("mse", "squared_l2", "l2", "cosine", "smooth_l1"),
        text="Between two embeddings, of order 1.",
    )
    centers: str = choice("running", ("running", "batch", "epoch"), text="Over which images class centres are taken.")
    center_momentum: float = bounded(0.9, 0.0, 1.0, text="Of running class centres.")
    center_warmup: float = bounded(0.3, 0.0, 1.0, text="Of training, over which gamma rises from 0.", unit="share")
    pair_distance: str = choice("square", ("square", "huber"), text="Between distances, of order 2 and C.")
    feature_norm: str = choice("bn", ("none", "l2", "bn"), text="What embeddings are normalised by before order 1.")

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

    @property
    def passes_over_training(self) -> int:
        """How often all training images are looked at before the first epoch: once for exact class centres."""
        return int("C" in orders_of(self.orders))

    def parts(self) -> tuple[str, ...]:
        """Its components that are on: one for each order, because each has a version of its own."""
        return tuple(ORDER_TERMS[order] for order in orders_of(self.orders))


@dataclass(frozen=True, kw_only=True)
class KdSpec(Fields):
    """Softened class probabilities (Hinton et al. 2015): weight x T^2 x KL(teacher || student)."""

    # RepDistiller and mdistiller: 0.9, beside 0.1 of cross-entropy, and a temperature of 4.
    weight: float = bounded(0.9, 0.0, text="Of softened class probabilities (Hinton et al. 2015).", unit="factor")
    temperature: float = bounded(4.0, 0.01, text="That logits are divided by.")


@dataclass(frozen=True, kw_only=True)
class FitnetSpec(Fields):
    """A hint: the student's map of one stage regressed onto the teacher's (Romero et al. 2015)."""

    weight: float = bounded(100.0, 0.0, text="Of the hint (Romero et al. 2015).", unit="factor")  # RepDistiller.
    layer: int = bounded(2, 1, 5, text="Stage of the network whose map is the hint, from 1.")
    regressor: str = choice(
        "conv_bn",
        ("conv_bn", "conv"),
        text="1x1 convolution between the maps, with or without normalisation.",
    )
    align: str = choice("pool", ("pool", "upsample"), text="The larger map pooled, or the smaller enlarged.")


@dataclass(frozen=True, kw_only=True)
class AtSpec(Fields):
    """Attention maps of every stage (Zagoruyko and Komodakis 2017)."""

    # RepDistiller; so large because of the mean over pixels.
    weight: float = bounded(1000.0, 0.0, text="Of attention maps (Zagoruyko and Komodakis 2017).", unit="factor")
    power: float = bounded(2.0, 0.1, text="That activations are raised to.")


@dataclass(frozen=True, kw_only=True)
class RkdSpec(Fields):
    """Relations of pairs and triplets under a Huber loss (Park et al. 2019)."""

    # CIFAR: 25 and 50; metric learning: 1 and 2.
    distance: float = bounded(25.0, 0.0, text="Of distances of pairs (Park et al. 2019).", unit="factor")
    angle: float = bounded(50.0, 0.0, text="Of angles of triplets.", unit="factor")
    # Mean over valid tuples, or over B^2 and B^3 as in public code.
    form: str = choice("mean", ("mean", "reference"), text="Means over valid tuples, or as public code does.")


@dataclass(frozen=True, kw_only=True)
class PktSpec(Fields):
    """Probabilistic knowledge transfer (Passalis and Tefas 2018): conditional similarities of a batch."""

    # RepDistiller; it undoes the mean over B^2.
    weight: float = bounded(
        30_000.0, 0.0, text="Of conditional similarities of a batch (Passalis and Tefas 2018).", unit="factor"
    )


@dataclass(frozen=True, kw_only=True)
class SpSpec(Fields):
    """Similarity preserving (Tung and Mori 2019): row-normalised Gram matrices of the last maps."""

    # RepDistiller.
    weight: float = bounded(3000.0, 0.0, text="Of similarities of the last maps (Tung and Mori 2019).", unit="factor")


@dataclass(frozen=True, kw_only=True)
class DarkrankSpec(Fields):
    """The teacher's order of the neighbours (Chen et al. 2018)."""

    weight: float = bounded(1.0, 0.0, text="Of the teacher's order of neighbours (Chen et al. 2018).", unit="factor")
    # ListMLE of the teacher's order, or KL over all orders.
    kind: str = choice("hard", ("hard", "soft"), text="The likelihood of the teacher's order, or all orders.")
    scale: float = bounded(3.0, 0.0, text="The paper's alpha.")
    power: float = bounded(3.0, 0.0, text="The paper's beta.")
    length: int = bounded(4, 2, 6, text="Neighbours in a list.", unit="images")  # "soft" goes over length! orders.


@dataclass(frozen=True, kw_only=True)
class MkdSpec(Fields):
    """Learning metrics from teachers (Yu et al. 2019): embeddings and their distances, raw."""

    # CUB: 1 and 0.3.
    absolute: float = bounded(1.0, 0.0, text="Of embeddings (Yu et al. 2019).", unit="factor")
    relative: float = bounded(0.3, 0.0, text="Of their distances.", unit="factor")
    # Mean over pairs, or the public code's Frobenius norm.
    form: str = choice("mean", ("mean", "reference"), text="Means over pairs, or the public code's norm.")


@dataclass(frozen=True, kw_only=True)
class CrdSpec(Fields):
    """Contrastive representation distillation (Tian et al. 2020), with a memory bank of the training set."""

    # RepDistiller.
    weight: float = bounded(0.8, 0.0, text="Of the contrastive loss (Tian et al. 2020).", unit="factor")
    temperature: float = bounded(0.07, 0.001, text="That similarities are divided by.")
    # 16384 in the paper; at most what the training set holds.
    negatives: int = bounded(4096, 1, text="Drawn from the memory of the training set.", unit="images")
    width: int = bounded(128, 1, text="Width of the projections that are compared.", unit="numbers")
    momentum: float = bounded(0.5, 0.0, 1.0, text="Of the memory.")
    negatives_from: str = choice("other_classes", ("all", "other_classes"), text="Other classes, or all images.")


@dataclass(frozen=True, kw_only=True)
class TripletSpec(Fields):
    """Triplet loss on labels (no distillation), on L2-normalised embeddings."""

    weight: float = bounded(0.0, 0.0)
    margin: float = bounded(0.2, 0.0)
    mining: str = choice("hard", ("hard", "all"))  # Hardest positive and negative of each anchor, or all triplets.


# What labels alone say; the training adds these to whatever is distilled.
registry.declare("label_loss", "cross_entropy", "torch.nn.functional:cross_entropy", title="cross-entropy")

# The order is that of `method`, of keys, of lists, and of legends.
declare(
    "horkd",
    "horkd_loss:HorkdTerm",
    HorkdSpec,
    title="HORKD",
    parts={"point": 1, "pair": 2, "angle": 2, "center": 2},
    terms={"point": "w_1st", "pair": "alpha", "angle": "beta", "center": "gamma"},
    titles={"point": "1 point", "pair": "2 pair", "angle": "3 angle", "center": "C centre"},
)
declare("kd", "classic:KdTerm", KdSpec, title="KD", reads=("logits",))
declare("fitnet", "feature_maps:FitnetTerm", FitnetSpec, title="FitNet", reads=("maps",))
declare("at", "feature_maps:AtTerm", AtSpec, title="AT", titles={"at": "attention"}, reads=("maps",))
declare(
    "rkd",
    "classic:RkdTerm",
    RkdSpec,
    version=2,
    title="RKD",
    terms={"rkd_distance": "distance", "rkd_angle": "angle"},
)
declare("pkt", "classic:PktTerm", PktSpec, title="PKT")
declare("sp", "feature_maps:SpTerm", SpSpec, title="SP", reads=("maps",))
declare("darkrank", "ranking:DarkrankTerm", DarkrankSpec, version=2, title="DarkRank")
declare(
    "mkd",
    "ranking:MkdTerm",
    MkdSpec,
    version=2,
    title="MKD",
    terms={"mkd_absolute": "absolute", "mkd_relative": "relative"},
)
declare("crd", "contrastive:CrdTerm", CrdSpec, title="CRD")

registry.declare(
    "label_loss", "triplet", "trainables.losses.ranking:triplet_loss", version=2, options=TripletSpec, title="triplet"
)
