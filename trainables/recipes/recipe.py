"""A recipe: the stages of a method, and how the parameters of a cell become their specs."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from trainables import spec as specs
from trainables.errors import UsageError, did_you_mean_any
from trainables.recipes.parameters import NOT_PARAMETERS, legal_names, nested, shortened
from trainables.recipes.step import Placed, Step, outputs_role, place, with_outputs
from trainables.spec import GIVEN, StageSpec, registry
from trainables.spec.parameter import Parameter
from trainables.stages.outputs import outputs_specs


@dataclass(frozen=True)
class Recipe:
    """The stages of a method, parents first; the last one gives the result.

    A recipe with routes has a parameter `route`, which says which of the stages a cell has.
    """

    name: str
    steps: tuple[Step, ...]
    routes: tuple[str, ...] = ()  # The default first; none given means those of the steps, as they come.
    result: tuple[str, ...] = ()  # Roles, of which the first that a cell has is what its result is about; none given
    # means the last one before the evaluation.
    teacher: str = "teacher"  # The role all that learns hangs from: what has another one is not compared.

    @property
    def roles(self) -> tuple[str, ...]:
        """Names of the stages, parents first."""
        return tuple(step.role for step in self.steps)

    @functools.cached_property
    def all_routes(self) -> tuple[str, ...]:
        """The routes that cells can take, the default first; none where all cells have the same stages."""
        return self.routes or tuple(dict.fromkeys(route for step in self.steps for route in step.routes))

    @property
    def has_routes(self) -> bool:
        """Whether cells differ in the stages they have."""
        return bool(self.all_routes)

    def measured(self, roles: Iterable[str]) -> str:
        """Of the stages a cell has, the one that pruning watches and the result is about."""
        there = set(roles)
        present = [role for role in self.roles if role in there]
        return next((role for role in self.result if role in there), present[-2] if len(present) > 1 else present[-1])

    def steps_of(self, cell: Mapping[str, Any]) -> tuple[Placed, ...]:
        """The stages of a cell, with the parents they read in it; kept outputs of its frozen networks among them."""
        placed = self._trained(cell)
        if not any(name.endswith("teacher_outputs") and value != "live" for name, value in cell.items()):
            return placed
        made = self.specs(cell, "")
        return tuple(part for step in placed for part in with_outputs(step, made))

    def _trained(self, cell: Mapping[str, Any]) -> tuple[Placed, ...]:
        return self._placed[str(cell.get("route", self.all_routes[0])) if self.has_routes else ""]

    @functools.cached_property
    def _placed(self) -> dict[str, tuple[Placed, ...]]:
        return {route: place(self.steps, route) for route in self.all_routes or ("",)}

    @property
    def parameters(self) -> dict[str, tuple[Any, dataclasses.Field[Any]]]:
        """Every legal parameter name -> (declared type, field); `teacher.epochs` as well as `epochs`."""
        known = self.__dict__.get("_parameters")
        if known is None or known[0] != registry.generation():  # Plug-ins bring options of their own.
            legal = legal_names(self.steps, self.all_routes)
            known = self.__dict__["_parameters"] = (registry.generation(), legal)
        return known[1]

    @functools.cached_property
    def short_names(self) -> dict[str, str]:
        """Shortened nested names, where they are unique: `alpha` -> `horkd.alpha`."""
        return shortened(self.parameters, self.roles)

    def canonical(self, name: str) -> str:
        """The full name of a parameter.

        Raises:
            UsageError: If the recipe has no such parameter.
        """
        if name in self.parameters:
            return name
        if name in self.short_names:
            return self.short_names[name]
        common = [n for n in self.parameters if not Parameter.parse(n, self.roles).role]
        raise UsageError(
            f"'{name}' is not a parameter of recipe {self.name}."
            f"{did_you_mean_any(name, self.parameters if '.' in name else [*common, *self.short_names])}"
        )

    def declared(self, name: str) -> Mapping[str, Any]:
        """What the field of a parameter declares beside its type: `low`, `options`, `parts`; nothing of other names."""
        full = self.short_names.get(name, name)
        return self.parameters[full][1].metadata if full in self.parameters else {}

    def coerce(self, name: str, value: Any) -> Any:
        """`value` with the type and within the limits the parameter declares.

        Raises:
            UsageError: If it does not fit.
        """
        full = self.canonical(name)
        kind, declared = self.parameters[full]
        if "canonical" in declared.metadata:
            return declared.metadata["canonical"](value)
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
        generation = registry.generation()
        made: dict[str, StageSpec] = {}
        for step in (placed.step for placed in self._trained(cell)):
            inherited: tuple[tuple[str, Any], ...] = ()
            for roles, names in step.inherits.items():
                source = made[next(role for role in roles if role in made)]
                inherited += tuple((own, getattr(source, read)) for own, read in names.items())
            kind = step.spec_in(cell)
            chosen = []
            for path in _paths(kind, generation):  # type: ignore[arg-type]  # mypy takes a class for unhashable.
                own = f"{step.role}.{path}"
                if own in cell:
                    chosen.append((path, cell[own]))
                elif path in cell and not (kind is step.given and path in GIVEN):
                    chosen.append((path, cell[path]))
            read = test_data if test_data and kind.reads_test else data
            spec = _made(kind, read, tuple(chosen), inherited, generation)  # type: ignore[arg-type]  # The same.
            if specs.learns(spec) and spec.teacher_outputs != "live":
                if not spec.keeps_outputs or not any(role in made for roles in step.parents.values() for role in roles):
                    spec = specs.variant(spec, {"teacher_outputs": "live"})
                for number, shard in enumerate(outputs_specs(spec)):
                    made[outputs_role(step.role, number)] = shard
            made[step.role] = spec
        return made


@functools.cache
def _paths(cls: Any, generation: int) -> tuple[str, ...]:
    return tuple(path for path in specs.field_paths(cls) if path not in NOT_PARAMETERS)


@functools.lru_cache(maxsize=65_536)
def _made(
    cls: Any, data: str, chosen: tuple[tuple[str, Any], ...], inherited: tuple[tuple[str, Any], ...], generation: int
) -> StageSpec:
    """The spec that values make; not that of other plug-ins, which may have options of the same names."""
    return specs.variant(_base(cls, data), nested(chosen, dict(inherited)))


@functools.cache
def _base(cls: Any, data: str) -> StageSpec:
    """The spec of a kind with every default."""
    return cls(data=data)


def recipe_entry(recipe: Recipe) -> registry.Entry:
    """The declaration of a built-in recipe, which its file calls ENTRY."""
    return registry.Entry(group="recipe", name=recipe.name, implementation=recipe)
