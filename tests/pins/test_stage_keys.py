"""Keys of every kind of stage with every field at another value than its default, under several bases.

`kept/stage_keys.json` holds what was asked as plain fields, as manifests hold them, and what came of it: the key, which
is made of kind, version, used fields, components and parents; a digest of all fields; the components in full. So a renamed
field or group, another default, another neutral rule and another component or version each move something here.
"""

from __future__ import annotations

import dataclasses
import itertools
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from trainables.errors import UsageError
from trainables.spec import SPECS, field_paths, options_of, spec_from, stage_key, to_plain
from trainables.spec.keys import canonical_json, identity

FILE = "stage_keys"
PARENTS = {"network": "f" * 16}
METHODS = "horkd+kd+fitnet+at+rkd+pkt+sp+darkrank+mkd+crd"
TRAINING = ("teacher", "untrained", "pretrained", "assistant", "student")
# What other fields need before they mean anything: kind -> title -> plain fields.
TASKS: dict[str, dict[str, Any]] = {
    "default": {},
    "verification": {"task": "verification", "triplet": {"weight": 0.5}, "augment": "crop", "images_per_class": 4},
    "identification": {"task": "identification", "start_weights": "0" * 16},
}
LABELS_ALONE: dict[str, Any] = {"labels alone": {"method": "none"}, "no order": {"horkd": {"orders": "none"}}}
BASES: dict[str, dict[str, dict[str, Any]]] = {
    **dict.fromkeys(TRAINING, TASKS),
    "assistant": {"default": {}, "all methods": {"method": METHODS}},
    "student": TASKS | LABELS_ALONE | {"all methods": {"method": METHODS}},
    "outputs": {
        "default": {},
        "views": {"part": "views", "augment": "crop", "task": "verification", "stop": 3},
        "epochs": {"part": "epochs", "augment": "crop", "task": "identification", "start": 1, "stop": 3},
    },
    "evaluation": {
        **{task: {"protocol": task} for task in ("classification", "verification", "identification", "retrieval")},
        "nearest": {"reader": "nearest", "head": "nearest"},
        "nearest people": {"protocol": "identification", "head": "nearest"},
    },
    "sleep": {"default": {}},
}
TEXTS = {"orders": "1+3", "method": "kd+rkd", "weights": "a" * 16, "start_weights": "b" * 16, "label": "x", "data": "d"}
# Fields whose other values are no step from the default.
OTHERS = {"upsample_to": 48, "test_resolution": 12, "resolution": 16, "images_per_class": 2}


def other_values(name: str, kind: Any, declared: Any) -> Iterator[Any]:
    """Values of a field besides its default: every option there is, else one."""
    leaf, default = name.rpartition(".")[2], declared.default
    options = options_of(declared.metadata)
    if options:
        yield from (option for option in options if option != default)
    elif leaf in OTHERS:
        yield OTHERS[leaf]
    elif typing.get_origin(kind) in (typing.Union, types.UnionType):
        yield 16
    elif typing.get_origin(kind) is tuple:
        yield [0.25, 0.5] if typing.get_args(kind)[0] is float else [1, 2]
    elif kind is bool:
        yield not default
    elif kind is str:
        yield TEXTS[leaf]
    else:
        low, high = declared.metadata.get("low"), declared.metadata.get("high")
        steps = (default + 1, default - 1) if kind is int else (default * 0.5 or 0.25, default + 1.5)
        yield next(v for v in steps if (low is None or v >= low) and (high is None or v <= high))


def nested(path: str, value: Any) -> dict[str, Any]:
    """`{"kd": {"weight": 1}}` of `kd.weight`."""
    group, dot, leaf = path.partition(".")
    return {group: nested(leaf, value)} if dot else {group: value}


def merged(base: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Both, groups within one another."""
    both = dict(base) | dict(more)
    for name in set(base) & set(more):
        if isinstance(base[name], dict) and isinstance(more[name], dict):
            both[name] = merged(base[name], more[name])
    return both


def asked(kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Title and plain fields, over those of the base that it begins with, of every case that the declared fields give."""
    paths = field_paths(SPECS[kind])
    for title, base in BASES[kind].items():
        yield title, {}
        for path, (declared_type, declared) in paths.items():
            for value in other_values(path, declared_type, declared):
                change = nested(path, value)
                try:
                    spec_from(kind, merged(base, change))
                except UsageError:
                    continue  # Under another base.
                yield f"{title}, {path}={value}", change
    if kind == "student":
        groups: dict[str, Any] = {}
        for path, (declared_type, declared) in paths.items():
            if "." in path and path != "horkd.orders":
                groups = merged(groups, nested(path, list(other_values(path, declared_type, declared))[-1]))
        for method in (*METHODS.split("+"), "none"):
            yield f"default, every group changed, method={method}", groups | {"method": method}
        for count in range(5):
            for orders in itertools.combinations("123C", count):
                on = "+".join(orders) or "none"
                yield f"default, every group changed, orders={on}", merged(groups, {"horkd": {"orders": on}})


def found(kind: str, title: str, change: dict[str, Any], digest: Any) -> dict[str, Any]:
    """What becomes of a case; components where they are not those of its base."""
    base = BASES[kind][title.partition(", ")[0]]
    spec, bare = spec_from(kind, merged(base, change)), spec_from(kind, base)
    told = {"asked": change, "key": stage_key(spec, PARENTS), "fields": digest([canonical_json(to_plain(spec))])}
    of = spec.components()
    return told | ({} if change and of == bare.components() else {"components": of})


@pytest.mark.parametrize("kind", BASES)
def test_keys_of_every_field_at_another_value(kind: str, pin: Any, digest: Any) -> None:
    kept = pin.parts(FILE).get(kind, {})
    cases = {title: case["asked"] for title, case in kept.items()}
    if pin.writes:
        cases = dict(asked(kind))
    pin(FILE, kind, {title: found(kind, title, change, digest) for title, change in cases.items()})


@pytest.mark.parametrize("kind", BASES)
def test_every_declared_field_has_a_case(kind: str, pin: Any) -> None:
    """Fields that come later are written down by PINS=write, too."""
    kept = pin.parts(FILE)[kind]
    assert {title: case["asked"] for title, case in kept.items()} == dict(asked(kind))
    paths = set(field_paths(SPECS[kind]))
    assert {path for path in paths if any(f", {path}=" in title for title in kept)} == paths


@pytest.mark.parametrize("kind", BASES)
def test_what_a_key_is_made_of_in_full(kind: str, pin: Any) -> None:
    """Readable, so that a diff tells what moved."""
    for title, base in BASES[kind].items():
        spec = spec_from(kind, base)
        told = {"identity": identity(spec, PARENTS), "plain": to_plain(spec), "resources": spec.resources()}
        pin("stage_identities", f"{kind}, {title}", told)


@pytest.mark.parametrize("kind", BASES)
def test_defaults_in_full(kind: str, pin: Any) -> None:
    """Defaults that are neutral stand in no plain form."""
    told = {
        path: [declared.default, str(declared_type), bool(declared.metadata.get("neutral"))]
        for path, (declared_type, declared) in field_paths(SPECS[kind]).items()
        if declared.default is not dataclasses.MISSING
    }
    pin("fields", kind, told)


def test_every_kind_is_pinned(pin: Any) -> None:
    assert set(BASES) == set(SPECS)
    pin.only(FILE, set(BASES))
