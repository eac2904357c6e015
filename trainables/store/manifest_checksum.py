"""The checksum of a manifest: of all that it says, metrics included. An artifact's `digest` is over its files alone.

Equal numbers give equal digests on any machine, so the digest cannot cover hosts and times; this one does. Manifests
of earlier versions have none.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

NAME = "manifest_sha256"


def with_checksum(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest and the checksum of all its other entries."""
    # As it will be read back: tuples are lists and numbers among the names are texts by then.
    return {**manifest, NAME: _checksum(json.loads(json.dumps(dict(manifest))))}


def is_covered(manifest: Mapping[str, Any]) -> bool:
    """Whether there is a checksum at all."""
    return NAME in manifest


def holds(manifest: Mapping[str, Any]) -> bool:
    """Whether a manifest is what was published, as far as it has a checksum."""
    return not is_covered(manifest) or manifest[NAME] == _checksum(manifest)


def _checksum(manifest: Mapping[str, Any]) -> str:
    rest = {name: value for name, value in manifest.items() if name != NAME}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()
