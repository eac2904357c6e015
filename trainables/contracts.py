"""What every loss, network and data set must do, as functions: our own tests and `python -m sweeps check` run the same.

A contract is a sentence and a function that raises `Broken` when the sentence does not hold. Stages and studies have
theirs in `sweeps.commands.contracts`, because they need a plan.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from trainables.errors import SweepsError
from trainables.losses.terms import Batch, Known, Term
from trainables.models.macs import count_macs
from trainables.models.network import Outputs, fold
from trainables.models.registry import build
from trainables.spec import ARCHITECTURES, registry

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]  # Of student [B, D], teacher [B, D] and labels [B].


class Broken(SweepsError):
    """A contract does not hold; the message says where."""


def broken(why: str) -> NoReturn:
    """Say that it does not hold."""
    raise Broken(why)


# Losses.


def draw(batch: int = 7, width: int = 6, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Student and teacher [B, D], and labels of three classes; always the same."""
    generator = torch.Generator().manual_seed(1)
    student, teacher = torch.randn(2, batch, width, generator=generator, dtype=torch.float64).to(dtype)
    return student.requires_grad_(), teacher, torch.arange(batch) % 3


# Batches that training meets sooner or later, made of an ordinary one.
DEGENERATE: dict[str, Callable[[Tensor], Tensor]] = {
    "one_row": lambda s: s[:1],
    "two_rows": lambda s: s[:2],
    "three_rows": lambda s: s[:3],
    "duplicates": lambda s: s[[0, 0, 1, 1, 1, 2, 3]],
    "near_duplicates": lambda s: torch.cat([s, s + 1e-7]),
    "all_equal": lambda s: s[:1].expand(5, -1),
    "all_equal_far_away": lambda s: 1000 + s[:1].expand(5, -1),
    "zeros": lambda s: 0 * s,
    "half_zeros": lambda s: torch.cat([s[:3], 0 * s[3:]]),
    "tiny": lambda s: 1e-15 * s,
}


def close(got: Tensor, expected: Tensor, what: str) -> None:
    """Equal within the usual tolerance of their type."""
    if not torch.allclose(got, expected.to(got.dtype), rtol=_RTOL[got.dtype], atol=_ATOL[got.dtype], equal_nan=False):
        broken(f"{what}: {_shown(got)} and {_shown(expected)}")


_RTOL = {torch.float32: 1.3e-6, torch.float64: 1e-7}  # As torch.testing has them.
_ATOL = {torch.float32: 1e-5, torch.float64: 1e-7}


def _shown(x: Tensor) -> str:
    return f"{x.item():.6g}" if x.ndim == 0 else f"a tensor of shape {tuple(x.shape)}"


def agreement_is_zero(loss: Loss) -> None:
    """0 where student and teacher are the same."""
    _, teacher, labels = draw()
    value = loss(teacher, teacher, labels).item()
    if not abs(value) <= 1e-14:
        broken(f"student and teacher agree, and it is {value:.6g}")


def order_does_not_matter(loss: Loss) -> None:
    """The rows of a batch may come in any order."""
    student, teacher, labels = draw()
    order = torch.tensor([3, 0, 6, 2, 5, 1, 4])
    there, back = (loss(student[o], teacher[o], labels[o]) for o in (order, torch.arange(7)))
    close(there, back, "the same rows in another order give another value")


def gradient_is_slope(loss: Loss) -> None:
    """Its gradient is that of its value, by finite differences in float64."""
    student, teacher, labels = draw(batch=5, width=3)
    try:
        torch.autograd.gradcheck(lambda s: loss(s, teacher, labels), student)
    except RuntimeError as error:  # What gradcheck raises, and what backward raises without a graph.
        broken(f"{str(error).strip().splitlines()[0]}")


def student_alone_learns(loss: Loss) -> None:
    """Gradients reach the student, and never the teacher."""
    student, teacher, labels = draw()
    teacher.requires_grad_()
    loss(student, teacher, labels).backward()
    if teacher.grad is not None:
        broken("a gradient reaches the teacher")
    if student.grad is None:
        broken("no gradient reaches the student")


def stays_finite(loss: Loss) -> None:
    """Value and gradient are finite on degenerate batches, in float32 and float64."""
    for dtype in (torch.float32, torch.float64):
        for name, change in DEGENERATE.items():
            student, teacher, _ = draw(dtype=dtype)
            made = change(student)
            teacher = teacher.repeat(2, 1)[: len(made)]
            for labels in (torch.arange(len(made)) % 3, torch.zeros(len(made), dtype=torch.int64)):
                student.grad = None
                value = loss(made, teacher, labels)
                value.backward(retain_graph=True)
                where = f"on the batch '{name}' in {str(dtype).removeprefix('torch.')}"
                if not torch.isfinite(value):
                    broken(f"{where} it is {value.item()}")
                if student.grad is None or not torch.isfinite(student.grad).all():
                    broken(f"{where} its gradient is not finite")


def huge_is_finite(loss: Loss) -> None:
    """Embeddings of the size 1e15 do not make it infinite."""
    student, teacher, labels = draw(dtype=torch.float32)
    value = loss(1e15 * student, teacher, labels)
    value.backward()
    if not torch.isfinite(value):
        broken(f"embeddings of the size 1e15 make it {value.item()}")
    if student.grad is None or not torch.isfinite(student.grad).all():
        broken("embeddings of the size 1e15 make its gradient infinite")


def autocast_changes_nothing(loss: Loss) -> None:
    """Under autocast it works in float32 and gives what it gives without."""
    for dtype in (torch.bfloat16, torch.float16):
        student, teacher, labels = draw(dtype=torch.float32)
        student, teacher = student.detach().to(dtype).requires_grad_(), teacher.to(dtype)
        expected = loss(student.float(), teacher.float(), labels)
        with torch.autocast("cpu", dtype=dtype):
            value = loss(student, teacher, labels)
        value.backward()
        if value.dtype != torch.float32:
            broken(f"under autocast it is of type {value.dtype}")
        close(value, expected, "under autocast it is another number")
        if student.grad is None or not torch.isfinite(student.grad).all():
            broken("under autocast its gradient is not finite")


def widths_may_differ(loss: Loss) -> None:
    """Where the student's embedding is wider or narrower than the teacher's it works, too."""
    for ours, theirs in ((6, 4), (4, 6)):
        student, teacher = draw(width=ours)[0], draw(width=theirs)[1]
        try:
            value = loss(student, teacher, torch.arange(7) % 3)
            value.backward()
        except RuntimeError as error:
            broken(
                f"a student's embedding of {ours} beside a teacher's of {theirs} ends in: "
                f"{str(error).strip().splitlines()[0]}. Compare what does not rest on the width, take one to the other by a "
                "layer (an nn.Module with student_width and teacher_width), or say same_width=True"
            )
        if not torch.isfinite(value):
            broken(f"a student's embedding of {ours} beside a teacher's of {theirs} makes it {value.item()}")


OF_LOSSES: dict[str, Callable[[Loss], None]] = {
    "the order of the batch does not matter": order_does_not_matter,
    "its gradient is the slope of its value": gradient_is_slope,
    "gradients reach the student and not the teacher": student_alone_learns,
    "value and gradient stay finite on degenerate batches": stays_finite,
    "huge embeddings give finite values": huge_is_finite,
    "autocast changes nothing": autocast_changes_nothing,
}
OF_LOSSES_OF_ANY_WIDTHS = {"embeddings of student and teacher may differ in width": widths_may_differ}
OF_ZERO_LOSSES = {"it is zero when student and teacher agree": agreement_is_zero}


def as_maps(x: Tensor) -> Tensor:
    """Feature maps [B, 2, 1, D] of the very numbers of `x` [B, D], shifted in the second channel."""
    return torch.stack([x, x.roll(1, 1)], 1)[:, :, None, :]


def loss_of(offer: registry.Entry) -> Loss:
    """A declared loss as training calls it: the sum of its terms, unweighted, with its options at their defaults.

    Logits and maps are made of the same numbers as the embedding.
    """

    def loss(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            widths = {"student_width": student.shape[1], "teacher_width": teacher.shape[1]}
            classes = min(widths.values())  # Logits and maps are of one shape whatever the embeddings are.
            # The images of the training set follow their rows, whatever the order of these; some are not in the batch.
            places = teacher.detach()[:, 0].argsort().argsort()
            items = torch.arange(len(labels) + 5) % 3
            items[places] = labels
            known = Known(**widths, student_maps=(2, 2), teacher_maps=(2, 2), classes=classes, item_labels=items)
            term: Term = offer.load()(offer, offer.options(), known)
            for module in term.modules.values():
                module.to(torch.promote_types(student.dtype, torch.float32))
            sums = [_of_classes(x.detach().double(), labels, classes) for x in (teacher, student)]
            if term.uses_teacher_centers:
                term.set_teacher_centers(*sums[0])
            if term.uses_epoch_centers:
                term.set_student_centers(*sums[1])
            term.begin_epoch(torch.Generator().manual_seed(0))
            ours, theirs = (
                Outputs(x, x[:, :classes], (as_maps(x[:, :classes]), as_maps(x[:, :classes].flip(1))))
                for x in (student, teacher)
            )
            batch = Batch(ours, theirs, labels, places)
            # One that its weight switches off by default is asked all the same.
            values = term.values(batch) or {name: term.value(name, batch) for name in offer.facts["terms"]}
            return torch.stack(list(values.values())).sum()

    return loss


def _of_classes(x: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Sum [C, D] and number [C] of the rows of each class."""
    member = nn.functional.one_hot(labels, classes).to(x.dtype)
    return member.T @ x, member.sum(0)


# Networks.


def _network(name: str, *, seed: int = 0, **choices: Any) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(name, **{"channels": 3, "classes": 7, "width": THIN if name in ARCHITECTURES else 1.0, **choices})


THIN = 0.05  # Of our own networks: thin ones behave as the others and take no time.


def _sides(name: str) -> tuple[int, ...]:
    entry = registry.find("network", name)
    least = int(entry.facts["least"]) if entry is not None else 4
    return (least, least + 1, 2 * least, 4 * least + 1)


def outputs_have_their_shapes(name: str) -> None:
    """Embedding, logits and maps are what it says, for images of several sizes, square or not, grey or in colour."""
    for channels in (1, 3):
        network = _network(name, channels=channels).eval()
        for side in _sides(name):
            images = torch.randn(2, channels, side, side + 1)
            where = f"for images of {channels}x{side}x{side + 1}"
            with torch.no_grad():
                plain, rich = network(images), network(images, maps=True)
            for outputs in (plain, rich):
                if not hasattr(outputs, "embedding") or not hasattr(outputs, "logits") or not hasattr(outputs, "maps"):
                    broken(f"forward must give `Outputs`, but gave {type(outputs).__name__}")
            if plain.embedding.shape != (2, network.embedding_width):
                broken(f"{where} the embedding is {tuple(plain.embedding.shape)}, not (2, {network.embedding_width})")
            if plain.logits.shape != (2, 7):
                broken(f"{where} the logits are {tuple(plain.logits.shape)}, not (2, 7)")
            if plain.maps:
                broken("maps are given although nobody asked")
            widths = tuple(one.shape[1] for one in rich.maps)
            if widths != tuple(network.map_widths) or any(one.ndim != 4 for one in rich.maps):
                broken(f"{where} the maps have {widths} channels, not {tuple(network.map_widths)} as map_widths says")
            if not torch.equal(plain.logits, rich.logits) or not torch.equal(plain.embedding, rich.embedding):
                broken(f"{where} asking for maps changes the other outputs")
            if not all(torch.isfinite(x).all() for x in (rich.embedding, rich.logits, *rich.maps)):
                broken(f"{where} outputs are not finite")


def seed_decides_the_weights(name: str) -> None:
    """Equal seeds give equal weights, others others."""
    vectors = [nn.utils.parameters_to_vector(_network(name, seed=seed).parameters()) for seed in (0, 0, 1)]
    if not torch.equal(vectors[0], vectors[1]):
        broken("two networks of one seed have different weights")
    if torch.equal(vectors[0], vectors[2]):
        broken("networks of different seeds have the same weights")


def images_do_not_mix(name: str) -> None:
    """In evaluation mode what is said of an image does not depend on the others of its batch."""
    network = _network(name).eval()
    side = 2 * _sides(name)[0]
    images = torch.randn(3, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        together, alone = network(images).embedding[:1], network(images[:1]).embedding
    if not torch.allclose(together, alone, rtol=1e-4, atol=1e-5):
        broken("an image has another embedding when others are beside it")


def everything_learns(name: str) -> None:
    """Every weight gets a gradient from logits and embedding."""
    network = _network(name).train()
    side = 2 * _sides(name)[0]
    outputs = network(torch.randn(4, 3, side, side, generator=torch.Generator().manual_seed(0)))
    (outputs.logits.sum() + outputs.embedding.sum()).backward()
    without = [path for path, weight in network.named_parameters() if weight.requires_grad and weight.grad is None]
    if without:
        broken(f"no gradient reaches {', '.join(without[:3])}")


def weights_survive_a_file(name: str) -> None:
    """Saved and loaded again it gives the same outputs."""
    from safetensors.torch import load_file, save_file

    network, other = _network(name), _network(name, seed=1)
    side = 2 * _sides(name)[0]
    images = torch.randn(2, 3, side, side)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.safetensors"
        try:
            save_file({key: value.contiguous() for key, value in network.state_dict().items()}, path)
        except RuntimeError as error:
            broken(f"its weights cannot be saved: {str(error).strip().splitlines()[0]}")
        other.load_state_dict(load_file(path))
    with torch.no_grad():
        if not torch.equal(network.eval()(images).logits, other.eval()(images).logits):
            broken("what was saved and loaded gives other logits")


def survives_folding(name: str) -> None:
    """With its batch normalisations folded into its convolutions, as a guide's are, it says the same."""
    network = _network(name).train()
    side = 2 * _sides(name)[0]
    images = torch.randn(8, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        network(images)  # Moves the running statistics from where they begin.
        plain = network.eval()(images)
        fold(network)
        folded = network(images)
    for part in ("embedding", "logits"):
        ours, theirs = getattr(folded, part), getattr(plain, part)
        if not torch.allclose(ours, theirs, rtol=1e-3, atol=1e-3 * float(theirs.abs().max())):
            broken(f"with folded normalisations its {part} differ by up to {float((ours - theirs).abs().max()):.3g}")


def costs_are_counted(name: str) -> None:
    """It has multiply-adds to count."""
    if count_macs(_network(name), channels=3, side=2 * _sides(name)[0]) <= 0:
        broken("no convolution and no linear layer is in it")


def guides_its_like(name: str) -> None:
    """Trained for an epoch, it can be the guide of another one that begins with its weights."""
    import numpy as np

    from trainables import spec as specs
    from trainables.attempts.attempt import attempt
    from trainables.data.packed import Items, write_packed
    from trainables.stages.base import Context
    from trainables.store.artifacts import Store

    side, labels = 2 * _sides(name)[0], np.arange(16, dtype=np.int32) % 2
    images = np.random.RandomState(0).randint(0, 256, (16, 3, side, side)).astype(np.uint8)
    split, names = np.repeat([0, 1], [12, 4]).astype(np.uint8), [str(number) for number in range(16)]
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "store")
        store.prepare()
        items = Items(images=images, labels=labels, split=split, names=names, classes=("a", "b"))
        packed = store.root / "data"
        packed.mkdir()
        data = write_packed(packed, "drawn", items).fingerprint
        fields: dict[str, Any] = {"data": data, "architecture": name, "epochs": 1, "batch_size": 6}
        fields["width"] = THIN if name in ARCHITECTURES else 1.0
        method = "horkd+kd+at" if _network(name).map_widths else "horkd+kd"
        teacher = specs.TeacherSpec(**fields)
        student = specs.StudentSpec(**fields, method=method, init_from_assistant=True)
        parents: dict[str, str] = {}
        for spec in (teacher, student):
            key = specs.stage_key(spec, parents)
            context = Context(store=store, key=key, core_locks=False)
            *_, said = attempt(spec.kind, specs.to_plain(spec), parents, context)
            if said["outcome"] != "done":
                what = "trained on labels" if spec is teacher else "guided by its like"
                broken(f"as a {spec.kind}, {what}, it ends as {said['outcome']}: {said.get('message', '')}")
            parents = {"guide": key}


OF_NETWORKS: dict[str, Callable[[str], None]] = {
    "outputs have the shapes it says, for odd sizes, grey and colour": outputs_have_their_shapes,
    "the seed decides the weights": seed_decides_the_weights,
    "in evaluation images do not mix": images_do_not_mix,
    "every weight gets a gradient": everything_learns,
    "weights survive a file": weights_survive_a_file,
    "folded normalisations change nothing": survives_folding,
    "its cost can be counted": costs_are_counted,
    "it can guide a network like itself": guides_its_like,
}


# Data sets.


def packs_the_same_twice(name: str, data_root: Path | None = None) -> None:
    """Two packings give one fingerprint."""
    prints = []
    for _ in range(2):
        with tempfile.TemporaryDirectory() as folder:
            prints.append(_pack(name, data_root, Path(folder)).info.fingerprint)
    if prints[0] != prints[1]:
        broken(
            f"two packings have the fingerprints {prints[0]} and {prints[1]}: something in it is drawn without a seed"
        )


def is_well(name: str, data_root: Path | None = None) -> None:
    """Labels are in range, every class is trained on, and no tested image is also in training."""
    from trainables.data import catalog

    with tempfile.TemporaryDirectory() as folder:
        packed = _pack(name, data_root, Path(folder))
        labels, classes = packed.labels, len(packed.info.classes)
        if int(labels.min()) < 0 or int(labels.max()) >= classes:
            broken(f"labels go from {labels.min()} to {labels.max()}, but there are {classes} classes")
        for check in catalog.check(packed):
            if not check.ok:
                broken(check.message)


def is_as_declared(name: str, data_root: Path | None = None) -> None:
    """What is said of it before it is read is so."""
    from trainables.data.datasets import DATASETS

    said = DATASETS[name]
    with tempfile.TemporaryDirectory() as folder:
        info = _pack(name, data_root, Path(folder)).info
    found = {
        "images": info.train_images + info.test_images,
        "classes": len(info.classes),
        "train": info.train_images,
        "test": info.test_images,
        **({"side": min(info.height, info.width)} if said.fixed else {}),
    }
    wrong = [
        f"{fact} is {value}, not {getattr(said, fact)}"
        for fact, value in found.items()
        if getattr(said, fact) not in (None, value)
    ]
    if wrong:
        broken("; ".join(wrong))


def can_be_cut(name: str, data_root: Path | None = None) -> None:
    """For each task it offers, training, validation and test are there and disjoint."""
    import numpy as np

    from trainables.data import catalog
    from trainables.data.protocols import cut

    with tempfile.TemporaryDirectory() as folder:
        packed = _pack(name, data_root, Path(folder))
        offered = catalog.protocols_of(packed.info)
        if not offered:
            broken("it offers no task: without test images only tasks that keep classes apart can be offered")
        for task in offered:
            made = cut(packed, task=task, validation_fraction=0.1, split_seed=0, train_images=0)
            parts = {"training": made.train, "validation": made.validation, "test": made.test}
            for one, other in (("training", "validation"), ("training", "test"), ("validation", "test")):
                shared = np.intersect1d(parts[one], parts[other])
                if len(shared):
                    broken(f"for {task}, {len(shared)} items are in {one} and in {other}")
            empty = [part for part in ("training", "test") if len(parts[part]) == 0]
            if empty:
                broken(f"for {task}, {empty[0]} is empty")


def _pack(name: str, data_root: Path | None, folder: Path) -> Any:
    from trainables.data import catalog
    from trainables.data.packed import open_packed

    return open_packed(catalog.pack(catalog.locate(name, data_root=data_root), folder).path)


OF_DATASETS: dict[str, Callable[..., None]] = {
    "two packings are the same": packs_the_same_twice,
    "labels, classes and splits are well": is_well,
    "its tasks have training and test apart": can_be_cut,
    "it is as it declares": is_as_declared,
}
