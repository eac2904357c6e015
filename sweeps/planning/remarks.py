"""What is worth saying of a plan that nobody need refuse."""

from __future__ import annotations

from search_spaces.study import ARM
from sweeps.planning.resolve import Resolved


def without_reference(resolved: Resolved) -> str:
    """What a plan lacks to compare its cells with the study's reference, and how to add it; nothing where it has it."""
    study = resolved.study
    if study.sampled or not study.baseline:
        return ""
    for name, value in study.baseline.items():
        values = resolved.axes.get(name)
        if values is None and name != ARM:
            values = (resolved.parameters.get(name),)
        if values is None or value in values:
            continue
        others = [str(other) for other in values if other is not None]
        return (
            f"The reference of {study.name}, {name}={value}, is not in this plan, so that nothing is compared with it. "
            f"To have it: --set {name}={','.join([str(value), *others])}"
        )
    return ""
