"""What makes two requests the same run: study, data, parameters, and versions of plug-ins."""

from __future__ import annotations

from typing import Any

from search_spaces.study import ARM
from sweeps.planning.planner import Planner
from trainables import spec as specs
from trainables.spec import registry


def run_id(planner: Planner) -> str:
    """`<study>-<8 hex>` of study, data and parameters: not of seeds, number of trials, machine or resources."""
    plan, resolved = planner.plan, planner.plan.resolved
    identity: dict[str, Any] = {
        "study": resolved.study.name,
        "data": plan.fingerprint,
        "parameters": resolved.parameters,
        "axes": {} if resolved.study.sampled else {k: list(v) for k, v in resolved.axes.items()},
        "pinned": resolved.pinned,
    }
    if not resolved.share:
        identity["share"] = "nothing"
    if plan.test_fingerprint:
        identity["test_data"] = plan.test_fingerprint
    if resolved.arms:
        identity["arms"] = {
            name: [dict(arm.parameters), [dict(trial) for trial in arm.tuning], arm.compute_of]
            for name, arm in resolved.arms.items()
            if name in resolved.axes[ARM]
        }
    versions = plugins(planner)
    if versions:
        identity["plugins"] = versions
    return f"{resolved.study.name}-{specs.short_hash(identity)}"


def plugins(planner: Planner) -> dict[str, Any]:
    """Versions of the plug-ins that cells use: an edited file makes another run, as it makes other keys.

    Whatever a sampled study may draw must have one version, or Optuna would take the scores of two for one: those of
    every choice, and, because a space may ask further, all that files which somebody named offer to stages.
    """
    versions: dict[str, Any] = {}
    if not registry.plugins():
        return versions
    plan = planner.plan
    sampled = plan.resolved.space is not None
    for cell in plan.every_choice() if sampled else plan.examples():
        for spec in planner.specs(cell).values():
            versions |= {n: v for n, v in spec.components().items() if registry.plugin_of(n) is not None}
    if sampled:
        named = (o for o in registry.plugins() if o.group in ("loss", "network", "stage") and not o.source.entry)
        versions |= {offer.component: offer.version for offer in named}
    return versions
