"""A parameter's name, taken apart once: the stage that it is for, and the field of that stage."""

from __future__ import annotations

import functools
from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True)
class Parameter:
    """`student.horkd.alpha`: the field `horkd.alpha` of the stage `student`; without a role it is for all stages."""

    role: str
    path: str

    @classmethod
    def parse(cls, name: str, roles: Collection[str]) -> Parameter:
        """Take a name apart.

        Args:
            name: As a cell, an axis or `--set` has it.
            roles: Of the recipe's stages; what else stands before the first dot is a group of fields.
        """
        return _parsed(name, tuple(roles))

    @property
    def name(self) -> str:
        """As it is written."""
        return f"{self.role}.{self.path}" if self.role else self.path

    @property
    def head(self) -> str:
        """The field of the spec itself, which may be a group of fields: `horkd`."""
        return self.path.partition(".")[0]

    @property
    def field(self) -> str:
        """Its own name in the group or the stage: `alpha`."""
        return field_of(self.path)

    def of_stage(self, role: str) -> Parameter:
        """The same field of one stage."""
        return Parameter(role, self.path)


@functools.lru_cache(maxsize=65_536)
def _parsed(name: str, roles: tuple[str, ...]) -> Parameter:
    role, dot, path = name.partition(".")
    return Parameter(role, path) if dot and role in roles else Parameter("", name)


def field_of(name: str) -> str:
    """The last part of a parameter's name, which needs no roles to be told: `alpha` of `student.horkd.alpha`."""
    return name.rpartition(".")[2]
