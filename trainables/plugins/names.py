"""Which names plug-ins may take."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from trainables import spec as specs
from trainables.errors import UsageError
from trainables.plugins.reading import reading_now
from trainables.spec import networks, registry

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_WORDS = ("arm", "tuning", "route", "none", "auto", "data", "plugin")  # No part's names, and yet taken.
_COLUMNS = ("loss", "top1", "spread")  # Of histories; terms stand beside them by name.


def check_name(kind: str, name: Any, taken: Mapping[str, str]) -> None:
    """Raises UsageError for what is no name, or is taken: name -> what has it."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise UsageError(
            f"The name of a {kind} must be lower-case letters, digits and _, beginning with a letter, but got {name!r}."
        )
    if name in taken:
        raise UsageError(
            f"The {kind} '{name}' of {reading_now().where} cannot be called so: the name is built in, {taken[name]}. "
            "Choose another."
        )


def taken_losses() -> dict[str, str]:
    """Names that no loss may have -> what has them: they are methods, parameters, parts of keys, columns of histories."""
    fields = {path.partition(".")[0] for spec in specs.spec_classes().values() for path in specs.field_paths(spec)}
    losses = [entry for entry in registry.entries("loss") if entry.origin is None]
    terms = {
        term: f"a term of {entry.name}{f', loss.{term} in keys' if term in entry.parts else ''}"
        for entry in losses
        for term in entry.facts["terms"]
    }
    return {
        **dict.fromkeys(fields - set(registry.plugin_names("loss")), "a parameter of stages"),
        **dict.fromkeys((*_WORDS, *_roles(), *registry.names("floor")), "a word with a meaning of its own"),
        **_in_keys("loss"),
        **dict.fromkeys((*_COLUMNS, *registry.names("label_loss")), "a column of histories"),
        **terms,
        **dict.fromkeys((entry.name for entry in losses), "a method"),
    }


def taken_networks() -> dict[str, str]:
    """Names that no network may have -> what has them."""
    return {
        **dict.fromkeys(("auto", "none"), "a word with a meaning of its own"),
        **_in_keys("network"),
        **dict.fromkeys(networks.families(), "a family of weights from files"),
        **dict.fromkeys(networks.of_files(), "an architecture of weights from files"),
        **dict.fromkeys((*specs.ARCHITECTURES, *registry.names("floor")), "an architecture"),
    }


def _roles() -> set[str]:
    """What recipes call their stages, and the stages that keep outputs."""
    return {specs.OUTPUTS, *(role for entry in registry.entries("recipe") for role in entry.load().roles)}


def _in_keys(kind: str) -> dict[str, str]:
    """Names of our own components of a kind: a plug-in's version would stand in keys that it has no part in."""
    found = (component.partition(".") for component in specs.built_in())
    return {name: f"{kind}.{name} in keys" for of, _, name in found if of == kind}
