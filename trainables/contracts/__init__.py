"""What every loss, network and data set must do, as functions: our own tests and `python -m sweeps check` run the same.

A contract is a sentence and a function that raises `Broken` when the sentence does not hold. Stages and studies have
theirs in `sweeps.commands.contracts`, because they need a plan.
"""

from __future__ import annotations

from typing import NoReturn

from trainables.errors import SweepsError


class Broken(SweepsError):
    """A contract does not hold; the message says where."""


def broken(why: str) -> NoReturn:
    """Say that it does not hold."""
    raise Broken(why)
