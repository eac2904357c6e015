"""What must hold on a GPU before its times mean anything: equal losses, equal runs, finite halves, no waiting.

Each check returns answers: a figure, in words that say what it is, and whether it is within its stated tolerance.
"""

from __future__ import annotations

import contextlib
import copy
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.gpu_setting import (
    Sizes,
    begin,
    frozen,
    parameters_of,
    splits,
    student_spec,
    teacher_of,
    trainer,
    wait_for,
    waits,
)
from trainables.data.augment import augment
from trainables.data.batches import generator
from trainables.data.degrade import degrade, enlarge
from trainables.losses.distiller import Distiller
from trainables.losses.ranking import triplet_loss
from trainables.models import build
from trainables.models.network import Outputs
from trainables.spec import ARCHITECTURES, FILTERS, DistillationSpec, HorkdSpec, StudentSpec, registry
from trainables.training.loop import Trainer

# Largest difference from the CPU, over the largest entry of what the CPU gives.
TOLERANCES = {"loss": 1e-5, "gradient": 1e-4, "network in float64": 1e-10, "network in float32": 1e-3, "pixels": 1e-5}


@dataclass(frozen=True)
class Answer:
    """One line of the table."""

    question: str
    what: str
    figure: str
    holds: bool | None = None  # None where nothing is demanded.


def apart(ours: Tensor, theirs: Tensor) -> float:
    """Largest difference, over the largest entry of the second; infinite where one is not finite."""
    ours, theirs = ours.detach().double().cpu(), theirs.detach().double().cpu()
    if not bool(torch.isfinite(ours).all() and torch.isfinite(theirs).all()):
        return float("inf")
    largest = float(theirs.abs().max()) if theirs.numel() else 0.0
    return float((ours - theirs).abs().max()) / max(largest, 1e-12)


def components(sizes: Sizes, device: torch.device) -> list[Answer]:
    """Each loss with its gradient, network and loss of resolution, beside the same on the CPU."""
    begin(student_spec(sizes, 8), device)
    found = []
    for name, spec in _losses().items():
        (here, pull), (there, pull_there) = (_loss(spec, torch.device(place)) for place in ("cpu", device))
        found.append(_compared(f"loss {name}", "loss", there, here))
        found.append(_compared(f"gradient of {name}", "gradient", pull_there, pull))
    for name in ARCHITECTURES:
        for kind, dtype in (("network in float64", torch.float64), ("network in float32", torch.float32)):
            found.append(
                _compared(name, kind, _network(name, dtype, device), _network(name, dtype, torch.device("cpu")))
            )
    for name, call in _pixels().items():
        found.append(_compared(name, "pixels", call(device), call(torch.device("cpu"))))
    worst: dict[str, tuple[float, str]] = {}
    for kind, what, value in found:
        if kind not in worst or value > worst[kind][0]:
            worst[kind] = value, what
    return [
        Answer(
            "as on the CPU",
            f"{kind}: {sum(k == kind for k, _, _ in found)} compared, the farthest is {what}",
            f"{value:.1e} apart, at most {TOLERANCES[kind]:.0e}",
            value <= TOLERANCES[kind],
        )
        for kind, (value, what) in worst.items()
    ]


def _compared(what: str, kind: str, ours: Tensor, theirs: Tensor) -> tuple[str, str, float]:
    return kind, what, apart(ours, theirs)


def _losses() -> dict[str, DistillationSpec | None]:
    """Every method, HORKD with each kind of centres and reduction; None stands for the triplet loss."""
    made: dict[str, DistillationSpec | None] = {}
    for method in registry.names("loss"):
        made[method] = DistillationSpec(method=method)
    for centers in ("batch", "running", "epoch"):
        for reduction in ("mean", "sum_over_anchors_mean", "reference"):
            spec = HorkdSpec(orders="1+2+3+C", centers=centers, reduction=reduction, center_warmup=0.0)
            made[f"horkd, {centers}, {reduction}"] = DistillationSpec(method="horkd", horkd=spec)
    made["triplet"] = None
    return made


def _loss(spec: DistillationSpec | None, device: torch.device) -> tuple[Tensor, Tensor]:
    """Terms of the second step [n], and the gradient of its total to what the student says."""

    def draw(*shape: int, purpose: str) -> Tensor:
        return torch.randn(*shape, generator=generator(1, 2, purpose)).to(device)

    batch, labels = 16, (torch.arange(24) % 4).to(device)
    student = Outputs(
        draw(batch, 6, purpose="student"),
        draw(batch, 4, purpose="student logits"),
        (draw(batch, 3, 8, 8, purpose="student map"), draw(batch, 4, 4, 4, purpose="student map 2")),
    )
    teacher = Outputs(
        draw(batch, 10, purpose="teacher"),
        draw(batch, 4, purpose="teacher logits"),
        (draw(batch, 5, 16, 16, purpose="teacher map"), draw(batch, 7, 8, 8, purpose="teacher map 2")),
    )
    leaves = [student.embedding.requires_grad_(), student.logits.requires_grad_()]
    leaves += [map_.requires_grad_() for map_ in student.maps]
    if spec is None:
        total = triplet_loss(student.embedding, labels[:batch])
        terms = {"triplet": total}
    else:
        loss = _distiller(spec, labels.cpu()).to(device).train()
        if loss.uses_teacher_centers:
            loss.set_teacher_centers(draw(4, 10, purpose="centres"), torch.ones(4, dtype=torch.int64, device=device))
        if loss.uses_epoch_centers:
            loss.set_student_centers(draw(4, 6, purpose="own"), torch.ones(4, dtype=torch.int64, device=device))
        loss.begin_epoch(generator(1, 2, "epoch"))
        for _ in range(2):
            where = torch.arange(batch, device=device)
            total, terms = loss(student, teacher, labels[:batch], where, progress=0.5)
    gradients = torch.autograd.grad(total, leaves, allow_unused=True)
    reached = torch.cat(
        [g.flatten() if g is not None else x.flatten()[:0] for g, x in zip(gradients, leaves, strict=True)]
    )
    return torch.stack([term.detach().double() for term in terms.values()]), reached


def _distiller(spec: DistillationSpec, item_labels: Tensor) -> Distiller:
    @contextlib.contextmanager
    def seeded(purpose: str) -> Iterator[None]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(generator(1, 2, purpose).initial_seed())
            yield

    return Distiller(
        spec,
        student_width=6,
        teacher_width=10,
        student_maps=(3, 4),
        teacher_maps=(5, 7),
        classes=4,
        item_labels=item_labels,
        seed_module=seeded,
    )


def _network(name: str, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Embedding and logits of a batch in training mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        network: nn.Module = build(name, channels=3, classes=7, width=0.25)
    images = torch.rand(8, 3, 16, 16, generator=generator(1, 2, "images"), dtype=torch.float64)
    network = network.to(device, dtype).to(memory_format=torch.channels_last).train()
    with torch.no_grad():
        outputs = network(images.to(device, dtype))
    return torch.cat([outputs.embedding.flatten(), outputs.logits.flatten()])


def _pixels() -> dict[str, Callable[[torch.device], Tensor]]:
    images = torch.randint(256, (6, 3, 16, 16), generator=generator(1, 2, "bytes"), dtype=torch.uint8)

    def degraded(device: torch.device, **choices: Any) -> Tensor:
        return degrade(images.to(device) / 255, 6, **choices)

    def augmented(device: torch.device) -> Tensor:
        return augment(images.to(device), "crop_flip", pad=3, generator=generator(4, 5, "draws"))[0]

    made: dict[str, Callable[[torch.device], Tensor]] = {
        f"degrade, {name}": lambda device, name=name: degraded(device, filter=name)  # type: ignore[misc]
        for name in FILTERS
    }
    made["degrade, blur"] = lambda device: degraded(device, blur=1.2)
    made["enlarge"] = lambda device: enlarge(images.to(device) / 255, 24)
    made["augment"] = augmented
    return made


def small(sizes: Sizes, device: torch.device, *, batch: int = 32, steps: int = 4, **choices: Any) -> Trainer:
    """A short training of a narrow student under a live teacher of the same width."""
    narrow = copy.copy(sizes)
    object.__setattr__(narrow, "width", min(sizes.width, 0.25))
    data = splits(narrow, batch * steps, device)
    spec = student_spec(narrow, batch, **choices)
    begin(spec, device)
    return trainer(spec, data, frozen(teacher_of(narrow), data))


def repeatable(sizes: Sizes, device: torch.device) -> list[Answer]:
    """Two trainings of two epochs, the losses of every family together, bit by bit."""
    answers = []
    for precision in ("float32", "bfloat16"):
        runs = []
        for _ in range(2):
            made = small(sizes, device, precision=precision, method="kd+horkd+rkd+at+crd", triplet=_triplet())
            made.train_epoch()
            made.train_epoch()
            runs.append(parameters_of(made.network))
        differ = int((runs[0] != runs[1]).sum())
        figure = f"{differ} of {len(runs[0])} weights differ"
        answers.append(Answer("bit-equal", f"two trainings, {precision}", figure, differ == 0))
    return answers


def _triplet() -> Any:
    return StudentSpec().triplet.__class__(weight=0.5)


def no_waiting(sizes: Sizes, device: torch.device) -> list[Answer]:
    """Waits of a step: those of an epoch of eight steps less those of one of four, over four."""
    answers = []
    cases: dict[str, dict[str, Any]] = {
        "labels, KL, HORKD": {},
        "bfloat16": {"precision": "bfloat16"},
        "every loss": {"method": "+".join(registry.names("loss")), "triplet": _triplet()},
        "clipping, average, blur": {"clip_norm": 1.0, "ema": 0.9, "blur": 1.0},
    }
    if device.type == "cuda":
        # On a CPU the first does not exist, and the second reads counters that lie on the CPU on a GPU's machine as well.
        cases |= {"float16": {"precision": "float16"}, "AdamW": {"optimizer": "adamw"}}
    for name, choices in cases.items():
        found = {}
        for steps in (4, 8):
            made = small(sizes, device, steps=steps, **choices)
            made.train_epoch()  # What is set up once is not counted.
            wait_for(device)
            with waits(device) as seen:
                made.train_epoch()
            found[steps] = list(seen)
        per_step = (len(found[8]) - len(found[4])) / 4
        places = sorted({place for place in found[8] if found[8].count(place) > found[4].count(place)})
        figure = f"{per_step:g} a step" + (f", at {', '.join(places[:4])}" if per_step else "")
        answers.append(Answer("waits inside an epoch", name, figure, per_step == 0))
    return answers


def precisions(sizes: Sizes, device: torch.device) -> list[Answer]:
    """Validation accuracy of short trainings in halves, beside float32 under the same seeds."""
    kinds = ["float32", "bfloat16", *(["float16"] if device.type == "cuda" else [])]
    scores: dict[str, list[float]] = {kind: [] for kind in kinds}
    finite = dict.fromkeys(kinds, True)
    narrow = copy.copy(sizes)
    object.__setattr__(narrow, "width", min(sizes.width, 0.5))
    data = splits(narrow, sizes.accuracy_images, device, validation=max(100, sizes.accuracy_images // 4))
    for seed in range(sizes.seeds):
        for kind in kinds:
            epochs = sizes.accuracy_epochs
            spec = student_spec(narrow, min(64, sizes.accuracy_images // 4), kind, epochs=epochs, seed=seed)
            begin(spec, device)
            made = trainer(spec, data, frozen(teacher_of(narrow), data))
            for _ in range(epochs):
                made.train_epoch()  # Refuses what is not finite.
            finite[kind] &= bool(torch.isfinite(parameters_of(made.network)).all())
            scores[kind].append(made.history[-1]["validation/top1"])
    answers = []
    for kind in kinds:
        means = 100 * statistics.fmean(scores[kind])
        if kind == "float32":
            answers.append(Answer("as accurate", kind, f"{means:.2f} % (n={sizes.seeds} seeds)", finite[kind]))
            continue
        gains = [100 * (a - b) for a, b in zip(scores[kind], scores["float32"], strict=True)]
        allowed = 1.0 + 2 * (statistics.stdev(gains) if len(gains) > 1 else 0.0)
        figure = f"{means:.2f} %, {statistics.fmean(gains):+.2f} points to float32, at least -{allowed:.2f}; finite"
        answers.append(Answer("as accurate", kind, figure, finite[kind] and statistics.fmean(gains) >= -allowed))
    return answers
