"""Keys: 16 hex digits over the canonical JSON of what changes a stage's numbers."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from trainables.spec.fields import to_plain
from trainables.spec.stages import StageSpec

SEED_MARK = 2_147_483_646  # Stands for any seed in a key template; no spec may use it.


class KeyTemplate:
    """Makes the keys of one spec under many seeds: what they share is hashed once."""

    def __init__(self, spec: StageSpec, roles: tuple[str, ...]) -> None:
        # Marks are numbers, because no text of a field can read like a name and a number: its quotes are escaped.
        marked = identity(spec, dict.fromkeys(roles, SEED_MARK))
        if "seed" in marked["fields"]:
            marked["fields"]["seed"] = SEED_MARK
        text = canonical_json(marked)
        marks = {f'"{name}":{SEED_MARK}': name for name in ("seed", *roles)}
        parts = re.split("(" + "|".join(re.escape(mark) for mark in marks) + ")", text)
        self._start = hashlib.sha256(parts[0].encode())
        self._rest = [(marks.get(part), part.encode()) for part in parts[1:]]

    def key(self, seed: int, parents: Mapping[str, str]) -> str:
        """What `stage_key` gives for the spec under `seed` with `parents`."""
        digest = self._start.copy()
        for name, text in self._rest:
            if name is None:
                digest.update(text)
            elif name == "seed":
                digest.update(f'"seed":{seed}'.encode())
            else:
                digest.update(f'"{name}":"{parents[name]}"'.encode())
        return digest.hexdigest()[:16]


def identity(spec: StageSpec, parents: Mapping[str, Any]) -> dict[str, Any]:
    """Everything a key is made of."""
    return {
        "kind": spec.kind,
        "version": spec.version,
        "fields": to_plain(spec, only_used=True),
        "components": spec.components(),
        "parents": dict(parents),
    }


def stage_key(spec: StageSpec, parents: Mapping[str, str]) -> str:
    """16 hex digits: equal for equal numbers, and only then.

    Args:
        spec: What the stage does.
        parents: Role -> key of the artifacts it reads.
    """
    return hashlib.sha256(canonical_json(identity(spec, parents)).encode()).hexdigest()[:16]


def canonical_json(value: Any) -> str:
    """JSON with sorted keys, no spaces, no NaN: equal values give equal text."""
    return _CANONICAL.encode(value)


# Made once: building an encoder takes longer than encoding a spec.
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)


def short_hash(value: Any, digits: int = 8) -> str:
    """The first hex digits of the SHA-256 of the canonical JSON of `value`."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:digits]
