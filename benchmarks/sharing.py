"""An ablation of orders in two stages: shared prefixes and kept outputs, against a chain per trial (goals G5 and G10).

    python -m benchmarks.sharing [--orders 4] [--seeds 1] [--epochs 8] [--width 0.25] [--data NAME] [--quick] [--json FILE]

Three real runs into three empty stores: everything shared with the assistants' outputs kept, everything shared with the
assistants live, and nothing shared (`--no-share`). A ResNet-50 teaches a ResNet-18 assistant at 32 pixels, which teaches
ResNet-18 students at 16 pixels with other orders of relations; without `--data` on made-up photographs. What counts is the
CPU time of all stages, as their manifests say. Practice is a chain for each trial under one shared teacher: the unshared
run, each seed's teacher counted once (nobody trains it for every trial). All sides run our code; practice with losses as
the formulas read and with Pillow costs more, as `whole_step` shows.

From the measured stages two forecasts of 45 trials (15 sets of orders, 3 seeds) are added up: as measured, and for 100
epochs under the 162 views of crops and flips. Trials whose numbers differ between the shared and the unshared run
break a promise; kept outputs are halves, so their scores may differ a little.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks import augmentation, measure
from benchmarks.measure import Row

ORDERS = ("1+2+3+C", "1", "2", "3", "C", "1+2", "1+3", "1+C", "2+3", "2+C", "3+C", "1+2+3", "1+2+C", "1+3+C", "2+3+C")
TRIALS = 15 * 3  # Of the goals.
WANTED = {"practice": 6.0, "nothing": 14.0}
CLASSES, IMAGES = 10, 60  # Of the made-up data, 32 x 32.
LONG_EPOCHS, LONG_VIEWS = 100, 162


@dataclass(frozen=True)
class Costs:
    """Mean CPU seconds of the stages of a study."""

    teacher: float
    assistant: float
    live: float  # A student whose guide runs beside it.
    kept: float  # A student that reads kept outputs.
    base: float  # What all shards of kept outputs share.
    view: float  # Kept outputs of all images in one view.
    evaluation: float


def totals(costs: Costs, orders: int, seeds: int, views: int) -> dict[str, float]:
    """CPU seconds of orders x seeds trials: nothing shared, one teacher for each seed (practice), everything (ours)."""
    trials = orders * seeds
    chain = costs.assistant + costs.live + costs.evaluation
    filled = costs.base + views * costs.view
    return {
        "nothing": trials * (costs.teacher + chain),
        "practice": seeds * costs.teacher + trials * chain,
        "ours": seeds * (costs.teacher + costs.assistant + filled) + trials * (costs.kept + costs.evaluation),
    }


def longer(costs: Costs, factor: float) -> Costs:
    """The costs of trainings with `factor` times the epochs; filling a view and evaluating cost what they did."""
    return Costs(
        teacher=factor * costs.teacher,
        assistant=factor * costs.assistant,
        live=factor * costs.live,
        kept=factor * costs.kept,
        base=costs.base,
        view=costs.view,
        evaluation=costs.evaluation,
    )


def words(options: argparse.Namespace, orders: Sequence[str], data: Sequence[str]) -> list[str]:
    """What all three runs have in common."""
    settings = {
        "arm": "horkd",
        "resolution": 16,
        "teacher.resolution": 32,
        "assistant.resolution": 32,
        "student.horkd.orders": ",".join(orders),
        "architecture": "resnet18",
        "teacher.architecture": "resnet50",
        "width": options.width,
        "augment": "flip",
        "epochs": options.epochs,
        "batch_size": 64,
        "train_images": options.images,
    }
    command = [
        sys.executable,
        "-m",
        "sweeps",
        "run",
        "horkd_classification",
        "--preset",
        "tiny",
        "--no-report",
        "--quiet",
    ]
    command += [*data, "--seeds", str(options.seeds), "--jobs", str(options.jobs)]
    return command + [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]


def photographs(folder: Path) -> None:
    """Class folders of made-up images, which differ by a pattern of their class and noise."""
    random = np.random.default_rng(0)
    patterns = augmentation.photographs(CLASSES)
    for label in range(CLASSES):
        own = folder / f"class-{label}"
        own.mkdir(parents=True)
        for number in range(IMAGES):
            image = patterns[label].astype(np.int16) + random.integers(-60, 61, (3, 32, 32))
            Image.fromarray(np.clip(image, 0, 255).astype(np.uint8).transpose(1, 2, 0)).save(own / f"{number}.png")


def run(command: Sequence[str], out: Path, more: Sequence[str]) -> list[dict[str, Any]]:
    """The manifests of a run into an empty store.

    Raises:
        RuntimeError: If the run fails.
    """
    done = subprocess.run(
        [*command, "--out", str(out), *more],
        cwd=measure.ROOT,
        env=measure.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"the run ended with {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return [json.loads(path.read_text()) for path in sorted(out.glob("store/*/manifest.json"))]


def seconds(manifests: Sequence[Mapping[str, Any]], kind: str) -> list[float]:
    """CPU seconds of each stage of a kind."""
    return [float(manifest["cpu_seconds"]) for manifest in manifests if manifest["kind"] == kind]


def scores(out: Path) -> dict[str, dict[str, Any]]:
    """Metrics of each trial's evaluation, by the trial's label and seed."""
    (path,) = out.glob("runs/*/run.json")
    told = json.loads(path.read_text())
    labels = {cell["id"]: cell["label"] for cell in told["cells"]}
    found = {}
    for trial in told["trials"]:
        manifest = json.loads((out / "store" / trial["stages"]["evaluation"] / "manifest.json").read_text())
        found[f"{labels[trial['cell']]} / {trial['seed']}"] = manifest["metrics"]
    return found


def rows(
    out: Mapping[str, Path], manifests: Mapping[str, Sequence[Mapping[str, Any]]], options: argparse.Namespace
) -> list[Row]:
    """Measured totals, forecasts of 45 trials, and the trials whose numbers agree."""
    kept, live, alone = manifests["kept"], manifests["live"], manifests["alone"]
    trials = len(scores(out["kept"]))
    setting = f"{trials} trials, {options.epochs} epochs, width {options.width:g}"
    ours, nothing = sum(float(m["cpu_seconds"]) for m in kept), sum(float(m["cpu_seconds"]) for m in alone)
    teachers = seconds(alone, "teacher")
    practice = nothing - sum(teachers) * (1 - options.seeds / len(teachers))
    shared = sum(float(m["cpu_seconds"]) for m in live)

    def against(what: str, where: str, theirs: float, mine: float, wanted: float | None, note: str = "") -> Row:
        return measure.row("G5", f"sharing against {what}", where, [theirs], [mine], wanted=wanted, note=note)

    full = trials == TRIALS
    made = [
        against("a teacher for each seed", setting, practice, ours, WANTED["practice"] if full else None),
        against("nothing shared", setting, nothing, ours, WANTED["nothing"] if full else None),
        against("nothing shared, guides live", setting, nothing, shared, None),
    ]
    costs = costs_of(kept, live)
    # Two views: as they are, and mirrored.
    cases = {f"forecast: {TRIALS} trials, {options.epochs} epochs": totals(costs, 15, 3, 2)}
    long = longer(costs, LONG_EPOCHS / options.epochs)
    cases[f"forecast: {TRIALS} trials, {LONG_EPOCHS} epochs, {LONG_VIEWS} views"] = totals(long, 15, 3, LONG_VIEWS)
    for where, total in cases.items():
        note = "added up from the stages that were measured"
        made.append(
            against("a teacher for each seed", where, total["practice"], total["ours"], WANTED["practice"], note)
        )
        made.append(against("nothing shared", where, total["nothing"], total["ours"], WANTED["nothing"], note))
    return [*made, *neutral(scores(out["live"]), scores(out["alone"]), scores(out["kept"]), setting)]


def costs_of(kept: Sequence[Mapping[str, Any]], live: Sequence[Mapping[str, Any]]) -> Costs:
    """Means over the stages of the two shared runs."""
    parts: dict[str, list[float]] = {"base": [], "views": []}
    for manifest in kept:
        if manifest["kind"] == "outputs":
            views = max(1, int(manifest["metrics"]["views"]))
            parts[manifest["spec"]["part"]].append(float(manifest["cpu_seconds"]) / views)
    both = [*kept, *live]
    return Costs(
        teacher=statistics.fmean(seconds(both, "teacher")),
        assistant=statistics.fmean(seconds(both, "assistant")),
        live=statistics.fmean(seconds(live, "student")),
        kept=statistics.fmean(seconds(kept, "student")),
        base=statistics.fmean(parts["base"]),
        view=statistics.fmean(parts["views"]),
        evaluation=statistics.fmean(seconds(both, "evaluation")),
    )


def neutral(
    live: Mapping[str, Mapping[str, Any]],
    alone: Mapping[str, Mapping[str, Any]],
    kept: Mapping[str, Mapping[str, Any]],
    setting: str,
) -> list[Row]:
    """How many trials have equal metrics with and without sharing, and how far kept outputs move a score."""
    equal = sum(live[trial] == alone[trial] for trial in live)
    moved = max(abs(float(live[trial]["score"]) - float(kept[trial]["score"])) for trial in live)
    row = Row(
        goal="G10",
        what="sharing is neutral: trials with equal metrics",
        setting=setting,
        reference=len(alone),
        ours=equal,
        unit="trials",
        ratio=equal / len(alone),
        low=equal / len(alone),
        high=equal / len(alone),
        rounds=1,
        wanted=1.0,
        note=f"with kept outputs the largest change of a test score is {100 * moved:.2f} points",
    )
    return [row]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the three, and print."""
    parser = measure.parser(__doc__)
    parser.add_argument("--orders", type=int, help="how many of the 15 sets of orders (4; with --quick 2)")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--epochs", type=int, help="of every training (8; with --quick 2)")
    parser.add_argument("--width", type=float, help="of all networks (0.25; with --quick 0.125)")
    parser.add_argument("--images", type=int, default=0, help="to train on (all)")
    parser.add_argument("--jobs", type=int, default=1, help="cores to use (1)")
    parser.add_argument("--data", help="a data set of 32 pixels, as `sweeps run` takes it")
    parser.add_argument("--data-root", help="where it lies")
    options = parser.parse_args(arguments)
    options.orders = options.orders or (2 if options.quick else 4)
    options.epochs = options.epochs or (2 if options.quick else 8)
    options.width = options.width or (0.125 if options.quick else 0.25)
    if not 1 <= options.orders <= len(ORDERS):
        parser.error(f"--orders must be from 1 to {len(ORDERS)}, the sets of orders there are, got {options.orders}")
    found = measure.facts()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sharing-")))
        if options.data:
            data = ["--data", options.data, *(["--data-root", options.data_root] if options.data_root else [])]
        else:
            photographs(folder / "photographs")
            data = ["--data", f"folder:{folder / 'photographs'}", "--data-size", "32"]
        command = words(options, ORDERS[: options.orders], data)
        ways = {"kept": ["--set", "student.teacher_outputs=cached"], "live": [], "alone": ["--no-share"]}
        out = {way: folder / way for way in ways}
        manifests = {way: run(command, out[way], more) for way, more in ways.items()}
        made = rows(out, manifests, options)
    measure.finish(made, options, found)


if __name__ == "__main__":
    main()
