"""A parameter's name is taken apart in one place."""

from __future__ import annotations

import dataclasses

import pytest

import search_spaces
from trainables.spec.parameter import Parameter, field_of

ROLES = ("teacher", "student")


@pytest.mark.parametrize(
    ("name", "role", "path", "head", "field"),
    [
        ("epochs", "", "epochs", "epochs", "epochs"),
        ("student.epochs", "student", "epochs", "epochs", "epochs"),
        ("horkd.alpha", "", "horkd.alpha", "horkd", "alpha"),
        ("student.horkd.alpha", "student", "horkd.alpha", "horkd", "alpha"),
        ("assistant.epochs", "", "assistant.epochs", "assistant", "epochs"),  # No role of this recipe.
        ("teacher", "", "teacher", "teacher", "teacher"),
    ],
)
def test_a_name_is_a_role_and_a_path(name: str, role: str, path: str, head: str, field: str) -> None:
    parameter = Parameter.parse(name, ROLES)
    assert (parameter.role, parameter.path, parameter.head, parameter.field) == (role, path, head, field)
    assert parameter.name == name and field_of(name) == field
    assert parameter.of_stage("teacher") == Parameter("teacher", path)


@pytest.mark.parametrize("study", search_spaces.names())
def test_every_parameter_of_every_study_is_its_own_name_again(study: str) -> None:
    recipe = search_spaces.load(study).recipe
    for name in recipe.parameters:
        parameter = Parameter.parse(name, recipe.roles)
        assert parameter.name == name and parameter.role in ("", *recipe.roles)


def test_a_parameter_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Parameter("", "epochs").path = "x"  # type: ignore[misc]
