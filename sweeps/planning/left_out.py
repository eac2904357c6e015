"""Arms that cannot be with what was asked: left out with a word, so that the others can be compared."""

from __future__ import annotations

import dataclasses
from typing import Any

from search_spaces.study import ARM
from sweeps.planning import plan

# Without any of these nothing is left to compare with the reference.
COMPARED = ("method", "ours")


def leave_out(resolved: plan.Resolved, data: dict[str, Any]) -> dict[str, str]:
    """Take arms that cannot be out of a study; arm -> why.

    Taken out is what follows from the arm itself: a loss on feature maps beside a network that has none. Whatever else
    is wrong stays in, and is refused with the whole study; so does an arm that somebody asked for by name, the arm
    that others are compared with, and everything where no method would be left.

    Args:
        resolved: The study; its axis of arms is changed.
        data: What is known of the data set.
    """
    if ARM not in resolved.axes or resolved.sources.get(ARM) == "--set":
        return {}
    reference = (resolved.study.baseline or {}).get(ARM)
    found: dict[str, str] = {}
    for arm in resolved.axes[ARM]:
        alone = dataclasses.replace(resolved, axes=resolved.axes | {ARM: (arm,)}, _cells=[], _plugins={})
        reasons = list(plan.mistakes_of(alone, data).values())
        if reasons and arm != reference and None not in reasons:
            found[arm] = "; ".join(dict.fromkeys(str(reason) for reason in reasons))
    rest = tuple(arm for arm in resolved.axes[ARM] if arm not in found)
    if not any(resolved.arms[arm].kind in COMPARED for arm in rest):
        return {}
    resolved.axes[ARM] = rest
    resolved.left_out = found
    resolved._cells.clear()
    return found
