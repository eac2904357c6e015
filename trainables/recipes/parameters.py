"""Names of parameters: of a role or of all stages, in full or shortened."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from trainables import spec as specs
from trainables.recipes.step import Step
from trainables.spec.parameter import Parameter

NOT_PARAMETERS = ("seed", "data")  # Seeds are an axis of their own; the data set has its own flags.

Legal = dict[str, tuple[Any, dataclasses.Field[Any]]]  # Full name -> (declared type, field).


def legal_names(steps: tuple[Step, ...], routes: tuple[str, ...]) -> Legal:
    """Every legal name -> (declared type, field); `teacher.epochs` as well as `epochs`."""
    legal: Legal = {}
    if routes:
        route = ("route", str, specs.choice(routes[0], routes))
        legal.update(
            specs.field_paths(
                dataclasses.make_dataclass("RouteFields", [route], bases=(specs.Fields,), frozen=True, kw_only=True)
            )
        )
    for step in steps:
        taken = {name for names in step.inherits.values() for name in names}
        for path, entry in specs.field_paths(step.spec).items():
            if path in NOT_PARAMETERS or path in taken:
                continue
            legal.setdefault(path, entry)
            legal[Parameter(step.role, path).name] = entry
        if step.given is not None:
            # Its own fields are named with the role alone: others have a `head`, too.
            own = specs.field_paths(step.given)
            legal.update({Parameter(step.role, name).name: own[name] for name in specs.GIVEN if name in own})
    return legal


def shortened(legal: Legal, roles: Iterable[str]) -> dict[str, str]:
    """Shortened nested names, where they are unique: `alpha` -> `horkd.alpha`."""
    roles = tuple(roles)
    short: dict[str, list[str]] = {}
    for name, (_, declared) in legal.items():
        if "plugin" in declared.metadata:
            continue  # What people may shorten does not depend on their plug-ins.
        parameter = Parameter.parse(name, roles)
        if "." in name and not parameter.role and parameter.field not in legal:
            short.setdefault(parameter.field, []).append(name)
    return {tail: names[0] for tail, names in short.items() if len(names) == 1}


def nested(chosen: Iterable[tuple[str, Any]], plain: Mapping[str, Any]) -> dict[str, Any]:
    """Values by path as groups of fields; what `plain` has stays."""
    made = dict(plain)
    for path, value in chosen:
        if path in made:
            continue
        head, _, tail = path.rpartition(".")
        if head:
            made.setdefault(head, {})[tail] = value
        else:
            made[path] = value
    return made
