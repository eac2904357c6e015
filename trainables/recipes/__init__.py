"""Recipes: which stages a method has, and how flat parameters become their specs. Needs only `spec`.

A parameter named like a spec field (`learning_rate`) goes to every stage that has the field; `teacher.learning_rate`
goes to the teacher alone. Nested groups keep their name (`horkd.alpha`), which may be shortened where nothing else is
called so (`alpha`).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from trainables import spec as specs
from trainables.errors import UsageError, did_you_mean_any
from trainables.spec import StageSpec, registry

NOT_PARAMETERS = ("seed", "data")  # Seeds are an axis of their own; the data set has its own flags.


# Fields of a stage that is given instead of trained which count only where its role is named: words for all stages
# describe networks in training.
GIVEN = (
    *("weights", "family", "architecture", "head", "order", "mean", "std", "side"),
    *("width", "embedding", "stem", "resolution", "filter", "blur", "upsample_to"),
)
OUTPUTS = "outputs"
ROUTES = ("assistant", "direct", "plain", "cross_structure", "teacher", "untrained")


@dataclass(frozen=True, kw_only=True)
class RouteFields(specs.Fields):
    """What decides which stages a cell has, and changes no stage itself."""

    # assistant: teacher, assistant, student. direct: teacher, student. plain: the student on labels alone.
    # cross_structure: teacher and assistant. teacher: the teacher alone. untrained: a network as drawn, or pixels.
    route: str = specs.choice("assistant", ROUTES)


@dataclass(frozen=True)
class Step:
    """One stage of a recipe: its role, its spec and which earlier roles it reads."""

    role: str
    spec: type[StageSpec]
    # Role inside the stage -> roles in the recipe, of which the first that the cell has is read; none may be there.
    parents: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    # Roles, of which the first that the cell has counts -> own field: field of that role's spec.
    inherits: Mapping[tuple[str, ...], Mapping[str, str]] = field(default_factory=dict)
    routes: tuple[str, ...] = ()  # The routes it belongs to; none given means all.
    given: type[StageSpec] | None = None  # What it is instead in cells that name its `weights`.

    def spec_in(self, cell: Mapping[str, Any]) -> type[StageSpec]:
        """What the stage is in a cell."""
        return self.given if self.given is not None and cell.get(f"{self.role}.weights") else self.spec

    def on(self, route: str) -> bool:
        """Whether cells of that route have this stage."""
        return not self.routes or route in self.routes


@dataclass(frozen=True)
class Placed:
    """A step as one cell has it: which stages it reads there."""

    step: Step
    parents: Mapping[str, str]  # Role inside the stage -> role of the cell.

    @property
    def role(self) -> str:
        """Its role."""
        return self.step.role


@dataclass(frozen=True)
class Recipe:
    """The stages of a method, parents first; the last one gives the result.

    A recipe with routes has a parameter `route`, which says which of the stages a cell has.
    """

    name: str
    steps: tuple[Step, ...]

    @property
    def roles(self) -> tuple[str, ...]:
        """Names of the stages, parents first."""
        return tuple(step.role for step in self.steps)

    @functools.cached_property
    def has_routes(self) -> bool:
        """Whether cells differ in the stages they have."""
        return any(step.routes for step in self.steps)

    def measured(self, roles: Iterable[str]) -> str:
        """Of the stages a cell has, the last before its evaluation: what pruning watches and the result is about."""
        there = set(roles)
        present = [role for role in self.roles if role in there]
        return present[-2] if len(present) > 1 else present[-1]

    def steps_of(self, cell: Mapping[str, Any]) -> tuple[Placed, ...]:
        """The stages of a cell, with the parents they read in it; kept outputs of its frozen networks among them."""
        placed = self._trained(cell)
        if not any(name.endswith("teacher_outputs") and value != "live" for name, value in cell.items()):
            return placed
        made = self.specs(cell, "")
        return tuple(part for step in placed for part in _with_outputs(step, made))

    def _trained(self, cell: Mapping[str, Any]) -> tuple[Placed, ...]:
        return self._placed[str(cell.get("route", RouteFields.route)) if self.has_routes else ""]

    @functools.cached_property
    def _placed(self) -> dict[str, tuple[Placed, ...]]:
        return {route: _place(self.steps, route) for route in (ROUTES if self.has_routes else ("",))}

    @property
    def parameters(self) -> dict[str, tuple[Any, dataclasses.Field[Any]]]:
        """Every legal parameter name -> (declared type, field); `teacher.epochs` as well as `epochs`."""
        known = self.__dict__.get("_parameters")
        if known is None or known[0] != registry.generation():  # Plug-ins bring options of their own.
            known = self.__dict__["_parameters"] = (registry.generation(), self._legal())
        return known[1]

    def _legal(self) -> dict[str, tuple[Any, dataclasses.Field[Any]]]:
        legal: dict[str, tuple[Any, dataclasses.Field[Any]]] = {}
        if self.has_routes:
            legal.update(specs.field_paths(RouteFields))
        for step in self.steps:
            taken = {name for names in step.inherits.values() for name in names}
            for path, entry in specs.field_paths(step.spec).items():
                if path in NOT_PARAMETERS or path in taken:
                    continue
                legal.setdefault(path, entry)
                legal[f"{step.role}.{path}"] = entry
            if step.given is not None:
                # Its own fields are named with the role alone: others have a `head`, too.
                own = specs.field_paths(step.given)
                legal.update({f"{step.role}.{name}": own[name] for name in GIVEN if name in own})
        return legal

    @functools.cached_property
    def short_names(self) -> dict[str, str]:
        """Shortened nested names, where they are unique: `alpha` -> `horkd.alpha`."""
        short: dict[str, list[str]] = {}
        for name, (_, declared) in self.parameters.items():
            if "plugin" in declared.metadata:
                continue  # What people may shorten does not depend on their plug-ins.
            head, _, tail = name.rpartition(".")
            if head and name.split(".")[0] not in self.roles and tail not in self.parameters:
                short.setdefault(tail, []).append(name)
        return {tail: names[0] for tail, names in short.items() if len(names) == 1}

    def canonical(self, name: str) -> str:
        """The full name of a parameter.

        Raises:
            UsageError: If the recipe has no such parameter.
        """
        if name in self.parameters:
            return name
        if name in self.short_names:
            return self.short_names[name]
        common = [n for n in self.parameters if n.split(".")[0] not in self.roles]
        raise UsageError(
            f"'{name}' is not a parameter of recipe {self.name}."
            f"{did_you_mean_any(name, self.parameters if '.' in name else [*common, *self.short_names])}"
        )

    def coerce(self, name: str, value: Any) -> Any:
        """`value` with the type and within the limits the parameter declares.

        Raises:
            UsageError: If it does not fit.
        """
        full = self.canonical(name)
        kind, declared = self.parameters[full]
        if full.split(".")[-1] == "orders":
            return specs.canonical_orders(value)
        if full.split(".")[-1] == "method":
            return specs.canonical_method(value)
        coerced = specs.coerce(value, kind, name)
        specs.check(coerced, declared.metadata, name)
        return coerced

    def specs(self, cell: Mapping[str, Any], data: str, test_data: str = "") -> dict[str, StageSpec]:
        """Role -> spec (seed 0) of one cell.

        Args:
            cell: Parameters by canonical name; fields that are missing keep their defaults.
            data: Fingerprint of the packed data set.
            test_data: Of another one that the evaluation reads instead.
        """
        made: dict[str, StageSpec] = {}
        for step in (placed.step for placed in self._trained(cell)):
            inherited: tuple[tuple[str, Any], ...] = ()
            for roles, names in step.inherits.items():
                source = made[next(role for role in roles if role in made)]
                inherited += tuple((own, getattr(source, theirs)) for own, theirs in names.items())
            kind = step.spec_in(cell)
            chosen = []
            for path in _paths(kind, registry.generation()):  # type: ignore[arg-type]  # mypy takes a class for unhashable.
                own = f"{step.role}.{path}"
                if own in cell:
                    chosen.append((path, cell[own]))
                elif path in cell and not (kind is step.given and path in GIVEN):
                    chosen.append((path, cell[path]))
            read = test_data if test_data and issubclass(kind, specs.EvaluationSpec) else data
            spec = _made(kind, read, tuple(chosen), inherited)  # type: ignore[arg-type]  # mypy takes a class for unhashable.
            if isinstance(spec, specs.DistillationSpec) and spec.teacher_outputs != "live":
                if not spec.keeps_outputs or not any(role in made for roles in step.parents.values() for role in roles):
                    spec = specs.variant(spec, {"teacher_outputs": "live"})
                for number, shard in enumerate(specs.outputs_specs(spec)):
                    made[outputs_role(step.role, number)] = shard
            made[step.role] = spec
        return made


def outputs_role(role: str, number: int) -> str:
    """Role of the stage that keeps part `number` of what the stage `role` reads of its guide; 0 is the base."""
    return f"{OUTPUTS}-{role}-{number}"


def shown_role(role: str) -> str:
    """A role as people and records know it: all parts of kept outputs are one."""
    return OUTPUTS if role.startswith(f"{OUTPUTS}-") else role


def _with_outputs(placed: Placed, made: Mapping[str, StageSpec]) -> Iterator[Placed]:
    """A step behind the stages that keep what it reads of its guide."""
    parts = [role for role in made if role.startswith(outputs_role(placed.role, 0)[:-1])]
    guide = dict.fromkeys(("guide",), *placed.parents.values())
    for role in parts:
        yield Placed(Step(role, specs.OutputsSpec), guide | ({} if role == parts[0] else {"base": parts[0]}))
    more = {f"{OUTPUTS}-{number}": role for number, role in enumerate(parts)}
    yield Placed(placed.step, {**placed.parents, **more})


def _place(steps: tuple[Step, ...], route: str) -> tuple[Placed, ...]:
    there = {step.role for step in steps if step.on(route)}
    placed = []
    for step in steps:
        if step.role in there:
            first = {
                inside: next((role for role in roles if role in there), None) for inside, roles in step.parents.items()
            }
            placed.append(Placed(step, {inside: role for inside, role in first.items() if role is not None}))
    return tuple(placed)


@functools.cache
def _paths(cls: Any, generation: int) -> tuple[str, ...]:
    return tuple(path for path in specs.field_paths(cls) if path not in NOT_PARAMETERS)


@functools.lru_cache(maxsize=65_536)
def _made(
    cls: Any, data: str, chosen: tuple[tuple[str, Any], ...], inherited: tuple[tuple[str, Any], ...]
) -> StageSpec:
    plain: dict[str, Any] = dict(inherited)
    for path, value in chosen:
        if path in plain:
            continue
        head, _, tail = path.rpartition(".")
        if head:
            plain.setdefault(head, {})[tail] = value
        else:
            plain[path] = value
    return specs.variant(_base(cls, data), plain)


def forget() -> None:
    """Specs made while plug-ins were there are no longer remembered."""
    _made.cache_clear()


@functools.cache
def _base(cls: Any, data: str) -> StageSpec:
    """The spec of a kind with every default."""
    return cls(data=data)


# What an evaluation takes over from the network it reads.
_SEEN = {name: name for name in ("resolution", "filter", "blur", "upsample_to", "threads", "precision")}
_SEEN["protocol"] = "task"

HORKD_ASSISTANT = Recipe(
    "horkd",
    (
        Step("teacher", specs.TeacherSpec, given=specs.PretrainedSpec),
        Step("assistant", specs.AssistantSpec, {"teacher": ("teacher",)}),
        Step("evaluation", specs.EvaluationSpec, {"network": ("assistant",)}, {("assistant",): _SEEN}),
    ),
)

_NETWORKS = ("student", "assistant", "teacher", "untrained")

# Every method from one teacher: through an assistant (HORKD) or directly (the baselines), labels alone, and floors.
DISTILLATION = Recipe(
    "distillation",
    (
        Step(
            "teacher",
            specs.TeacherSpec,
            routes=("assistant", "direct", "cross_structure", "teacher"),
            given=specs.PretrainedSpec,
        ),
        Step("assistant", specs.AssistantSpec, {"teacher": ("teacher",)}, routes=("assistant", "cross_structure")),
        Step(
            "student",
            specs.StudentSpec,
            {"guide": ("assistant", "teacher")},
            routes=("assistant", "direct", "plain"),
        ),
        Step("untrained", specs.UntrainedSpec, routes=("untrained",)),
        Step(
            "evaluation",
            specs.EvaluationSpec,
            {"network": _NETWORKS},
            {_NETWORKS: _SEEN},
        ),
    ),
)

# For tests and the benchmark of the engine: the same shape of graph, stages that only sleep.
SLEEP = Recipe(
    "sleep",
    (
        Step("teacher", specs.SleepSpec),
        Step("student", specs.SleepSpec, {"teacher": ("teacher",)}),
        Step("evaluation", specs.SleepSpec, {"network": ("student",)}),
    ),
)
