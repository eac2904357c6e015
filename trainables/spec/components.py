"""Versions of the parts that keys are made of."""

from __future__ import annotations

from trainables.spec import registry
from trainables.spec.networks import OUTSIDE

# Of what is no part with a declaration; the versions of parts stand beside their names in the registry. Raise a number
# when the same spec would now give other numbers; it enters the key of every stage that uses the component and earns a
# line under "Changed results" in the changelog.
COMPONENTS: dict[str, int | str] = {
    "degrade": 1,
    "augment": 1,
    "batches": 1,
    "batches.balanced": 1,  # Groups of one class; joins `batches` where `images_per_class` asks for it.
    "loop": 1,
    "guide": 3,  # The images it sees, as its own training normalised them, and its network; 1 was counted in `loop`.
    "outputs": 1,
    "pretrained": 1,  # How files are read as weights, and images made what their networks want.
}

# Groups whose built-in parts stand in keys by themselves.
_IN_KEYS = ("loss", "label_loss", "network", "network_family", "floor", "task")

# A component of a plug-in has no number but the beginning of its file's digest: each edit makes other keys.
Versions = dict[str, int | str]
_OUTSIDE = tuple(f"network.{library}" for library in OUTSIDE)


def version_of(component: str) -> int | str:
    """The version of a component, built in or of a plug-in; networks of other libraries are all at 1."""
    declared = registry.version(component)
    if declared is not None:
        return declared
    if component.startswith(_OUTSIDE):
        return 1  # The library's own version stands in the manifest.
    return COMPONENTS[component]


def built_in() -> Versions:
    """The versions of all components of ours: what is listed here, and what is declared."""
    declared = [entry for group in _IN_KEYS for entry in registry.entries(group) if entry.origin is None]
    return COMPONENTS | {name: version for entry in declared for name, version in entry.components.items()}
