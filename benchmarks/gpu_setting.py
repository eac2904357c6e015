"""What the GPU check trains: made-up images, networks, the product's trainer on a device, and the usual loop beside it.

Everything is drawn on the spot, and nothing is imported that a machine with torch, numpy, safetensors and pyarrow lacks.
"""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks import direct
from trainables.data.augment import draw_views, take_views, view, view_count
from trainables.data.batches import epoch_batches
from trainables.losses.horkd_loss import HorkdLoss
from trainables.models import Network, build
from trainables.models.network import fold
from trainables.spec import HorkdSpec, StudentSpec, TeacherSpec
from trainables.store.artifacts import Artifact
from trainables.store.files import sha256_of
from trainables.training.assembly import trainer_of
from trainables.training.cached_outputs import BASE_FILE, PARTS, CachedOutputs, Shard, blocks
from trainables.training.frozen import FrozenNetwork, FrozenTeacher, class_sums
from trainables.training.inputs import ImageSource, InputTransform, Splits
from trainables.training.loop import Trainer
from trainables.training.numerics import autocast, prepare
from trainables.training.objective import DistillationObjective

HIGH = 32  # Pixels of the images and of what the teacher reads.
AUGMENT, PAD = "flip", 4  # Two views, so that a whole cache is filled in seconds.
MEAN, STD = torch.tensor([0.5, 0.5, 0.5]), torch.tensor([0.25, 0.25, 0.25])


@dataclass(frozen=True)
class Sizes:
    """How large the check is: `FULL` for a GPU, `TINY` to try its logic on a CPU."""

    teacher: str = "resnet50"
    student: str = "resnet18"
    width: float = 1.0
    side: int = 16  # Pixels of the student's images.
    classes: int = 100
    batches: tuple[int, ...] = (64, 512)
    steps: int = 20  # Of one timed epoch.
    rounds: int = 5
    angles: tuple[int, ...] = (256, 512)
    widths: tuple[int, int] = (512, 2048)  # Of the embeddings whose angles are compared.
    together: tuple[int, ...] = (2, 4)
    together_epochs: int = 8
    accuracy_images: int = 4096
    accuracy_epochs: int = 6
    seeds: int = 3
    matrix: int = 8192  # Side of the matrices whose product shows what the device can do.


FULL = Sizes()
TINY = Sizes(
    teacher="resnet_thin",
    student="resnet_thin",
    width=0.25,
    side=8,
    classes=5,
    batches=(8,),
    steps=2,
    rounds=2,
    angles=(12,),
    widths=(6, 10),
    together=(2,),
    together_epochs=2,
    accuracy_images=200,
    accuracy_epochs=2,
    seeds=2,
    matrix=64,
)


def images(count: int, classes: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Images uint8 [count, 3, 32, 32] that can be told apart by class, half noise, and their classes int64 [count].

    A class is a coarse pattern; each image shows it shifted by up to three pixels under noise.
    """
    draws = torch.Generator().manual_seed(seed)
    patterns = torch.rand(classes, 3, 6, 6, generator=torch.Generator().manual_seed(7))
    patterns = F.interpolate(patterns, size=(HIGH + 6, HIGH + 6), mode="bilinear", align_corners=False)
    labels = torch.randint(classes, (count,), generator=draws)
    places = torch.randint(7, (count, 2), generator=draws)
    windows = patterns.unfold(2, HIGH, 1).unfold(3, HIGH, 1)
    shown = windows[labels, :, places[:, 0], places[:, 1]]
    noisy = 0.5 * shown + 0.5 * torch.rand(shown.shape, generator=draws)
    return (noisy * 255).to(torch.uint8), labels


def student_spec(sizes: Sizes, batch: int, precision: str = "float32", **more: Any) -> StudentSpec:
    """A student that learns by labels, KL, pairs, angles and centres."""
    choices: dict[str, Any] = {
        "architecture": sizes.student,
        "width": sizes.width,
        "resolution": sizes.side,
        "batch_size": batch,
        "augment": AUGMENT,
        "pad": PAD,
        "precision": precision,
        "epochs": 100_000,  # So long that the learning rate hardly moves.
        "method": "kd+horkd",
        "horkd": HorkdSpec(orders="2+3+C", center_warmup=0.0),
    }
    return StudentSpec(**(choices | more))


def splits(sizes: Sizes, count: int, device: torch.device, validation: int = 0) -> Splits:
    """Made-up images as a training sees them, on the device."""
    packed: Any = SimpleNamespace(info=SimpleNamespace(channels=3, height=HIGH, width=HIGH))
    cut: Any = SimpleNamespace(classes=tuple(range(sizes.classes)))
    shown, labels = (part.to(device) for part in images(count, sizes.classes))
    others, others_labels = (part.to(device) for part in images(validation, sizes.classes, seed=1))
    return Splits(packed, cut, shown, labels, others, others_labels, MEAN.to(device), STD.to(device))


def frozen(network: Network, data: Splits) -> FrozenNetwork:
    """A frozen teacher with a network at hand instead of an artifact."""
    spec = TeacherSpec(resolution=HIGH)
    transform = InputTransform(spec, data.packed.info, data.mean, data.std)
    teacher = FrozenNetwork.of(network.to(data.train_labels.device), spec, transform, data.cut.classes)
    fold(teacher.network)  # As `train` does.
    return teacher


def begin(spec: StudentSpec | TeacherSpec, device: torch.device) -> None:
    """Threads, determinism and number formats as a stage of this spec has them."""
    context: Any = SimpleNamespace(device=device.type, gpu_share=1.0, numerics="")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        prepare(spec, context)


def teacher_of(sizes: Sizes) -> Network:
    """A teacher as drawn: no step's time depends on its weights."""
    torch.manual_seed(0)
    network = build(sizes.teacher, channels=3, classes=sizes.classes, width=sizes.width)
    assert isinstance(network, Network)
    return network


def trainer(spec: StudentSpec, data: Splits, teacher: FrozenTeacher | None) -> Trainer:
    """The product's trainer, ready for its first epoch."""
    made = trainer_of(spec, data, data.train_labels.device, teacher)
    made.begin()
    return made


def fill(teacher: FrozenNetwork, data: Splits, folder: Path, precision: str = "float32") -> tuple[CachedOutputs, int]:
    """Every view of every image through a frozen network into a cache, as the stage that fills one does.

    Returns:
        What reads it, and how many outputs were computed.
    """
    count, device = len(data.train_labels), data.train_labels.device
    spec = student_spec(TINY, 1, precision)
    embeddings = ((teacher(shown).embedding, labels) for shown, labels in data.train_blocks())
    total, number = class_sums(embeddings, len(teacher.classes), teacher.width, device)
    first = teacher(data.train_images[:256])
    base = {part: getattr(first, part).float().mean(0).cpu() for part in PARTS}
    save_file(base | {"class_sums": total.cpu(), "class_counts": number.cpu()}, folder / BASE_FILE)
    views = view_count(AUGMENT, PAD)
    own = folder / "000"
    shard = Shard(own, "0", count, views, base)
    for block in blocks(count):
        shown = data.train_images[block]
        for column in range(views):
            with autocast(spec, device):
                outputs = teacher(view(shown, AUGMENT, PAD, column))
            shard.put(torch.arange(block.start, block.stop), column, outputs)
    shard.move(own)
    files = {f"{part}.npy": {"sha256": sha256_of(own / f"{part}.npy")} for part in PARTS}
    shards = [_artifact(own, files, {"part": "views", "start": 0, "stop": views})]
    files = {BASE_FILE: {"sha256": sha256_of(folder / BASE_FILE)}}
    return CachedOutputs(_artifact(folder, files, {"part": "base"}), shards, device), count * views


def _artifact(folder: Path, files: dict[str, Any], spec: dict[str, Any]) -> Artifact:
    return Artifact(folder.name, folder, {"kind": "outputs", "files": files, "spec": spec})


class PlainLoop:
    """An epoch as public distillation code writes it, less Pillow: live teacher, direct losses, `.item()` in each step."""

    def __init__(self, of: Trainer, teacher: Network) -> None:
        distilled, source = of.objective.of(DistillationObjective), of.source
        assert distilled is not None and isinstance(source, ImageSource)
        self.of, self.source, device = of, source, of.device
        self.teacher = direct.usual_convolutions(copy.deepcopy(teacher)).to(device).eval()
        student = copy.deepcopy(of.network).to(memory_format=torch.contiguous_format)
        self.student = direct.usual_convolutions(student)
        horkd = distilled.distiller.get_submodule("horkd")
        assert isinstance(horkd, HorkdLoss)
        self.losses = direct.Losses(distilled.weights(1.0), horkd.student_centers, horkd.teacher_centers).to(device)
        spec = of.spec
        self.optimizer = torch.optim.SGD(
            self.student.parameters(), lr=spec.learning_rate, momentum=spec.momentum, weight_decay=spec.weight_decay
        )
        self.draws = torch.Generator().manual_seed(0)
        data = source.splits
        self.high = InputTransform(TeacherSpec(resolution=HIGH), data.packed.info, data.mean, data.std)

    def train_epoch(self) -> list[float]:
        """One pass; the losses that were read back, one a step."""
        spec, data, read = self.of.spec, self.source.splits, []
        self.student.train()
        for rows in epoch_batches(len(data.train_labels), self.of.batch_size, seed=0, epoch=1, drop_last=True):
            views = draw_views(len(rows), AUGMENT, pad=PAD, generator=self.draws)
            where = rows.to(self.of.device)
            shown = take_views(data.train_images[where], AUGMENT, PAD, views.to(self.of.device))
            labels = data.train_labels[where]
            with autocast(spec, self.of.device):
                with torch.no_grad():
                    theirs = self.teacher(self.high(shown).contiguous())
                ours = self.student(self.source.transform(shown).contiguous())
            logits, embedding = ours.logits.float(), ours.embedding.float()
            distilled, _ = self.losses(embedding, logits, theirs.embedding.float(), theirs.logits.float(), labels)
            loss = F.cross_entropy(logits, labels) + distilled
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            read.append(loss.item())
            (logits.argmax(1) == labels).float().mean().item()
        return read


class Waits(TorchDispatchMode):
    """Counts the operations of a CPU run for which a GPU would be waited for: what reads values, or sizes from values."""

    READS = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "_unique2", "unique_dim")

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        masked = name in ("index", "index_put", "index_put_", "_index_put_impl_") and any(
            isinstance(at, Tensor) and at.dtype in (torch.bool, torch.uint8) for at in args[1] if at is not None
        )
        if name in self.READS or masked:
            self.found.append(name)
        return func(*args, **(kwargs or {}))


@contextlib.contextmanager
def waits(device: torch.device) -> Iterator[list[str]]:
    """The list of waits for the device while this is open: torch's own count on a GPU, `Waits` on a CPU."""
    if device.type != "cuda":
        with Waits() as mode:
            yield mode.found
        return
    found: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield found
        finally:
            torch.cuda.set_sync_debug_mode("default")
            found += [f"{w.filename}:{w.lineno}" for w in caught if "synchroniz" in str(w.message)]


def wait_for(device: torch.device) -> None:
    """Until everything that was asked of the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_mib(device: torch.device) -> float | None:
    """Peak MiB of tensors since the last call of `forget_peak`; None on a CPU, where torch does not count."""
    return torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else None


def forget_peak(device: torch.device) -> None:
    """Begin to look for the peak anew."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def parameters_of(network: nn.Module) -> Tensor:
    """All weights and buffers, one after the other, float64 [n] on the CPU."""
    return torch.cat([value.detach().double().cpu().flatten() for value in network.state_dict().values()])
