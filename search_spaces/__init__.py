"""The questions: one file per study, its name is the study's name on the command line."""

from __future__ import annotations

import importlib
import pkgutil

from search_spaces.study import Study
from trainables.errors import UsageError, did_you_mean
from trainables.spec import registry

_NOT_STUDIES = ("study", "claims", "ranges", "arms", "own_data")


def names() -> list[str]:
    """Names of all studies, sorted; imports none of them. Those for our own tests begin with `_` and are left out."""
    return sorted(name for name in _all() if not name.startswith("_"))


def built_in() -> list[str]:
    """Names of the studies that are files here, also of those for our own tests."""
    return [m.name for m in pkgutil.iter_modules(__path__) if m.name not in _NOT_STUDIES]


def _all() -> list[str]:
    own, others = built_in(), registry.plugin_names("study")
    for name in others:
        if name in own:
            raise UsageError(
                f"The study '{name}' must come from one place, but is in search_spaces/{name}.py and in "
                f"{registry.get('study', name).where}. Give yours another name."
            )
    return [*own, *others]


def load(name: str) -> Study:
    """The study of that name.

    Raises:
        UsageError: If there is none.
    """
    known = names()
    if name not in known and name not in _all():
        raise UsageError(
            f"There is no study '{name}'.{did_you_mean(name, known)} `python -m sweeps list` shows all {len(known)}."
        )
    entry = registry.plugin("study", name)
    if entry is not None:
        offered = entry.load()
        if not isinstance(offered, Study):
            raise UsageError(f"STUDY in {entry.where} must be a `search_spaces.study.Study`.")
        return offered
    study: Study = importlib.import_module(f"search_spaces.{name}").STUDY
    assert study.name == name, f"search_spaces/{name}.py holds a study named {study.name}"
    return study
