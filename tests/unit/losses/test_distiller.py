"""The weighing of all methods: which terms, which weights, what is trained along, and what training must do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from trainables.data.batches import generator
from trainables.errors import UsageError
from trainables.losses.distiller import Distiller
from trainables.losses.horkd_loss import HorkdLoss
from trainables.models import build
from trainables.models.network import Outputs
from trainables.spec import CrdSpec, DistillationSpec, HorkdSpec, registry
from trainables.spec.losses import AtSpec, DarkrankSpec, FitnetSpec, KdSpec, MkdSpec, RkdSpec

METHODS = registry.names("loss")
CLASSES, ITEMS, BATCH = 3, 20, 8
LABELS = torch.arange(ITEMS) % CLASSES
STUDENT_MAPS, TEACHER_MAPS = (4, 6), (3, 5, 7)
TERMS = {
    "horkd": ("point", "pair", "angle", "center"),
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


@contextmanager
def _seeded(purpose: str) -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator(5, 0, purpose).initial_seed())
        yield


def _distiller(method: str, *, student_width: int = 5, item_labels: Tensor = LABELS, **choices: Any) -> Distiller:
    choices.setdefault("crd", CrdSpec(width=4, negatives=6))
    return Distiller(
        DistillationSpec(method=method, **choices),
        student_width=student_width,
        teacher_width=7,
        student_maps=STUDENT_MAPS,
        teacher_maps=TEACHER_MAPS,
        classes=CLASSES,
        item_labels=item_labels,
        seed_module=_seeded,
    )


def _ready(distiller: Distiller) -> Distiller:
    """After what training does before an epoch."""
    if distiller.uses_teacher_centers:
        sums = torch.randn(CLASSES, 7, generator=torch.Generator().manual_seed(1))
        distiller.set_teacher_centers(sums, torch.ones(CLASSES))
    if distiller.uses_epoch_centers:
        sums = torch.randn(CLASSES, 5, generator=torch.Generator().manual_seed(2))
        distiller.set_student_centers(sums, torch.ones(CLASSES))
    distiller.begin_epoch(torch.Generator().manual_seed(3))
    return distiller


def _draw(batch: int = BATCH, *, student_width: int = 5) -> tuple[Outputs, Outputs, Tensor, Tensor]:
    draws = torch.Generator().manual_seed(0)

    def randn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=draws)

    student = Outputs(
        randn(batch, student_width).requires_grad_(),
        randn(batch, CLASSES).requires_grad_(),
        (randn(batch, STUDENT_MAPS[0], 4, 4).requires_grad_(), randn(batch, STUDENT_MAPS[1], 2, 2).requires_grad_()),
    )
    teacher = Outputs(
        randn(batch, 7),
        randn(batch, CLASSES),
        tuple(randn(batch, width, side, side) for width, side in zip(TEACHER_MAPS, (8, 4, 2), strict=True)),
    )
    indices = torch.randperm(ITEMS, generator=draws)[:batch]
    return student, teacher, LABELS[indices], indices


def test_every_method_of_the_spec_has_its_terms() -> None:
    assert {entry.name: tuple(entry.facts["terms"]) for entry in registry.entries("loss")} == TERMS
    assert tuple(TERMS) == METHODS


@pytest.mark.parametrize("centers", ["running", "batch", "epoch"])
@pytest.mark.parametrize("orders", ["1+2+3+C", "2", "1+C"])
def test_horkd_alone_gives_the_bits_of_its_own_module(orders: str, centers: str) -> None:
    spec = HorkdSpec(orders=orders, centers=centers)
    with _seeded("projector"):
        own = HorkdLoss(spec, student_width=5, teacher_width=7, classes=CLASSES)
    distiller = _ready(_distiller("horkd", horkd=spec))
    if own.uses_teacher_centers:
        sums = torch.randn(CLASSES, 7, generator=torch.Generator().manual_seed(1))
        own.set_teacher_centers(sums, torch.ones(CLASSES))
    if own.uses_epoch_centers:
        sums = torch.randn(CLASSES, 5, generator=torch.Generator().manual_seed(2))
        own.set_student_centers(sums, torch.ones(CLASSES))
    student, teacher, labels, indices = _draw()
    for progress in (0.1, 0.9):
        found = distiller(student, teacher, labels, indices, progress=progress)
        wanted = own(student.embedding, teacher.embedding, labels, progress=progress)
        assert list(found[1]) == list(wanted[1])
        for one, other in zip((found[0], *found[1].values()), (wanted[0], *wanted[1].values()), strict=True):
            assert torch.equal(one, other)
        inputs = ([student.embedding, *module.parameters()] for module in (distiller, own))
        slopes = [torch.autograd.grad(total, x) for (total, _), x in zip((found, wanted), inputs, strict=True)]
        for one, other in zip(*slopes, strict=True):
            assert torch.equal(one, other)
        assert distiller.weights(progress) == own.weights(progress)


@pytest.mark.parametrize("method", METHODS)
def test_each_method_reports_its_terms_unweighted_and_adds_them_weighted(method: str) -> None:
    distiller = _ready(_distiller(method, distillation=0.5))
    student, teacher, labels, indices = _draw()
    distiller(student, teacher, labels, indices, progress=0.2)  # Running centres count from here on.
    total, terms = distiller(student, teacher, labels, indices, progress=0.2)
    weights = distiller.weights(0.2)
    assert tuple(terms) == tuple(weights) == TERMS[method]
    torch.testing.assert_close(total, sum(weights[name] * terms[name] for name in terms))
    assert all(term.item() > 0 for term in terms.values())
    total.backward()
    reached = [x for x in (student.embedding, student.logits, *student.maps) if x.grad is not None]
    assert any(bool((x.grad != 0).any()) for x in reached)


def test_weights_are_the_specs_times_the_common_knob() -> None:
    distiller = _distiller(
        "+".join(METHODS),
        distillation=2.0,
        horkd=HorkdSpec(w_1st=1.0, alpha=2.0, beta=3.0, gamma=4.0, center_warmup=0.5),
        rkd=RkdSpec(distance=5.0, angle=6.0),
        mkd=MkdSpec(absolute=7.0, relative=8.0),
        at=AtSpec(weight=9.0),
    )
    assert distiller.weights(0.25) == {
        **{"point": 2.0, "pair": 4.0, "angle": 6.0, "center": 4.0},
        **{"kd": 1.8, "fitnet": 200.0, "at": 18.0, "rkd_distance": 10.0, "rkd_angle": 12.0, "pkt": 60_000.0},
        **{"sp": 6000.0, "darkrank": 2.0, "mkd_absolute": 14.0, "mkd_relative": 16.0, "crd": 1.6},
    }


def test_methods_add_up() -> None:
    totals = [
        _ready(_distiller(method))(*_draw(), progress=0.2)[0] for method in ("horkd", "kd", "crd", "horkd+kd+crd")
    ]
    torch.testing.assert_close(totals[3], totals[0] + totals[1] + totals[2])


def test_choices_reach_their_losses() -> None:
    draw = _draw()
    for method, choices in {
        "kd": {"kd": KdSpec(temperature=1.0)},
        "at": {"at": AtSpec(power=3.0)},
        "fitnet": {"fitnet": FitnetSpec(align="upsample")},
        "rkd": {"rkd": RkdSpec(form="reference")},
        "mkd": {"mkd": MkdSpec(form="reference")},
        "darkrank": {"darkrank": DarkrankSpec(kind="soft")},
        "crd": {"crd": CrdSpec(width=4, negatives=6, temperature=0.5)},
    }.items():
        usual, other = (_ready(_distiller(method, **more))(*draw, progress=0.5)[0] for more in ({}, choices))
        assert usual.item() != other.item(), method


def test_terms_without_weight_are_neither_computed_nor_reported() -> None:
    distiller = _distiller("rkd+mkd+crd", rkd=RkdSpec(angle=0.0), mkd=MkdSpec(absolute=0.0), crd=CrdSpec(weight=0.0))
    _, terms = distiller(*_draw(), progress=0.5)
    assert list(terms) == ["rkd_distance", "mkd_relative"]
    assert list(distiller.parameters()) == []


def test_without_any_term_it_is_a_zero_with_a_gradient() -> None:
    student, teacher, labels, indices = _draw()
    for distiller in (_distiller("none"), _distiller("horkd", horkd=HorkdSpec(orders="none"))):
        total, terms = distiller(student, teacher, labels, indices, progress=0.0)
        (slope,) = torch.autograd.grad(total, student.embedding)
        assert total.item() == 0
        assert terms == {}
        assert torch.equal(slope, torch.zeros_like(slope))


def test_only_what_is_needed_is_asked_for() -> None:
    asks = {
        method: [
            name
            for name in ("needs_maps", "needs_logits", "uses_teacher_centers", "uses_epoch_centers")
            if getattr(_distiller(method), name)
        ]
        for method in METHODS
    }
    assert {method: names for method, names in asks.items() if names} == {
        "horkd": ["uses_teacher_centers"],
        "kd": ["needs_logits"],
        "fitnet": ["needs_maps"],
        "at": ["needs_maps"],
        "sp": ["needs_maps"],
    }
    assert _distiller("horkd", horkd=HorkdSpec(centers="epoch")).uses_epoch_centers
    assert not _distiller("horkd", horkd=HorkdSpec(orders="1+2")).uses_teacher_centers


def test_a_method_draws_the_same_weights_whatever_joins_it() -> None:
    together = _distiller("+".join(METHODS))
    names = set()
    for method in METHODS:
        for name, value in _distiller(method).state_dict().items():
            assert torch.equal(together.state_dict()[name], value), name
            names.add(name)
    assert names == set(together.state_dict())


def test_what_is_drawn_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    _distiller("+".join(METHODS))
    assert torch.equal(torch.get_rng_state(), before)


def test_what_is_trained_along_gets_gradients() -> None:
    distiller = _ready(_distiller("horkd+fitnet+mkd+crd"))
    distiller(*_draw(), progress=0.5)[0].backward()
    grads = {name: value.grad for name, value in distiller.named_parameters()}
    assert {name.split(".")[0] for name in grads} == {"horkd", "regressor", "mkd_projector", "crd"}
    for name, grad in grads.items():
        assert grad is not None, name
        assert torch.isfinite(grad).all(), name


def test_equal_widths_need_no_projector() -> None:
    distiller = _distiller("horkd+mkd", student_width=7)
    assert list(distiller.parameters()) == []


@pytest.mark.parametrize(
    ("layer", "stages"), [(1, ((4, 4, 4), (3, 8, 8))), (2, ((6, 2, 2), (5, 4, 4))), (5, ((6, 2, 2), (7, 2, 2)))]
)
def test_a_hint_goes_from_the_stage_asked_for_or_the_last(
    layer: int, stages: tuple[tuple[int, ...], tuple[int, ...]]
) -> None:
    distiller = _distiller("fitnet", fitnet=FitnetSpec(layer=layer))
    regressor = distiller.regressor
    assert regressor is not None
    student, teacher, *_ = _draw()
    assert student.maps[regressor.student_stage].shape[1:] == stages[0]
    assert teacher.maps[regressor.teacher_stage].shape[1:] == stages[1]
    assert regressor(student.maps[regressor.student_stage]).shape[1] == stages[1][0]


def test_the_regressor_may_go_without_normalisation() -> None:
    assert any(name.endswith("running_mean") for name in _distiller("fitnet").state_dict())
    plain = _distiller("fitnet", fitnet=FitnetSpec(regressor="conv"))
    assert sorted(plain.state_dict()) == ["regressor.convolution.bias", "regressor.convolution.weight"]


def test_the_state_travels() -> None:
    first, second = (_ready(_distiller("horkd+fitnet+crd")) for _ in range(2))
    first(*_draw(), progress=0.5)
    second.load_state_dict(first.state_dict())
    values = [distiller(*_draw(), progress=0.9)[0] for distiller in (first, second)]
    assert torch.equal(*values)


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_tiny_batches_stay_finite(rows: int) -> None:
    distiller = _ready(_distiller("+".join(METHODS)))
    student, teacher, labels, indices = _draw(batch=rows)
    # As of a network whose last maps have one pixel.
    student = student._replace(maps=tuple(x.mean((2, 3), keepdim=True) for x in student.maps))
    total, terms = distiller(student, teacher, labels, indices, progress=0.5)
    total.backward()
    assert torch.isfinite(total)
    assert all(torch.isfinite(value) for value in terms.values())
    assert student.embedding.grad is not None
    assert torch.isfinite(student.embedding.grad).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_leaves_every_term_in_full_precision(dtype: torch.dtype) -> None:
    draw = _draw()

    def cast(x: Outputs, wanted: torch.dtype) -> Outputs:
        maps = tuple(each.detach().to(wanted) for each in x.maps)
        return Outputs(x.embedding.detach().to(wanted), x.logits.detach().to(wanted), maps)

    narrow = [cast(x, dtype) for x in draw[:2]]
    wide = [cast(x, torch.float32) for x in narrow]
    expected, _ = _ready(_distiller("+".join(METHODS)))(*wide, *draw[2:], progress=0.5)
    with torch.autocast("cpu", dtype=dtype):
        total, terms = _ready(_distiller("+".join(METHODS)))(*narrow, *draw[2:], progress=0.5)
    assert {value.dtype for value in terms.values()} == {torch.float32}
    assert torch.equal(total, expected)


@pytest.mark.parametrize("centers", ["running", "epoch"])
def test_a_step_reads_nothing_back_to_the_host(centers: str) -> None:
    # Fake tensors have no values: reading one, or a shape that depends on one, raises.
    seed = torch.Generator().manual_seed(3)
    with FakeTensorMode() as fake:
        labels = torch.zeros(ITEMS, dtype=torch.int64)
        distiller = _distiller("+".join(METHODS), horkd=HorkdSpec(centers=centers), item_labels=labels)
        distiller.set_teacher_centers(torch.randn(CLASSES, 7), torch.ones(CLASSES))
        if distiller.uses_epoch_centers:
            distiller.set_student_centers(torch.randn(CLASSES, 5), torch.ones(CLASSES))
    distiller.begin_epoch(seed)  # The one number read, once an epoch, from a generator of the CPU.
    with fake:
        student = Outputs(
            torch.randn(BATCH, 5, requires_grad=True),
            torch.randn(BATCH, CLASSES, requires_grad=True),
            tuple(torch.randn(BATCH, width, 2, 2) for width in STUDENT_MAPS),
        )
        teacher = Outputs(
            torch.randn(BATCH, 7),
            torch.randn(BATCH, CLASSES),
            tuple(torch.randn(BATCH, width, 4, 4) for width in TEACHER_MAPS),
        )
        total, _ = distiller(student, teacher, labels[:BATCH], labels[:BATCH], progress=0.5)
        total.backward()


def test_real_networks_of_other_sides_and_structures_go_through_every_method() -> None:
    torch.manual_seed(0)
    student = build("resnet_thin", channels=3, classes=CLASSES, width=0.5)
    teacher = build("vgg11", channels=3, classes=CLASSES, width=0.1).eval()
    images = torch.randn(BATCH, 3, 32, 32)
    distiller = Distiller(
        DistillationSpec(method="+".join(METHODS), horkd=HorkdSpec(centers="batch"), crd=CrdSpec(negatives=6)),
        student_width=student.embedding_width,
        teacher_width=teacher.embedding_width,
        student_maps=student.map_widths,
        teacher_maps=teacher.map_widths,
        classes=CLASSES,
        item_labels=LABELS,
        seed_module=_seeded,
    )
    distiller.begin_epoch(torch.Generator())
    with torch.no_grad():
        theirs = teacher(images, maps=True)
    ours = student(images[:, :, ::4, ::4], maps=True)
    total, terms = distiller(ours, theirs, LABELS[:BATCH], torch.arange(BATCH), progress=0.5)
    total.backward()
    assert set(terms) == {name for names in TERMS.values() for name in names}
    assert torch.isfinite(total)
    assert all(torch.isfinite(p.grad).all() for p in student.parameters() if p.grad is not None)


def test_losses_on_maps_are_refused_where_there_are_none() -> None:
    with pytest.raises(UsageError, match=r"\(fitnet, sp\).*student has 0 and the teacher 3"):
        Distiller(
            DistillationSpec(method="kd+fitnet+sp"),
            student_width=5,
            teacher_width=7,
            student_maps=(),
            teacher_maps=TEACHER_MAPS,
            classes=CLASSES,
            item_labels=LABELS,
            seed_module=_seeded,
        )
    student, teacher, labels, indices = _draw()
    for method in ("fitnet", "sp", "at"):
        with pytest.raises(UsageError, match="got 2 of the student and 0 of the teacher"):
            _distiller(method)(student, teacher._replace(maps=()), labels, indices, progress=0.0)


def test_centres_are_horkds_alone() -> None:
    for call in (Distiller.set_teacher_centers, Distiller.set_student_centers):
        with pytest.raises(UsageError, match="No loss of the method 'kd' takes class centres"):
            call(_distiller("kd"), torch.zeros(CLASSES, 7), torch.ones(CLASSES))
