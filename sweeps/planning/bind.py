"""From words to a plan: a resolved study on its data, with its weight files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sweeps.planning.fitting import tell_of_digits
from sweeps.planning.left_out import leave_out
from sweeps.planning.plan import Plan
from sweeps.planning.resolve import Resolved
from sweeps.planning.weight_files import WeightFiles


def bind(
    resolved: Resolved,
    data: Mapping[str, Any],
    weights: WeightFiles,
    say: Callable[[str], None],
    *,
    name: str,
    test_fingerprint: str = "",
) -> Plan:
    """The plan, without the arms that cannot be.

    Args:
        resolved: The study with every word answered.
        data: What is known of the data set.
        weights: What its files of weights are.
        say: Tells the person what is worth a word.
        name: Of the data set, as it was asked for.
        test_fingerprint: Of the data set that is tested, where it is another one.
    """
    return leave_out(Plan(tell_of_digits(resolved, name, say), data, test_fingerprint, weights))
