"""What the shell offers after a tab: names of studies, presets, data sets, parameters, runs.

Set up with `eval "$(_SWEEPS_COMPLETE=bash_source sweeps)"`; zsh_source and fish_source do the same for these shells.
Whatever goes wrong meanwhile offers nothing: nobody asked for an error.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable

import click

VARIABLE = "_SWEEPS_COMPLETE"
Offer = Callable[[click.Context, click.Parameter, str], list[str]]


def _beginning(offer: Callable[[click.Context], Iterable[str]]) -> Offer:
    """Those of what is offered that begin as what was typed."""

    @functools.wraps(offer)
    def complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
        try:
            return [name for name in offer(context) if name.startswith(incomplete)]
        except Exception:  # A damaged file, an unknown study: the command itself will say it.
            return []

    return complete


def _study(context: click.Context) -> str | None:
    """The study that was named before; behind an option without its value words are not told apart yet."""
    return context.params.get("study") or next(iter(context.args), None)


@_beginning
def studies(context: click.Context) -> Iterable[str]:
    """Names of all studies."""
    import search_spaces

    return search_spaces.names()


@_beginning
def presets(context: click.Context) -> Iterable[str]:
    """The presets of the study that was named before, else of any."""
    import search_spaces

    named = _study(context)
    known = [named] if named else search_spaces.names()
    return sorted({preset for name in known for preset in search_spaces.load(name).preset_names})


@_beginning
def data_sets(context: click.Context) -> Iterable[str]:
    """Names of data sets, and the beginning of a folder's."""
    from trainables.data.catalog import DATASETS

    return [*DATASETS, "folder:"]


@_beginning
def settings(context: click.Context) -> Iterable[str]:
    """Names of the study's parameters with their sign of equality, and the arms."""
    import search_spaces

    study = search_spaces.load(str(_study(context)))
    return [*(f"arm={arm}" for arm in study.arms), *(f"{name}=" for name in study.recipe.parameters)]


@_beginning
def runs(context: click.Context) -> Iterable[str]:
    """The runs there are, the latest first."""
    from sweeps.runs.folder import Place, list_runs

    place = Place.of(context.params.get("out"), None)
    return ["latest", *(run.id for run in list_runs(place))]


@_beginning
def profiles(context: click.Context) -> Iterable[str]:
    """Names of SLURM profiles."""
    from slurm.profile_files import available

    return [name for name, _ in available()]
