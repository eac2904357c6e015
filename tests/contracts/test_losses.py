"""What every loss must do, one by one and with an oracle: a term joins `LOSSES` with one line, and cannot stay out.

The contracts are those of `sweeps check`; `test_registry.py` holds the losses to them as training calls these.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import permutations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from trainables.contracts import Broken
from trainables.contracts.losses import OF_LOSSES, OF_ZERO_LOSSES, Loss, as_maps, draw
from trainables.errors import UsageError
from trainables.losses.classic import kd_loss, pkt_loss, rkd_angle_loss, rkd_distance_loss
from trainables.losses.contrastive import CrdLoss
from trainables.losses.distiller import Distiller
from trainables.losses.feature_maps import at_loss, fitnet_loss, sp_loss
from trainables.losses.horkd import angle_loss, center_loss, class_centers, pair_loss, point_loss
from trainables.losses.horkd_loss import HorkdLoss
from trainables.losses.ranking import darkrank_loss, mkd_absolute_loss, mkd_relative_loss, triplet_loss
from trainables.models.network import Outputs
from trainables.spec import CrdSpec, DistillationSpec, HorkdSpec, registry
from trainables.spec.losses import DarkrankSpec

CLASSES = 4


def _distance(a: Tensor, b: Tensor) -> Tensor:
    return sum(((x - y) ** 2 for x, y in zip(a, b, strict=True)), torch.zeros((), dtype=a.dtype)).sqrt()


def _point_oracle(student: Tensor, teacher: Tensor, labels: Tensor, *, distance: str) -> float:
    total = 0.0
    for s, t in zip(student, teacher, strict=True):
        gap = s - t
        total += {
            "mse": lambda gap=gap: gap.dot(gap) / len(gap),
            "squared_l2": lambda gap=gap: gap.dot(gap),
            "l2": lambda gap=gap: gap.dot(gap).sqrt(),
            "cosine": lambda s=s, t=t: 1 - s.dot(t) / (s.dot(s) * t.dot(t)).sqrt(),
            "smooth_l1": lambda gap=gap: sum(g * g / 2 if abs(g) < 1 else abs(g) - 0.5 for g in gap) / len(gap),
        }[distance]()
    return float(total / len(student))


def _pair_oracle(student: Tensor, teacher: Tensor, labels: Tensor, *, huber: bool = False) -> float:
    pairs = list(permutations(range(len(student)), 2))

    def relations(x: Tensor) -> list[Tensor]:
        distances = [_distance(x[i], x[j]) for i, j in pairs]
        return [distance / (sum(distances) / len(pairs)) for distance in distances]

    gaps = [abs(t - s) for s, t in zip(relations(student), relations(teacher), strict=True)]
    if huber:
        return float(sum(gap**2 / 2 if gap <= 1 else gap - 0.5 for gap in gaps) / len(pairs))
    return float(sum(gap**2 for gap in gaps) / len(pairs))


def _angle_oracle(student: Tensor, teacher: Tensor, labels: Tensor) -> float:
    triplets = list(permutations(range(len(student)), 3))
    total = torch.zeros((), dtype=student.dtype)
    for i, j, k in triplets:
        cosines = []
        for x in (student, teacher):
            first, second = x[i] - x[j], x[k] - x[j]
            cosines.append((first / first.norm()).dot(second / second.norm()))
        gap = (cosines[0] - cosines[1]).abs()
        total += gap**2 / 2 if gap <= 1 else gap - 0.5
    return float(total / len(triplets))


def _center_oracle(student: Tensor, teacher: Tensor, labels: Tensor) -> float:
    def relations(x: Tensor) -> list[Tensor]:
        rows: dict[int, list[Tensor]] = {}
        for row, label in zip(x, labels.tolist(), strict=True):
            rows.setdefault(label, []).append(row)
        centers = [sum(rows[k]) / len(rows[k]) for k in sorted(rows)]
        distances = [_distance(row, center) for row in x for center in centers]
        return [distance / (sum(distances) / len(distances)) for distance in distances]

    gaps = [(t - s) ** 2 for s, t in zip(relations(student), relations(teacher), strict=True)]
    return float(sum(gaps) / len(gaps))


def _kd_oracle(student: Tensor, teacher: Tensor, labels: Tensor, *, temperature: float = 4.0) -> float:
    total = 0.0
    for ours, theirs in zip(student.tolist(), teacher.tolist(), strict=True):
        p, q = ([math.exp(z / temperature) for z in row] for row in (theirs, ours))
        total += sum(a / sum(p) * math.log((a / sum(p)) / (b / sum(q))) for a, b in zip(p, q, strict=True))
    return total * temperature**2 / len(student)


def _fitnet_oracle(student: Tensor, teacher: Tensor, labels: Tensor) -> float:
    # A map holds every number of its row twice, so the mean is that over the rows.
    gaps = [(s - t) ** 2 for s, t in zip(student.flatten().tolist(), teacher.flatten().tolist(), strict=True)]
    return sum(gaps) / len(gaps)


def _at_oracle(student: Tensor, teacher: Tensor, labels: Tensor, *, power: float = 2.0) -> float:
    total = 0.0
    for ours, theirs in zip(as_maps(student), as_maps(teacher), strict=True):
        rows = []
        for x in (ours, theirs):
            attention = [sum(abs(v) ** power for v in pixel) / len(pixel) for pixel in x.flatten(1).T.tolist()]
            length = math.sqrt(sum(v * v for v in attention))
            rows.append([v / length for v in attention])
        total += sum((s - t) ** 2 for s, t in zip(*rows, strict=True)) / len(rows[0])
    return total / len(student)


def _pkt_oracle(student: Tensor, teacher: Tensor, labels: Tensor) -> float:
    def probabilities(x: Tensor) -> list[list[float]]:
        cosines = [[float(a.dot(b) / (a.norm() + 1e-7) / (b.norm() + 1e-7)) for b in x] for a in x]
        return [[(c + 1) / sum(d + 1 for d in row) for c in row] for row in cosines]

    total = 0.0
    for ours, theirs in zip(probabilities(student), probabilities(teacher), strict=True):
        total += sum(t * math.log((t + 1e-7) / (s + 1e-7)) for s, t in zip(ours, theirs, strict=True))
    return total / len(student) ** 2


def _sp_oracle(student: Tensor, teacher: Tensor, labels: Tensor) -> float:
    def rows(x: Tensor) -> list[list[float]]:
        products = [[float(a.dot(b)) for b in x] for a in x]
        return [[p / math.sqrt(sum(q * q for q in row)) for p in row] for row in products]

    total = 0.0
    for ours, theirs in zip(rows(student), rows(teacher), strict=True):
        total += sum((s - t) ** 2 for s, t in zip(ours, theirs, strict=True))
    return total / len(student) ** 2


def _chance(scores: list[float]) -> float:
    """Probability of drawing items in this order, each by the softmax of the scores still there."""
    weights = [math.exp(score) for score in scores]
    return math.prod(weight / sum(weights[place:]) for place, weight in enumerate(weights))


def _darkrank_oracle(student: Tensor, teacher: Tensor, labels: Tensor, *, soft: bool) -> float:
    total = 0.0
    for i in range(len(student)):
        others = [j for j in range(len(student)) if j != i]
        theirs = {j: -0.5 * float(_distance(teacher[i], teacher[j])) ** 1.5 for j in others}
        ours = {j: -0.5 * float(_distance(student[i], student[j])) ** 1.5 for j in others}
        nearest = sorted(others, key=lambda j: -theirs[j])[:3]
        if not soft:
            total -= math.log(_chance([ours[j] for j in nearest]))
            continue
        for order in permutations(nearest):
            p, q = (_chance([scores[j] for j in order]) for scores in (theirs, ours))
            total += p * math.log(p / q)
    return total / len(student)


def _mkd_relative_oracle(student: Tensor, teacher: Tensor, labels: Tensor, *, form: str = "mean") -> float:
    pairs = list(permutations(range(len(student)), 2))
    gaps = [float(_distance(student[i], student[j]) - _distance(teacher[i], teacher[j])) for i, j in pairs]
    if form == "reference":
        return math.sqrt(sum(gap * gap for gap in gaps))
    return sum(abs(gap) for gap in gaps) / len(pairs)


def _triplet_oracle(student: Tensor, teacher: Tensor, labels: Tensor, *, mining: str, margin: float) -> float:
    rows = [row / row.norm() for row in student]
    hinges = []
    for a, anchor in enumerate(rows):
        same = [float(_distance(anchor, row)) for p, row in enumerate(rows) if p != a and labels[p] == labels[a]]
        other = [float(_distance(anchor, row)) for n, row in enumerate(rows) if labels[n] != labels[a]]
        if mining == "hard" and same and other:
            same, other = [max(same)], [min(other)]
        hinges += [max(0.0, p - n + margin) for p in same for n in other]
    return sum(hinges) / len(hinges)


def _batch_centers(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    ours, counts = class_centers(student, labels, CLASSES)
    theirs, _ = class_centers(teacher, labels, CLASSES)
    return center_loss(student, teacher, ours, theirs, counts > 0)


def _whole(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    torch.manual_seed(0)
    spec = HorkdSpec(centers="batch", alpha=1.0, beta=1.0)
    loss = HorkdLoss(spec, student_width=student.shape[1], teacher_width=teacher.shape[1], classes=CLASSES)
    return loss(student, teacher, labels, progress=1.0)[0]


def _contrastive(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    torch.manual_seed(0)
    where = teacher[:, 0].argsort().argsort()  # Follows the rows, whatever their order.
    classes = torch.arange(len(teacher) + 5) % 3
    classes[where] = labels[: len(teacher)]
    loss = CrdLoss(
        CrdSpec(width=4, negatives=6, temperature=0.5),
        student_width=student.shape[1],
        teacher_width=teacher.shape[1],
        items=len(classes),
        classes_of_items=classes,
    ).to(torch.promote_types(student.dtype, torch.float32))
    loss.log_z.fill_(2.5)
    loss.has_z.fill_(True)
    loss.begin_epoch(torch.Generator().manual_seed(3))
    return loss.eval()(student, teacher, labels, where)


def _every_method(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    torch.manual_seed(0)
    spec = DistillationSpec(
        method="+".join(name for name in registry.names("loss") if name != "crd"),  # Which has a memory of its own.
        horkd=HorkdSpec(centers="batch"),
        darkrank=DarkrankSpec(power=1.0),
        distillation=0.1,
    )
    loss = Distiller(
        spec,
        student_width=student.shape[1],
        teacher_width=teacher.shape[1],
        student_maps=(2, 2),
        teacher_maps=(2, 2),
        classes=CLASSES,
        item_labels=labels,
        seed_module=lambda purpose: nullcontext(),
    ).to(torch.promote_types(student.dtype, torch.float32))
    ours, theirs = (Outputs(x, x, (as_maps(x), as_maps(x.flip(1)))) for x in (student, teacher))
    return loss(ours, theirs, labels, torch.arange(len(labels)), progress=1.0)[0]


@dataclass(frozen=True)
class Case:
    """A loss of (student, teacher, labels) and what is expected of it."""

    loss: Loss
    oracle: Callable[[Tensor, Tensor, Tensor], float] | None = None
    relational: bool = False  # Blind to scale, rotation and shift of the student; the widths may differ.
    any_width: bool = False  # The widths may differ.
    members: int = 1  # Rows that one tuple has; with fewer there is nothing to say.
    zero: bool = True  # Nothing to say where student and teacher agree, either.


LOSSES = {
    **{
        f"point_{distance}": Case(
            lambda s, t, y, distance=distance: point_loss(s, t, distance=distance),
            partial(_point_oracle, distance=distance),
        )
        for distance in ("mse", "squared_l2", "l2", "cosine", "smooth_l1")
    },
    "point_bn": Case(lambda s, t, y: point_loss(s, t, feature_norm="bn")),
    "point_l2": Case(lambda s, t, y: point_loss(s, t, feature_norm="l2")),
    "pair": Case(lambda s, t, y: pair_loss(s, t), _pair_oracle, relational=True),
    "pair_huber": Case(lambda s, t, y: pair_loss(s, t, distance="huber"), relational=True),
    "angle": Case(lambda s, t, y: angle_loss(s, t), _angle_oracle, relational=True),
    "center": Case(_batch_centers, _center_oracle, relational=True),
    "horkd": Case(_whole),
    "kd": Case(lambda s, t, y: kd_loss(s, t), _kd_oracle),
    "kd_cold": Case(lambda s, t, y: kd_loss(s, t, temperature=0.5), partial(_kd_oracle, temperature=0.5)),
    "fitnet": Case(lambda s, t, y: fitnet_loss(as_maps(s), as_maps(t)), _fitnet_oracle),
    "at": Case(lambda s, t, y: at_loss([as_maps(s)], [as_maps(t)]), _at_oracle),
    "at_cubed": Case(lambda s, t, y: at_loss([as_maps(s)], [as_maps(t)], power=3.0), partial(_at_oracle, power=3.0)),
    "rkd_distance": Case(lambda s, t, y: rkd_distance_loss(s, t), partial(_pair_oracle, huber=True), relational=True),
    "rkd_angle": Case(lambda s, t, y: rkd_angle_loss(s, t), _angle_oracle, relational=True),
    "pkt": Case(lambda s, t, y: pkt_loss(s, t), _pkt_oracle, any_width=True, members=2),
    "sp": Case(lambda s, t, y: sp_loss(s, t), _sp_oracle, any_width=True, members=2),
    "sp_maps": Case(lambda s, t, y: sp_loss(as_maps(s), as_maps(t)), _sp_oracle, any_width=True, members=2),
    "darkrank_hard": Case(
        lambda s, t, y: darkrank_loss(s, t, scale=0.5, power=1.5, length=3),
        partial(_darkrank_oracle, soft=False),
        any_width=True,
        members=2,
        zero=False,
    ),
    "darkrank_soft": Case(
        lambda s, t, y: darkrank_loss(s, t, kind="soft", scale=0.5, power=1.5, length=3),
        partial(_darkrank_oracle, soft=True),
        any_width=True,
        members=2,
    ),
    "mkd_absolute": Case(lambda s, t, y: mkd_absolute_loss(s, t), partial(_point_oracle, distance="l2")),
    "mkd_relative": Case(lambda s, t, y: mkd_relative_loss(s, t), _mkd_relative_oracle, any_width=True, members=2),
    "mkd_relative_reference": Case(
        lambda s, t, y: mkd_relative_loss(s, t, form="reference"),
        partial(_mkd_relative_oracle, form="reference"),
        any_width=True,
        members=2,
    ),
    **{
        f"triplet_{mining}": Case(
            lambda s, t, y, mining=mining: triplet_loss(s, y[: len(t)], margin=0.3, mining=mining),
            partial(_triplet_oracle, mining=mining, margin=0.3),
            members=3,
            zero=False,
        )
        for mining in ("hard", "all")
    },
    "crd": Case(_contrastive, zero=False),
    "every_method": Case(_every_method, zero=False),
}


def test_every_term_of_the_registry_is_in_the_list() -> None:
    terms = [term for entry in registry.entries("loss") for term in entry.facts["terms"]]
    terms += [entry.name for entry in registry.entries("label_loss") if entry.name != "cross_entropy"]  # Torch's own.
    cases = {term: [name for name in LOSSES if f"{name}_".startswith(f"{term}_")] for term in terms}
    assert [term for term, own in cases.items() if not own] == []
    assert set(LOSSES) - {name for own in cases.values() for name in own} == {"horkd", "every_method"}  # Whole sums.


@pytest.mark.parametrize("contract", OF_ZERO_LOSSES)
@pytest.mark.parametrize("name", [name for name, case in LOSSES.items() if case.zero])
def test_where_student_and_teacher_agree_the_contract_holds(name: str, contract: str) -> None:
    OF_ZERO_LOSSES[contract](LOSSES[name].loss)


@pytest.mark.parametrize("contract", OF_LOSSES)
@pytest.mark.parametrize("name", LOSSES)
def test_the_contract_of_every_loss_holds(name: str, contract: str) -> None:
    OF_LOSSES[contract](LOSSES[name].loss)


@pytest.mark.parametrize("name", LOSSES)
class TestEveryLoss:
    def test_float32_stays_close_to_float64_far_from_the_origin(self, name: str) -> None:
        student, teacher, labels = draw()
        student = (student.detach() + 100).float()
        expected = LOSSES[name].loss(student.double(), teacher, labels)
        value = LOSSES[name].loss(student, teacher.float(), labels)
        torch.testing.assert_close(value, expected.float(), rtol=1e-5, atol=1e-6)

    def test_batches_of_different_size_are_refused(self, name: str) -> None:
        student, teacher, labels = draw()
        with pytest.raises(UsageError, match="same"):
            LOSSES[name].loss(student, teacher[:5], labels)


# Losses that break a contract -> what is said of it.
BAD: dict[str, tuple[Loss, str]] = {
    "the order of the batch does not matter": (
        lambda s, t, y: (s[0] - t[-1]).pow(2).sum(),
        "the same rows in another order give another value",
    ),
    "its gradient is the slope of its value": (lambda s, t, y: s.detach().sum() * s.mean(), "Jacobian mismatch"),
    "gradients reach the student and not the teacher": (lambda s, t, y: (s * t).sum(), "reaches the teacher"),
    "value and gradient stay finite on degenerate batches": (
        lambda s, t, y: s.sum() / (len(s) - 1),
        "on the batch 'one_row' in float32 it is -inf",
    ),
    "huge embeddings give finite values": (lambda s, t, y: s.pow(4).mean(), "make it inf"),
    "autocast changes nothing": (lambda s, t, y: (s @ t.detach().T).pow(2).mean(), "under autocast it is of type"),
    "it is zero when student and teacher agree": (lambda s, t, y: (s - t).mean() + 1e-9, "and it is 1e-09"),
}


@pytest.mark.parametrize("contract", [*OF_LOSSES, *OF_ZERO_LOSSES])
def test_a_loss_that_breaks_the_contract_is_told_how(contract: str) -> None:
    loss, told = BAD[contract]
    with pytest.raises(Broken, match=told):
        (OF_LOSSES | OF_ZERO_LOSSES)[contract](loss)


@pytest.mark.parametrize("name", [name for name, case in LOSSES.items() if case.oracle])
def test_it_equals_the_loop_written_from_the_equation(name: str) -> None:
    case = LOSSES[name]
    assert case.oracle is not None
    student, teacher, labels = draw()
    expected = case.oracle(student.detach(), teacher, labels)
    assert case.loss(student, teacher, labels).item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", [name for name, case in LOSSES.items() if case.relational])
class TestEveryRelation:
    def test_it_ignores_scale_rotation_and_shift(self, name: str) -> None:
        student, teacher, labels = draw()
        rotation = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(2)))[
            0
        ]
        moved = 30 * student @ rotation + 100
        loss = LOSSES[name].loss
        torch.testing.assert_close(loss(moved, teacher, labels), loss(student, teacher, labels))

    @pytest.mark.parametrize("rows", [1, 2])
    def test_without_a_valid_tuple_it_is_a_zero_that_keeps_the_graph(self, name: str, rows: int) -> None:
        student, teacher, _ = draw(batch=rows)
        value = LOSSES[name].loss(student, teacher, torch.zeros(rows, dtype=torch.int64))
        value.backward()
        assert value.item() == 0
        assert torch.equal(student.grad, torch.zeros_like(student))


@pytest.mark.parametrize("name", [name for name, case in LOSSES.items() if case.relational or case.any_width])
def test_it_takes_a_teacher_of_another_width(name: str) -> None:
    student, teacher, labels = draw()
    wide = torch.cat([teacher, torch.zeros(7, 5, dtype=teacher.dtype)], 1)
    loss = LOSSES[name].loss
    torch.testing.assert_close(loss(student, wide, labels), loss(student, teacher, labels))


@pytest.mark.parametrize(
    ("name", "rows"), [(name, rows) for name, case in LOSSES.items() for rows in range(1, case.members)]
)
def test_with_fewer_rows_than_a_tuple_has_it_is_a_zero_that_keeps_the_graph(name: str, rows: int) -> None:
    student, teacher, labels = draw(batch=rows)
    value = LOSSES[name].loss(student, teacher, labels)
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-15)
    torch.testing.assert_close(student.grad, torch.zeros_like(student))


class TestPublicValues:
    """Values for B=5 from an independent numpy implementation, checked against public distillation code."""

    rows = torch.arange(5, dtype=torch.float64)[:, None]
    teacher = torch.sin(0.7 * rows + 1.3 * torch.arange(3, dtype=torch.float64))
    student = torch.cos(0.9 * rows - 0.4 * torch.arange(2, dtype=torch.float64))
    labels = torch.tensor([0, 1, 0, 2, 1])
    teacher_logits = 2 * torch.sin(1.1 * rows + 0.5 * torch.arange(4, dtype=torch.float64))
    student_logits = 2 * torch.cos(0.3 * rows + 0.8 * torch.arange(4, dtype=torch.float64))

    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            ({}, 0.067011559486552),
            ({"distance": "huber"}, 0.033505779743276),
            ({"distance": "huber", "reduction": "reference"}, 0.026804623794621),
            ({"reduction": "sum_over_anchors_mean"}, 1.340231189731040 / 5),
        ],
    )
    def test_pairs(self, options: dict[str, str], expected: float) -> None:
        assert pair_loss(self.student, self.teacher, **options).item() == pytest.approx(expected, abs=1e-10)

    @pytest.mark.parametrize(
        ("reduction", "expected"),
        [
            ("mean", 0.049587733817944),
            ("reference", 0.023802112232613),
            ("sum_over_anchors_mean", 0.049587733817944 * 60 / 5),
        ],
    )
    def test_angles(self, reduction: str, expected: float) -> None:
        assert angle_loss(self.student, self.teacher, reduction=reduction).item() == pytest.approx(expected, abs=1e-10)

    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            ({}, 0.066054271681327),
            ({"reduction": "reference"}, 0.066054271681327),
            ({"reduction": "sum_over_anchors_mean"}, 0.066054271681327 * 3),
            ({"normalise": False}, 0.116934340006262),
        ],
    )
    def test_centers(self, options: dict, expected: float) -> None:
        ours, theirs = (class_centers(x, self.labels, 3)[0] for x in (self.student, self.teacher))
        value = center_loss(self.student, self.teacher, ours, theirs, **options)
        assert value.item() == pytest.approx(expected, abs=1e-10)

    @pytest.mark.parametrize(("temperature", "expected"), [(4.0, 0.814718127264226), (1.0, 0.698778657708994)])
    def test_probabilities(self, temperature: float, expected: float) -> None:
        value = kd_loss(self.student_logits, self.teacher_logits, temperature=temperature)
        assert value.item() == pytest.approx(expected, abs=1e-10)

    @pytest.mark.parametrize(
        ("loss", "expected"),
        [
            (partial(rkd_distance_loss, form="reference"), 0.026804623794621),
            (rkd_distance_loss, 0.033505779743276),
            (partial(rkd_angle_loss, form="reference"), 0.023802112232613),
            (rkd_angle_loss, 0.049587733817944),
            (pkt_loss, 0.084822415224113),
            (sp_loss, 0.090002735268789),
            (partial(darkrank_loss, kind="hard", scale=3.0, power=3.0, length=3), 1.631615868583513),
            (partial(darkrank_loss, kind="soft", scale=3.0, power=3.0, length=3), 0.704174847983457),
            (partial(mkd_relative_loss, form="reference"), 1.975955090764249),
        ],
    )
    def test_other_losses_on_embeddings(self, loss: Callable[[Tensor, Tensor], Tensor], expected: float) -> None:
        assert loss(self.student, self.teacher).item() == pytest.approx(expected, abs=1e-10)

    def test_attentionas_maps(self) -> None:
        def grid(*shape: int) -> list[Tensor]:
            steps = [torch.arange(side, dtype=torch.float64) for side in shape]
            return list(torch.meshgrid(*steps, indexing="ij"))

        i, c, h, w = grid(2, 3, 2, 2)
        student = torch.sin(i + 0.5 * c + 0.3 * h + 0.2 * w)
        i, c, h, w = grid(2, 2, 4, 4)
        teacher = torch.cos(i - 0.5 * c + 0.1 * h + 0.4 * w)
        assert at_loss([student], [teacher]).item() == pytest.approx(0.057006295448346, abs=1e-10)


def test_the_fused_angle_loss_equals_plain_autograd_over_the_difference_tensor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from trainables.losses import angle

    def direct(student: Tensor) -> Tensor:
        ours, theirs = (F.normalize(x[:, None] - x[None], dim=2) for x in (student, teacher))
        cosines = [torch.einsum("jid,jkd->jik", edges, edges) for edges in (ours, theirs)]
        return F.huber_loss(*cosines, reduction="sum") / (9 * 8 * 7)

    student, teacher, labels = draw(batch=9)
    # One anchor at a time, blocks that do not divide the batch, and all at once.
    for elements in (1, 300, 2**18):
        monkeypatch.setattr(angle, "CPU_ELEMENTS", elements)
        value, expected = angle_loss(student, teacher), direct(student)
        torch.testing.assert_close(value, expected, rtol=1e-12, atol=0)
        gradients = [torch.autograd.grad(loss, student)[0] for loss in (value, expected)]
        torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-14)
