"""A teacher from a file as its artifact keeps it: weights.safetensors, and teacher.json with what it wants to see."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file

from trainables.data.preprocess import Preprocessing
from trainables.errors import ArtifactError, UsageError
from trainables.models.network import Network
from trainables.pretrained.families import Found, assemble, identify
from trainables.pretrained.shelf import described, require, verified
from trainables.spec import GivenSpec
from trainables.store.artifacts import Artifact

WEIGHTS, ABOUT = "weights.safetensors", "teacher.json"


def open_weights(path: Path, spec: GivenSpec, *, name: str) -> tuple[Network, Found]:
    """The network of a safetensors file with its weights, frozen; `network.preprocessing` is what it wants to see.

    Raises:
        UsageError: If the file does not fit the spec.
        ArtifactError: If it is damaged.
    """
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise ArtifactError(f"The weights {path} cannot be read: {str(error)[:200]}") from error
    shapes = {key: tuple(value.shape) for key, value in tensors.items()}
    found = identify(shapes, spec, name=name)
    network = assemble(tensors, found, keep_head=spec.head == "keep")
    network.preprocessing = found.preprocessing  # type: ignore[assignment]  # No module, an attribute beside them.
    return network, found


def load_frozen(artifact: Artifact, spec: GivenSpec) -> Network:
    """The network of a `pretrained` artifact.

    Raises:
        ArtifactError: If the artifact is damaged or its weights do not fit.
    """
    try:
        about = json.loads(artifact.file(ABOUT, verify=True).read_text(encoding="utf-8"))
        network, _ = open_weights(artifact.file(WEIGHTS, verify=True), spec, name=str(about["file"]))
        # As it was when the stage was published, whatever another library says of its networks by now.
        network.preprocessing = Preprocessing.from_plain(about["preprocessing"])  # type: ignore[assignment]
    except (UsageError, OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"The weights of artifact {artifact.key} cannot be used: {str(error)[:300]}") from error
    return network


def open_from_store(root: Path, spec: GivenSpec) -> tuple[Network, Found, Path, dict[str, Any]]:
    """The network that a spec names, from the store's weights: with their path, and what is known of them.

    Raises:
        UsageError: If the store has no such weights, or they do not fit.
        ArtifactError: If they were altered.
    """
    path, about = verified(root, spec.weights), require(root, spec.weights)
    network, found = open_weights(path, spec, name=str(about.get("file")))
    return network, found, path, about | described(found)


def write_artifact(folder: Path, weights: Path, about: dict[str, Any]) -> None:
    """Fill the folder of an artifact: one copy of the weights on the disk where that can be had."""
    try:
        os.link(weights, folder / WEIGHTS)
    except OSError:
        shutil.copyfile(weights, folder / WEIGHTS)
    kept = {name: value for name, value in about.items() if name != "converted_sha256"}
    (folder / ABOUT).write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n", encoding="utf-8")
