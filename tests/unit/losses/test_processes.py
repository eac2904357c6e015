"""Two processes with half a batch each, against one process with all of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from trainables.losses import processes

ROOT = Path(__file__).resolve().parents[3]

# Runs as process `rank` of `world`: trains tiny weights for three steps on its share of each batch and writes what
# it found. Gradients of the weights are averaged by hand, as DistributedDataParallel does.
WORKER = """
import sys
import torch
import torch.distributed as dist
from torch import nn
from trainables.losses.contrastive import CrdLoss
from trainables.losses.horkd_loss import HorkdLoss
from trainables.spec import CrdSpec, HorkdSpec

kind, rank, world, folder = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
if world > 1:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=world)
torch.manual_seed(0)
torch.set_default_dtype(torch.float64)
draws = torch.Generator().manual_seed(1)
labels = torch.arange(24) % 3
student = nn.Linear(4, 5)
if kind == "crd":
    spec = CrdSpec(width=6, negatives=9, temperature=0.5)
    loss = CrdLoss(spec, student_width=5, teacher_width=7, items=24, classes_of_items=labels, gather=True)
    loss.begin_epoch(torch.Generator().manual_seed(2))
else:
    spec = HorkdSpec(centers=kind, alpha=1.0, beta=1.0)
    loss = HorkdLoss(spec, student_width=5, teacher_width=7, classes=3, gather=True)
    if loss.uses_teacher_centers:
        loss.set_teacher_centers(torch.randn(3, 7, generator=draws), torch.ones(3))
weights = [*student.parameters(), *loss.parameters()]
found = []
for step in range(3):
    images = torch.randn(8, 4, generator=draws)
    teacher = torch.randn(8, 7, generator=draws)
    chosen = torch.randperm(24, generator=draws)[:8]
    share = slice(rank * 8 // world, (rank + 1) * 8 // world)
    rows = (student(images[share]), teacher[share], labels[chosen][share])
    value = loss(*rows, chosen[share]) if kind == "crd" else loss(*rows, progress=1.0)[0]
    gradients = torch.autograd.grad(value, weights)
    for weight, gradient in zip(weights, gradients):
        if world > 1:
            dist.all_reduce(gradient)
        with torch.no_grad():
            weight -= 0.1 * gradient / world
        found.append(gradient / world)
    found.append(value.detach())
torch.save([*found, *weights, *loss.buffers()], f"{folder}/{rank}.pt")
if world > 1:
    dist.destroy_process_group()
"""


def _train(kind: str, world: int, folder: Path) -> list[list[Tensor]]:
    """What each of `world` processes found."""
    folder.mkdir()
    places = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, kind, str(rank), str(world), str(folder)],
            env=os.environ | places,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(world)
    ]
    try:
        for process in started:
            _, complaint = process.communicate(timeout=120)
            assert process.returncode == 0, complaint
    finally:
        for process in started:
            process.kill()
            process.wait()
    return [torch.load(folder / f"{rank}.pt") for rank in range(world)]


@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="torch was built without gloo")
@pytest.mark.parametrize("kind", ["running", "batch", "crd"])
def test_two_processes_train_as_one_with_the_joined_batch(kind: str, tmp_path: Path) -> None:
    (alone,) = _train(kind, 1, tmp_path / "one")
    both = _train(kind, 2, tmp_path / "two")
    assert len(alone) > 10
    for half in both:
        for one, other in zip(alone, half, strict=True):
            torch.testing.assert_close(other, one, rtol=1e-10, atol=1e-12)


def test_in_a_single_process_rows_are_joined_already() -> None:
    rows = torch.randn(3, 2)
    assert processes.joined(rows) is rows
