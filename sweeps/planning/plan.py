"""From words to a plan: parameters, cells, trials, and the stages of all of them with equal keys merged.

Computed without torch, ray or scipy. The store is listed once, never asked per key.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from search_spaces.study import ARM, TUNING, Arm, Preset, Study
from sweeps.planning import cost, weight_files
from sweeps.planning.graph import StageGraph, StageNode
from trainables import spec as specs
from trainables.data.packed import Packed
from trainables.data.protocols import cut_for, whole
from trainables.errors import UsageError, did_you_mean
from trainables.recipes import Recipe
from trainables.recipes.step import shown_role
from trainables.spec import KeyTemplate, StageSpec, TrainingSpec, registry, task_of
from trainables.spec.compute import equal_compute_epochs
from trainables.spec.networks import with_stem
from trainables.store.artifacts import Store

# What makes an arm what its title says; no word of the command line for all arms changes that.
DEFINING = ("route", "method", "orders", "architecture", "reader", "head", "similarity", "init_from_assistant")
MOST_CELLS = 1_000_000
MOST_SEEDS = 10_000
UNPACKED = "not-packed-yet"


@dataclass(frozen=True)
class Cell:
    """All parameters of a trial but the seed."""

    id: str
    parameters: Mapping[str, Any]  # All of the study's, by canonical name.
    point: Mapping[str, Any]  # Only what varies between cells.
    number: int = -1  # Of the Optuna trial, for sampled cells.

    @property
    def label(self) -> str:
        """What tells it from the others, for people."""
        return (
            ", ".join(
                str(v) if k.endswith("orders") or k == ARM else f"{k.split('.')[-1]}={_shown(v)}"
                for k, v in self.point.items()
            )
            or "the only cell"
        )


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


@dataclass
class Resolved:
    """A study with every word answered: what `run`, `show` and `resume` work from."""

    study: Study
    preset_name: str
    preset: Preset
    parameters: dict[str, Any]
    axes: dict[str, tuple[Any, ...]]
    pinned: dict[str, Any]  # Sampled parameters that the user fixed.
    seeds: list[int]
    trials: int
    sources: dict[str, str] = field(default_factory=dict)  # Parameter -> where its value comes from.
    arms: dict[str, Arm] = field(default_factory=dict)  # With canonical names of parameters.
    side: int = 0  # Of the images; known when the data set is. Epochs at equal compute follow from it.
    test_fingerprint: str = ""  # Of the data set that is tested, where it is another one.
    share: bool = True  # Whether equal stages are trained once; else every trial has a chain of its own.
    left_out: dict[str, str] = field(default_factory=dict)  # Arm -> why it cannot be; no longer among the axes.
    # Weights from a file -> what they turned out to be.
    teachers: dict[str, dict[str, Any]] = field(default_factory=dict)
    starts: dict[str, dict[str, Any]] = field(
        default_factory=dict
    )  # Weights that trainings begin with -> file, shapes.
    _cells: list[Cell] = field(default_factory=list, repr=False)
    _plugins: dict[str, dict[str, Any]] = field(default_factory=dict, repr=False)  # By fingerprint of the data.

    @property
    def cell_count(self) -> int:
        """How many cells the study has."""
        if self.study.sampled:
            return self.trials
        return len(list(self.study.points(self.axes))) if self.arms else math.prod(len(v) for v in self.axes.values())

    @property
    def task(self) -> str:
        """What the networks are for."""
        return str(self.parameters.get("task", self.study.task))

    @property
    def objectives(self) -> tuple[str, ...]:
        """Names of what a sampled study optimises: the score, and for a Pareto search what is to be small."""
        return self.preset.objectives or ("score",)

    @property
    def space(self) -> Callable[[Any], dict[str, Any]] | None:
        """What draws a cell of a sampled study."""
        return self.preset.space or self.study.space

    def cells(self) -> list[Cell]:
        """The cells of a grid, in the order of its axes."""
        if not self._cells:
            self._cells.extend(self.cell(point) for point in self.study.points(self.axes))
        return self._cells

    def cell(self, point: Mapping[str, Any], number: int = -1) -> Cell:
        """The cell at one point of the space."""
        parameters = self.parameters | dict(point)
        if ARM in point:
            parameters |= self._of_arm(point)
        if self.teachers:
            parameters = weight_files.described(parameters, self.teachers)
        return Cell(specs.short_hash({"study": self.study.name, "cell": parameters}), parameters, dict(point), number)

    def _of_arm(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """What the arm of a point stands for; words of the command line outrank it where they do not undo the arm."""
        arm = self.arms[point[ARM]]
        meant = dict(arm.parameters)
        if TUNING in point:
            meant |= arm.tuning[point[TUNING]]
        roles = self.study.recipe.roles
        asked = {name for name, source in self.sources.items() if source == "--set"} | set(self.axes)
        meant = {
            name: value
            for name, value in meant.items()
            if name.split(".")[-1] in DEFINING
            or (name not in asked and not (name.split(".")[0] in roles and name.partition(".")[2] in asked))
        }
        if arm.compute_of:
            role, epochs = self._equal_compute(self.parameters | dict(point) | meant, arm, point)
            meant[f"{role}.epochs"] = epochs
        return meant

    def _equal_compute(self, own: Mapping[str, Any], arm: Arm, point: Mapping[str, Any]) -> tuple[str, int]:
        assert self.side, "cells at equal compute are known when the data set is"
        ignored = self.arms[arm.compute_of].ignores
        other = self.cell({k: v for k, v in point.items() if k not in ignored} | {ARM: arm.compute_of}).parameters
        recipe = self.study.recipe
        ours, theirs = recipe.specs(own, ""), recipe.specs(other, "")
        role, their_role = recipe.measured(ours), recipe.measured(theirs)
        parents = next(placed.parents for placed in recipe.steps_of(other) if placed.role == their_role)
        guide = next((theirs[parent] for parent in parents.values()), None)
        assert specs.has_network(ours[role])
        epochs = equal_compute_epochs(ours[role], theirs[their_role], guide, self.side)  # type: ignore[arg-type]
        return role, epochs

    def baseline(self, cell: Cell) -> Cell | None:
        """The cell `cell` is compared with: equal but for what the study's baseline names."""
        if self.study.baseline is None or self.study.sampled:
            return None
        for name, value in self.study.baseline.items():
            if name not in self.axes or value not in self.axes[name]:
                return None
        point = dict(cell.point) | dict(self.study.baseline)
        if self.arms:
            arm = self.arms[point[ARM]]
            point = {k: v for k, v in point.items() if k not in arm.ignores and (k != TUNING or arm.tuning)}
            if set(point) != {k for k in self.axes if k not in arm.ignores and (k != TUNING or arm.tuning)}:
                return None  # The cell's own arm has no part in an axis that the baseline varies over.
            point = {k: point[k] for k in self.axes if k in point}
        return self.cell(point)

    def run_id(self, fingerprint: str) -> str:
        """`<study>-<8 hex>` of study, data and parameters: not of seeds, number of trials, machine or resources."""
        identity: dict[str, Any] = {
            "study": self.study.name,
            "data": fingerprint,
            "parameters": self.parameters,
            "axes": {} if self.study.sampled else {k: list(v) for k, v in self.axes.items()},
            "pinned": self.pinned,
        }
        if not self.share:
            identity["share"] = "nothing"
        if self.test_fingerprint:
            identity["test_data"] = self.test_fingerprint
        if self.arms:
            identity["arms"] = {
                name: [dict(arm.parameters), [dict(trial) for trial in arm.tuning], arm.compute_of]
                for name, arm in self.arms.items()
                if name in self.axes[ARM]
            }
        edited = self.plugins(fingerprint)
        if edited:
            identity["plugins"] = edited
        return f"{self.study.name}-{specs.short_hash(identity)}"

    def plugins(self, fingerprint: str) -> dict[str, Any]:
        """Versions of the plug-ins that cells use: an edited file makes another run, as it makes other keys.

        Whatever a sampled study may draw must have one version, or Optuna would take the scores of two for one: those of
        every choice, and, because a space may ask further, all that files which somebody named offer to stages.
        """
        found = self._plugins.setdefault(fingerprint, {})
        if found or not registry.plugins():
            return found
        planner = Planner(self, fingerprint)
        cells = _every_choice(self) if self.space is not None else examples(self)
        for cell in cells:
            for spec in planner.specs(cell).values():
                found |= {n: v for n, v in spec.components().items() if registry.plugin_of(n) is not None}
        if self.space is not None:
            named = (o for o in registry.plugins() if o.group in ("loss", "network", "stage") and not o.source.entry)
            found |= {offer.component: offer.version for offer in named}
        return found


def parse_seeds(text: str | int | None, default: int) -> list[int]:
    """`5` means seeds 0 to 4; `100-104` and `0,3,7` are meant literally.

    Raises:
        UsageError: If it is neither.
    """
    if text is None:
        return list(range(default))
    words = str(text).strip()
    try:
        if words.isdigit():
            if int(words) > MOST_SEEDS:
                raise UsageError(f"--seeds may name at most {MOST_SEEDS} seeds, got {words}.")
            seeds = list(range(int(words)))
        else:
            seeds = []
            for part in words.split(","):
                low, dash, high = part.strip().partition("-")
                if dash and int(high) - int(low) >= MOST_SEEDS:
                    raise UsageError(f"--seeds may name at most {MOST_SEEDS} seeds, got {part}.")
                seeds += range(int(low), int(high) + 1) if dash else [int(low)]
    except UsageError:
        raise  # It is a ValueError, too.
    except ValueError:
        shown = f"{words[:40]}..." if len(words) > 40 else words
        raise UsageError(
            f"--seeds must be a number (5 means 0 to 4), a range (100-104) or a list (0,3,7), got '{shown}'."
        ) from None
    if not seeds or min(seeds) < 0 or max(seeds) >= specs.SEED_MARK:
        raise UsageError(f"--seeds must name at least one seed, each from 0 to {specs.SEED_MARK - 1}, got '{text}'.")
    if len(seeds) > MOST_SEEDS:
        raise UsageError(f"--seeds may name at most {MOST_SEEDS} seeds, got {len(seeds)}.")
    return sorted(set(seeds))


class Pinned:
    """An Optuna trial whose named parameters are already decided: the others are drawn."""

    def __init__(self, trial: Any, values: Mapping[str, Any]) -> None:
        self._trial, self._values = trial, values

    def __getattr__(self, method: str) -> Any:
        if not method.startswith("suggest_"):
            return getattr(self._trial, method)

        def suggest(name: str, *limits: Any, **more: Any) -> Any:
            if name in self._values:
                return self._values[name]
            return getattr(self._trial, method)(name, *limits, **more)

        return suggest


class Probe:
    """Stands in for an Optuna trial to learn what a space draws, without optuna."""

    def __init__(self) -> None:
        self.drawn: dict[str, str] = {}
        self.choices: dict[str, tuple[Any, ...]] = {}

    def suggest_float(
        self, name: str, low: float, high: float, *, log: bool = False, step: float | None = None
    ) -> float:
        """Lowest value; remembers the range."""
        self.drawn[name] = f"{low:g} to {high:g}{', log' if log else ''}"
        return low

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False, step: int = 1) -> int:
        """Lowest value; remembers the range."""
        self.drawn[name] = f"{low} to {high}{', log' if log else ''}"
        return low

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """First choice; remembers them."""
        self.drawn[name] = " | ".join(str(c) for c in choices)
        self.choices[name] = tuple(choices)
        return choices[0]


def sampled_names(space: Callable[[Any], dict[str, Any]] | None) -> dict[str, str]:
    """Name -> range of what a space draws."""
    if space is None:
        return {}
    probe = Probe()
    space(probe)
    return probe.drawn


def resolve(
    study: Study,
    *,
    preset: str = "demo",
    settings: Sequence[str] = (),
    seeds: str | int | None = None,
    trials: int | None = None,
    elsewhere: bool = False,
    share: bool = True,
    fitted: Preset | None = None,
) -> Resolved:
    """Answer every word of the command line; several mistakes are told at once.

    Args:
        study: What is asked.
        preset: One of the study's, by name.
        settings: `name=value`, as `--set` takes them.
        seeds: As `--seeds` takes them.
        trials: Cells of a study that draws them.
        elsewhere: Whether another data set is tested.
        share: Whether equal stages are trained once.
        fitted: The preset of that name, where it is made from the data.

    Raises:
        UsageError: With one line per mistake.
    """
    mistakes: list[str] = []
    chosen = fitted if fitted is not None else study.presets.get(preset)
    if chosen is None:
        presets = study.preset_names
        raise UsageError(
            f"{study.name} has no preset '{preset}'.{did_you_mean(preset, presets)} It has {', '.join(presets)}."
        )
    recipe = study.recipe
    parameters = {recipe.canonical(k): recipe.coerce(k, v) for k, v in chosen.parameters.items()}
    if study.task != TrainingSpec.task:
        parameters.setdefault("task", study.task)
    sources = dict.fromkeys(parameters, f"preset {preset}")
    if elsewhere:
        # Nothing of the training data is tested, so all its classes are trained on.
        parameters["held_out"] = 0.0
        sources["held_out"] = "--test-data"
    own = (ARM, TUNING) if study.arms else ()
    axes = {k if k in own else recipe.canonical(k): tuple(v) for k, v in (chosen.axes or study.axes).items()}
    arms = {name: _canonical_arm(arm, chosen.arms.get(name, {}), recipe) for name, arm in study.arms.items()}
    drawn = sampled_names(chosen.space or study.space)
    pinned: dict[str, Any] = {}
    given: dict[str, tuple[Any, ...]] = {}
    for text in settings:
        name, equals, value = text.partition("=")
        name = name.strip()
        if not equals or not name:
            mistakes.append(f"--set takes name=value, got '{text}'.")
            continue
        if name in ("seed", "seeds"):
            mistakes.append("Seeds are set with --seeds, for example --seeds 5.")
            continue
        if name == "data":
            mistakes.append("The data set is chosen with --data, for example --data cifar100.")
            continue
        try:
            full = name if name in own else recipe.canonical(name)
            parts = [part.strip() for part in value.split(",")] if "," in value else [value.strip()]
            if any(part == "" for part in parts):
                raise UsageError(f"{name} needs a value, got '{text}'.")
            known = [_arm_value(study, name, part) if full in own else recipe.coerce(name, part) for part in parts]
            given[full] = tuple(dict.fromkeys(known))
        except UsageError as error:
            said = str(error)
            if f"recipe {recipe.name}" in said:
                said = said.replace(f"recipe {recipe.name}", study.name)
                said += f" `python -m sweeps params {study.name}` lists them all."
            mistakes.append(said)
    for full in [name for name in given if study.arms and name.split(".")[-1] in ("route", "method")]:
        mistakes.append(
            f"{full} is what the arms of {study.name} decide. Choose among them with --set arm=NAME,...: "
            f"{', '.join(study.arms)}."
        )
        del given[full]
    if len(given.get("task", ())) > 1:
        mistakes.append("task takes one value: scores of different tasks cannot be compared.")
    for full, values in given.items():
        # A word for all stages outranks what the preset says for one of them, unless the study varies it: then what is
        # pinned for one stage is meant.
        if full.split(".")[0] not in recipe.roles and full not in axes:
            for role in recipe.roles:
                if f"{role}.{full}" not in given:
                    parameters.pop(f"{role}.{full}", None)
        if full in own:
            axes[full] = values
            sources[full] = "--set"
        elif full in drawn:
            if len(values) > 1:
                mistakes.append(f"{full} is drawn by this study ({drawn[full]}); --set can only fix it to one value.")
            pinned[full] = values[0]
        elif full in axes:
            axes[full] = values
        elif len(values) > 1:
            if study.sampled:
                mistakes.append(f"{study.name} draws its cells; {full} can take one value, got {len(values)}.")
            parameters.pop(full, None)
            axes[full] = values
        else:
            parameters[full] = values[0]
            sources[full] = "--set"
    mistakes += weight_files.settle_words(study, parameters, sources, axes, given)
    task = str(parameters.get("task", TrainingSpec.task))
    if elsewhere and task_of(task).known_classes:
        mistakes.append(f"--test-data is for tasks that compare images; {study.name} is about {task}.")
    if elsewhere and "held_out" in given:
        mistakes.append("held_out means nothing with --test-data: all of that data set is tested.")
    try:
        numbers = parse_seeds(seeds, chosen.seeds)
    except UsageError as error:
        mistakes.append(str(error))
        numbers = []
    count = chosen.trials
    if trials is not None:
        if not study.sampled:
            mistakes.append(
                f"--trials is for studies that draw their cells; {study.name} has a fixed grid of "
                f"{math.prod(len(v) for v in axes.values())}."
            )
        elif not 1 <= trials <= MOST_CELLS:
            mistakes.append(f"--trials must be a whole number from 1 to {MOST_CELLS}, got {trials}.")
        count = trials
    cells = math.prod(len(v) for v in axes.values())
    if TUNING in axes and len({len(arm.tuning) for name, arm in arms.items() if arm.tuning and name in axes[ARM]}) > 1:
        mistakes.append(f"Every arm of {study.name} must have equally many tuning trials.")
    if cells > MOST_CELLS:
        mistakes.append(f"A grid may have at most {MOST_CELLS:,} cells, got {cells:,}. Leave out values.")
    if mistakes:
        raise UsageError("\n".join(re.sub(r"\d{60,}", _digits, mistake) for mistake in mistakes))
    return Resolved(study, preset, chosen, parameters, axes, pinned, numbers, count, sources, arms, share=share)


def _digits(match: re.Match[str]) -> str:
    return f"{match[0][:20]}... ({len(match[0])} digits)"


def _canonical_arm(arm: Arm, more: Mapping[str, Any], recipe: Recipe) -> Arm:
    def full(parameters: Mapping[str, Any]) -> dict[str, Any]:
        return {recipe.canonical(k): recipe.coerce(k, v) for k, v in parameters.items()}

    return dataclasses.replace(
        arm,
        parameters=full(arm.parameters) | full(more),
        tuning=tuple(full(trial) for trial in arm.tuning),
        ignores=tuple(recipe.canonical(name) for name in arm.ignores),
    )


def _arm_value(study: Study, name: str, value: str) -> Any:
    """A value of the axis `arm` or `tuning`.

    Raises:
        UsageError: If the study has no such arm, or not so many tuning trials.
    """
    if name == ARM:
        if value not in study.arms:
            raise UsageError(
                f"{study.name} has no arm '{value}'.{did_you_mean(value, study.arms)} It has {', '.join(study.arms)}."
            )
        return value
    most = max((len(arm.tuning) for arm in study.arms.values()), default=0)
    number = int(value) if value.isdigit() else -1
    if not 0 <= number < most:
        raise UsageError(f"tuning must be from 0 to {most - 1} for {study.name}, got {value}.")
    return number


@dataclass
class Trial:
    """A cell under one seed, with the keys of its stages by role."""

    cell: str
    seed: int
    stages: dict[str, str]


class Planner:
    """Turns cells and seeds into stages with keys; equal stages get equal keys and appear once."""

    def __init__(self, resolved: Resolved, fingerprint: str) -> None:
        self.resolved, self.fingerprint = resolved, fingerprint
        self.recipe = resolved.study.recipe
        self._templates: dict[int, tuple[StageSpec, KeyTemplate]] = {}
        self._made: dict[str, dict[str, StageSpec]] = {}
        self._steps: dict[str, list[tuple[str, KeyTemplate, tuple[tuple[str, str], ...]]]] = {}

    def specs(self, cell: Cell) -> dict[str, StageSpec]:
        """Role -> spec (seed 0) of a cell."""
        known = self._made.get(cell.id)
        if known is None:
            known = self._made[cell.id] = self.recipe.specs(
                cell.parameters, self.fingerprint, self.resolved.test_fingerprint
            )
        return known

    def _template(self, spec: StageSpec, roles: tuple[str, ...]) -> KeyTemplate:
        known = self._templates.get(id(spec))
        if known is None:
            # The spec is kept, so that its id is not used twice.
            known = self._templates[id(spec)] = (spec, KeyTemplate(spec, roles))
        return known[1]

    def keys(self, cell: Cell, seed: int) -> dict[str, str]:
        """Role -> key of one trial, parents first."""
        steps = self._steps.get(cell.id)
        if steps is None:
            made = self.specs(cell)
            steps = self._steps[cell.id] = [
                (s.role, self._template(made[s.role], tuple(s.parents)), tuple(s.parents.items()))
                for s in self.recipe.steps_of(cell.parameters)
            ]
        keys: dict[str, str] = {}
        for role, template, parents in steps:
            keys[role] = template.key(seed, {inside: keys[outside] for inside, outside in parents})
        if not self.resolved.share:
            own = f"{cell.id}/{seed}"
            # Stages read their parents by key, so what a trial trains under keys of its own it reads alone.
            keys = {role: specs.short_hash([key, own], 16) for role, key in keys.items()}
        return keys

    def stages(self, cell: Cell, seed: int, keys: Mapping[str, str] | None = None) -> Iterator[StageNode]:
        """The stages of one trial, parents first; `keys` are those of the trial, where they are known."""
        made, keys = self.specs(cell), keys or self.keys(cell, seed)
        for step in self.recipe.steps_of(cell.parameters):
            parents = {role: keys[parent] for role, parent in step.parents.items()}
            yield StageNode(keys[step.role], shown_role(step.role), made[step.role], seed, parents, [cell.id])


@dataclass
class Survey:
    """What a plan amounts to, without its graph."""

    asked: int = 0
    distinct: Counter[str] = field(default_factory=Counter)  # By role.
    present: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0  # Estimated, of what is missing, on one core.
    gpu_seconds: float = 0.0
    known: int = 0  # Missing stages whose time rests on finished ones.
    bytes: float = 0.0
    examples: dict[str, StageSpec] = field(default_factory=dict)  # Role -> the spec that takes most threads.
    ways: set[str] = field(default_factory=set)  # How frozen networks are asked: live, cached, cached_epochs.

    @property
    def missing(self) -> int:
        """Stages still to run."""
        return sum(self.distinct.values()) - sum(self.present.values())

    def sentence(self) -> str:
        """`5 teachers, 80 assistants, 80 evaluations; 3 already in the store`."""
        plurals = {shown_role(role): spec.plural for role, spec in self.examples.items()}
        parts = [f"{n:,} {plurals.get(role) or role + 's' if n != 1 else role}" for role, n in self.distinct.items()]
        present = sum(self.present.values())
        return ", ".join(parts) + (f"; {present:,} already in the store" if present else "")


def survey(
    resolved: Resolved,
    data: dict[str, Any],
    store: Store,
    planner: Planner | None = None,
    packed: Packed | None = None,
) -> Survey:
    """Count stages asked, distinct and present, and estimate what the missing ones cost.

    `packed` tells exactly how many images are trained on; without it that is estimated from `data`.
    """
    present = store.keys()
    planner = planner or Planner(resolved, data["fingerprint"])
    rates = cost.measured_rates(store, present) if present else {}
    counts = cost.Counts(data, packed)
    result = Survey()
    seen: set[str] = set()
    prices: dict[int, _Price] = {}
    drawn = resolved.study.sampled
    # Where a stage has a seed, no two seeds share it, so in an empty store one seed tells the counts of all.
    seeds, alike = (resolved.seeds, 1) if present else (resolved.seeds[:1], len(resolved.seeds))
    for cell in examples(resolved):
        made = planner.specs(cell)
        for step in planner.recipe.steps_of(cell.parameters):
            spec = made[step.role]
            if id(spec) not in prices:
                guide = next((made[parent] for parent in step.parents.values()), None)
                prices[id(spec)] = _price(spec, guide, counts, rates)
                most = result.examples.setdefault(step.role, spec)
                if spec.threads > most.threads:
                    result.examples[step.role] = spec
                if specs.distils(spec):
                    result.ways.add(spec.teacher_outputs)
        for seed in seeds:
            keys = planner.keys(cell, seed)
            # Raw pixels have no seed, and what hangs from them has none either.
            others = planner.keys(cell, seed + 1) if alike > 1 else {}
            for role, key in keys.items():
                spec = made[role]
                own = 1 if others.get(role) == key else alike
                times = own * (resolved.trials if drawn and not spec.drawn_once else 1)
                result.asked += alike * (resolved.trials if drawn else 1)
                if key in seen:
                    continue
                seen.add(key)
                result.distinct[shown_role(role)] += times
                if key in present:
                    result.present[shown_role(role)] += 1
                    continue
                price = prices[id(spec)]
                result.seconds += price.seconds * times
                result.gpu_seconds += price.gpu_seconds * times
                result.known += times if price.known else 0
                result.bytes += price.bytes * times
    result.bytes += cost.working_bytes(price.checkpoint_bytes for price in prices.values()) if result.missing else 0
    return result


@dataclass(frozen=True)
class _Price:
    spec: StageSpec
    seconds: float
    gpu_seconds: float
    known: bool
    bytes: float
    checkpoint_bytes: float


def _price(
    spec: StageSpec, guide: StageSpec | None, counts: cost.Counts, rates: dict[tuple[Any, ...], float]
) -> _Price:
    known = cost.known_seconds(spec, rates) if rates else None
    work = spec.work(counts, guide if specs.has_network(guide) else None)
    return _Price(
        spec,
        known if known is not None else work.time(),
        work.time(gpu=True),
        known is not None,
        work.bytes,
        work.checkpoint_bytes,
    )


def examples(resolved: Resolved) -> Iterator[Cell]:
    """The cells of a grid; of a sampled study one that stands for all."""
    if resolved.space is None:
        yield from resolved.cells()
    else:
        yield resolved.cell(resolved.space(Pinned(Probe(), resolved.pinned)))


def _every_choice(resolved: Resolved) -> Iterator[Cell]:
    """Cells of a sampled study in which each choice that it offers is made at least once, the others as they come."""
    assert resolved.space is not None
    ahead: list[dict[str, Any]] = [{}]
    met: set[tuple[str, str]] = set()
    while ahead:
        pinned = ahead.pop()
        probe = Probe()
        yield resolved.cell(resolved.space(Pinned(probe, resolved.pinned | pinned)))
        for name, choices in probe.choices.items():
            met.add((name, repr(choices[0])))  # What the probe has just drawn.
            others = [choice for choice in choices if (name, repr(choice)) not in met]
            met.update((name, repr(choice)) for choice in others)
            ahead += [pinned | {name: choice} for choice in others]


def check_against_data(resolved: Resolved, data: dict[str, Any], planner: Planner | None = None) -> None:
    """What can only be refused when the data set is known.

    Raises:
        UsageError: With one line per mistake.
    """
    mistakes = mistakes_of(resolved, data, planner)
    if mistakes:
        raise UsageError("\n".join(list(mistakes)[:10]))


def mistakes_of(resolved: Resolved, data: dict[str, Any], planner: Planner | None = None) -> weight_files.Mistakes:
    """What `check_against_data` refuses: sentence -> what an arm cannot be for, where that follows from the arm."""
    planner = planner or Planner(resolved, data["fingerprint"])
    mistakes: weight_files.Mistakes = {}
    checked: dict[int, StageSpec] = {}
    side = min(data["height"], data["width"])
    for cell in examples(resolved):
        made = planner.specs(cell)
        parents = {placed.role: placed.parents for placed in planner.recipe.steps_of(cell.parameters)}
        # Equal stages may be read by others, and read others, in each cell.
        weight_files.check_chain(made, parents, resolved.teachers, data, mistakes)
        for role, spec in made.items():
            if specs.distils(spec) and not parents[role]:
                mistakes[f"method={spec.method} needs a guide for the {role}: route=direct, or method=none."] = None
            if id(spec) in checked or not specs.has_network(spec):
                continue
            checked[id(spec)] = spec
            resolution = spec.resolution or side
            if resolution > side:
                mistakes[
                    f"resolution must be at most {side}, the size of {data['name']}, got {resolution} for the {role}."
                ] = None
            weight_files.check(role, spec, resolved.starts, data, mistakes)
            if spec.stem == "large" and spec.architecture not in (*with_stem("large"), "pixels"):
                mistakes[
                    f"stem=large is for {', '.join(with_stem('large'))}, got {spec.architecture} for the {role}."
                ] = f"its {role}, {spec.architecture}, takes no stem=large"
            if getattr(spec, "init_from_assistant", False):
                _check_start(role, spec, made, parents[role], mistakes)
            if spec.validation_fraction == 0 and (resolved.study.sampled or TUNING in resolved.axes):
                mistakes[f"validation_fraction must be above 0: {resolved.study.name} chooses on validation."] = None
            if spec.upsample_to is not None and spec.upsample_to < resolution:
                mistakes[
                    f"upsample_to must be at least the resolution, {resolution}, got {spec.upsample_to} for the {role}."
                ] = None
            if not task_of(spec.task).known_classes:
                continue  # What is left to train on depends on the classes; `check_splits` asks the data itself.
            least = int(data.get("classes", 1))
            left = _left_by_validation(data["train_images"], spec.validation_fraction, least)
            if spec.train_images > left:
                mistakes[
                    f"train_images must be at most {left}, what validation leaves of {data['name']}, "
                    f"got {spec.train_images} for the {role}."
                ] = None
            elif 0 < spec.train_images < least:
                mistakes[
                    f"train_images must be at least {least}, one per class of {data['name']}, or 0 for all, "
                    f"got {spec.train_images} for the {role}."
                ] = None
    return mistakes


def _check_start(
    role: str,
    spec: TrainingSpec,
    made: Mapping[str, StageSpec],
    parents: Mapping[str, str],
    mistakes: weight_files.Mistakes,
) -> None:
    """A network can begin with another one's weights only if both are built alike."""
    guide = next((made[parent] for parent in parents.values()), None)
    if not specs.has_network(guide):
        mistakes[f"init_from_assistant=true needs a guide for the {role}, but its route has none."] = None
        return
    for name in ("architecture", "width", "embedding", "stem"):
        ours, theirs = getattr(spec, name), getattr(guide, name)
        if ours != theirs:
            mistakes[
                f"init_from_assistant=true needs a {role} built like its {guide.kind}, but {name} is {ours} and {theirs}."
            ] = f"begins with the {guide.kind}'s weights, but {name} is {ours} and {theirs}"


def check_splits(resolved: Resolved, packed: Packed, planner: Planner, tested: Packed | None = None) -> None:
    """Refuse splits that the packed data cannot give, before anything starts.

    Args:
        resolved: The study.
        packed: What is trained on.
        planner: Of the study.
        tested: Another data set that is tested.

    Raises:
        UsageError: With what does not fit.
    """
    names = ("task", "validation_fraction", "split_seed", "train_images", "held_out", "folds", "min_images", "subjects")
    seen = set()
    side = min(tested.info.height, tested.info.width) if tested is not None else resolved.side
    for cell in examples(resolved):
        made_of = planner.specs(cell)
        read = made_of[planner.recipe.measured(made_of)]
        if specs.has_network(read) and (read.resolution or resolved.side) > side:
            raise UsageError(
                f"Test images must have the {read.resolution or resolved.side} pixels a side that the network reads, but "
                f"those of {tested.info.name if tested else 'the data'} have {side}. Lower its resolution."
            )
        for spec in made_of.values():
            if not specs.has_network(spec):
                continue
            mark = tuple(getattr(spec, name) for name in names)
            if mark in seen:
                continue
            seen.add(mark)
            made = cut_for(packed, spec)
            if tested is not None:
                whole(tested, task=spec.task, split_seed=spec.split_seed, folds=spec.folds, subjects=spec.subjects)
                if tested.info.channels != packed.info.channels:
                    raise UsageError(
                        f"Training and test images must have the same channels, but {packed.info.name} has "
                        f"{packed.info.channels} and {tested.info.name} {tested.info.channels}."
                    )
            elif len(made.test) == 0:
                raise UsageError("held_out=0 tests nothing. Raise it, or name other data with --test-data.")


def _left_by_validation(images: int, fraction: float, classes: int) -> int:
    """Training images beside the validation split, by the rounding of `split_indices`."""
    held_out = max(1, int(images * fraction + 0.5)) if fraction > 0 else 0
    return max(images - held_out, min(images, classes))


def build_graph(resolved: Resolved, fingerprint: str, store: Store) -> tuple[StageGraph, list[Trial], list[Cell]]:
    """The graph of a grid study, seeds outermost so that a stopped study is still balanced."""
    present = store.keys()
    planner = Planner(resolved, fingerprint)
    graph = StageGraph()
    cells = resolved.cells()
    trials = []
    for seed in resolved.seeds:
        for cell in cells:
            keys = planner.keys(cell, seed)
            for node in planner.stages(cell, seed, keys):
                graph.add(node, present=node.key in present)
            trials.append(Trial(cell.id, seed, keys))
    return graph, trials, cells


def detectable_gain(pairs: int, sd: float, tests: int = 1) -> float | None:
    """Smallest paired gain found with 80 % power at 5 % (Bonferroni over `tests`); None below 3 pairs, which show nothing."""
    from analysis.statistics import intervals as statistics  # scipy takes half a second to import.

    return statistics.detectable(sd, pairs, tests=tests) if pairs >= statistics.LEAST_PAIRS else None


def detectable_of_many(pairs: int, sd: float, cells: int) -> float | None:
    """The same for one of `cells` compared with one reference, as the report adjusts for all of them; None below 3 pairs."""
    from analysis.statistics import intervals as statistics
    from analysis.statistics import many_to_one

    return many_to_one.detectable(sd, cells, pairs) if pairs >= statistics.LEAST_PAIRS else None
