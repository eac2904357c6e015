"""Killed while the outputs of a teacher are being kept: nothing whole is filled twice, nothing damaged is read."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import harness

from trainables.store.artifacts import Store

Start = Callable[..., harness.Living]
# A wide teacher of few images: each of nine shards takes a few seconds.
KEPT = [
    *("--no-report", "--preset", "tiny", "--seeds", "1", "-q"),
    *("--set", "orders=2", "--set", "train_images=600", "--set", "teacher.width=2", "--set", "teacher.epochs=1"),
    *("--set", "augment=crop_flip", "--set", "teacher_outputs=cached", "--set", "outputs_per_shard=18"),
]


def begun(out: Path) -> Counter[str]:
    """Log of a shard -> how often it was begun."""
    logs = out.glob("runs/*/logs/outputs-*.log")
    return Counter({path.stem: path.read_text().count(" begins, lease") for path in logs})


def test_a_fill_killed_in_the_middle_repeats_a_shard_per_worker_and_damage_is_filled_again(
    start: Start, tmp_path: Path
) -> None:
    run = start("run", harness.STUDY, *KEPT)
    run.until(lambda v: harness.done(v, "outputs") >= 3 and any(r["stage"] == "outputs" for r in v["running"]))
    for pid in harness.tree(run.process.pid):
        harness.kill(pid)
    run.process.wait(timeout=20)
    whole = shards(tmp_path)
    assert 3 <= len(whole) < 10
    assert not [key for key in whole if Store(tmp_path / "store").verify(key)], "what is in the store is whole"
    again = harness.sweeps("run", harness.STUDY, *KEPT, "--out", str(tmp_path))
    assert again.returncode == 0, again.stderr
    counts = begun(tmp_path)
    assert len(counts) == len(shards(tmp_path)) == 10
    assert max(counts.values()) <= 2
    assert sum(count > 1 for count in counts.values()) <= (os.cpu_count() or 1)
    assert not [key for key in whole if counts[f"outputs-{key}"] > 1], "what was published is not filled again"

    unhurt = harness.digests(tmp_path)
    store = Store(tmp_path / "store")
    victim = next(path for key, path in sorted(shards(tmp_path).items()) if (path / "embedding.npy").exists())
    os.truncate(victim / "embedding.npy", 1000)
    for path in (tmp_path / "store").glob("*/manifest.json"):
        if json.loads(path.read_text())["kind"] in ("assistant", "evaluation"):
            store.discard(path.parent.name)
    mended = harness.sweeps("run", harness.STUDY, *KEPT, "--out", str(tmp_path))
    assert mended.returncode == 0, mended.stderr
    assert store.verify(victim.name) is None
    assert harness.digests(tmp_path) == unhurt


def shards(out: Path) -> dict[str, Path]:
    """Key -> folder of every published shard, the base among them."""
    found = (out / "store").glob("*/manifest.json")
    return {path.parent.name: path.parent for path in found if json.loads(path.read_text())["kind"] == "outputs"}
