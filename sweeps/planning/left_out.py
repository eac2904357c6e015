"""Arms that cannot be with what was asked: left out with a word, so that the others can be compared."""

from __future__ import annotations

import dataclasses

from analysis.arm_kinds import DISTILLED
from search_spaces.study import ARM
from sweeps.planning.checks import mistakes_of
from sweeps.planning.plan import Plan
from sweeps.planning.planner import Planner


def leave_out(plan: Plan) -> Plan:
    """The plan without the arms that cannot be; why is told in `left_out`.

    Taken out is what follows from the arm itself: a loss on feature maps beside a network that has none. Whatever else
    is wrong stays in, and is refused with the whole study; so does an arm that somebody asked for by name, the arm
    that others are compared with, and everything where no method would be left.
    """
    resolved = plan.resolved
    if ARM not in resolved.axes or resolved.sources.get(ARM) == "--set":
        return plan
    reference = (resolved.study.baseline or {}).get(ARM)
    left_out: dict[str, str] = {}
    for arm in resolved.axes[ARM]:
        reasons = list(mistakes_of(Planner(_with_arms(plan, (arm,)))).values())
        if reasons and arm != reference and None not in reasons:
            left_out[arm] = "; ".join(dict.fromkeys(str(reason) for reason in reasons))
    rest = tuple(arm for arm in resolved.axes[ARM] if arm not in left_out)
    # Without any method nothing is left to compare with the reference.
    if not left_out or not any(resolved.arms[arm].kind in DISTILLED for arm in rest):
        return plan
    return dataclasses.replace(_with_arms(plan, rest), left_out=left_out)


def _with_arms(plan: Plan, arms: tuple[str, ...]) -> Plan:
    resolved = dataclasses.replace(plan.resolved, axes={**plan.resolved.axes, ARM: arms})
    return dataclasses.replace(plan, resolved=resolved)
