"""Recipes: which stages a method has, and how flat parameters become their specs. Needs only `spec`.

A parameter named like a spec field (`learning_rate`) goes to every stage that has the field; `teacher.learning_rate`
goes to the teacher alone. Nested groups keep their name (`horkd.alpha`), which may be shortened where nothing else is
called so (`alpha`).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from trainables import spec as specs
from trainables.errors import UsageError, did_you_mean
from trainables.spec import StageSpec

NOT_PARAMETERS = ("seed", "data")  # Seeds are an axis of their own; the data set has its own flags.


@dataclass(frozen=True)
class Step:
    """One stage of a recipe: its role, its spec and which earlier roles it reads."""

    role: str
    spec: type[StageSpec]
    parents: Mapping[str, str] = field(default_factory=dict)  # Role inside the stage -> role in the recipe.
    inherits: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # Role -> fields taken from its spec.


@dataclass(frozen=True)
class Recipe:
    """The stages of a method, parents first; the last one gives the result."""

    name: str
    steps: tuple[Step, ...]

    @property
    def roles(self) -> tuple[str, ...]:
        """Names of the stages, parents first."""
        return tuple(step.role for step in self.steps)

    @property
    def measured(self) -> str:
        """Role of the last training stage: the one pruning watches and evaluation reads."""
        return self.steps[-2].role if len(self.steps) > 1 else self.steps[-1].role

    @functools.cached_property
    def parameters(self) -> dict[str, tuple[Any, dataclasses.Field[Any]]]:
        """Every legal parameter name -> (declared type, field); `teacher.epochs` as well as `epochs`."""
        legal: dict[str, tuple[Any, dataclasses.Field[Any]]] = {}
        for step in self.steps:
            taken = {name for names in step.inherits.values() for name in names}
            for path, entry in specs.field_paths(step.spec).items():
                if path in NOT_PARAMETERS or path in taken:
                    continue
                legal.setdefault(path, entry)
                legal[f"{step.role}.{path}"] = entry
        return legal

    @functools.cached_property
    def short_names(self) -> dict[str, str]:
        """Shortened nested names, where they are unique: `alpha` -> `horkd.alpha`."""
        short: dict[str, list[str]] = {}
        for name in self.parameters:
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
        shown = sorted([n for n in common if "." not in n] + list(self.short_names))
        raise UsageError(
            f"'{name}' is not a parameter of recipe {self.name}."
            f"{did_you_mean(name, [*shown, *self.parameters])} It has: {', '.join(shown)}; "
            f"each also for one stage alone, as in {self.roles[0]}.epochs."
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
        coerced = specs.coerce(value, kind, name)
        specs.check(coerced, declared.metadata, name)
        return coerced

    def specs(self, cell: Mapping[str, Any], data: str) -> dict[str, StageSpec]:
        """Role -> spec (seed 0) of one cell.

        Args:
            cell: Parameters by canonical name; fields that are missing keep their defaults.
            data: Fingerprint of the packed data set.
        """
        made: dict[str, StageSpec] = {}
        for step in self.steps:
            inherited = tuple(
                (name, getattr(made[role], name)) for role, names in step.inherits.items() for name in names
            )
            chosen = []
            for path in _paths(step.spec):  # type: ignore[arg-type]  # mypy takes a class for unhashable.
                own = f"{step.role}.{path}"
                if own in cell:
                    chosen.append((path, cell[own]))
                elif path in cell:
                    chosen.append((path, cell[path]))
            made[step.role] = _made(step.spec, data, tuple(chosen), inherited)  # type: ignore[arg-type]  # mypy takes a class for unhashable.
        return made


@functools.cache
def _paths(cls: Any) -> tuple[str, ...]:
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


@functools.cache
def _base(cls: Any, data: str) -> StageSpec:
    """The spec of a kind with every default."""
    return cls(data=data)


_SEEN = ("resolution", "filter", "blur", "threads", "precision")

HORKD_ASSISTANT = Recipe(
    "horkd",
    (
        Step("teacher", specs.TeacherSpec),
        Step("assistant", specs.AssistantSpec, {"teacher": "teacher"}),
        Step("evaluation", specs.EvaluationSpec, {"network": "assistant"}, {"assistant": _SEEN}),
    ),
)

HORKD = Recipe(
    "horkd",
    (
        Step("teacher", specs.TeacherSpec),
        Step("assistant", specs.AssistantSpec, {"teacher": "teacher"}),
        Step("student", specs.StudentSpec, {"assistant": "assistant"}),
        Step("evaluation", specs.EvaluationSpec, {"network": "student"}, {"student": _SEEN}),
    ),
)

# For tests and the benchmark of the engine: the same shape of graph, stages that only sleep.
SLEEP = Recipe(
    "sleep",
    (
        Step("teacher", specs.SleepSpec),
        Step("student", specs.SleepSpec, {"teacher": "teacher"}),
        Step("evaluation", specs.SleepSpec, {"network": "student"}),
    ),
)
