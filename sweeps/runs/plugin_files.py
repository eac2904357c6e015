"""Plug-ins on their way through a run: named by a person, copied into the run's folder, carried to its workers."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import search_spaces
from sweeps.runs.folder import RunFolder
from trainables import plugins
from trainables.errors import ArtifactError, SweepsError, UsageError
from trainables.spec import registry
from trainables.spec.registry import Origin
from trainables.store.files import make_folder, write_atomically

VARIABLE = "SWEEPS_PLUGINS"
FOLDER = "plugins"


def load(words: Sequence[str]) -> None:
    """What installed distributions offer, what `SWEEPS_PLUGINS` names, and what `--plugins` names.

    A distribution that is broken is told on stderr and passed over.

    Raises:
        UsageError: If a file is missing, fails, offers nothing or takes a name that is taken.
    """
    for sentence in plugins.load_entries():
        print(f"Warning: {sentence}", file=sys.stderr)
    load_files(named(words))


def named(words: Sequence[str]) -> list[str]:
    """The paths that a person named, in `SWEEPS_PLUGINS` or by `--plugins`, each once."""
    inherited = [word for word in os.environ.get(VARIABLE, "").split(os.pathsep) if word]
    return list(dict.fromkeys((*inherited, *words)))


def load_files(words: Sequence[str]) -> list[Origin]:
    """The plug-ins in files and folders.

    Raises:
        UsageError: As `load`.
    """
    found = [plugins.load(path, where=_near(path)) for path in plugins.files_of(words)]
    search_spaces.names()  # Refuses a study whose name is built in.
    return found


def _near(path: Path) -> str:
    """A path as people would type it here."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def copy_of(run: RunFolder, origin: Origin) -> Path:
    """Where the copy of a plug-in lies in a run's folder."""
    return run.path / FOLDER / f"{origin.version}_{origin.file}"


def used(study: str, data: Sequence[str | None], components: Iterable[str]) -> list[Origin]:
    """What a run rests on: every file that was named, and of entry points those that it uses.

    Whatever else is installed may change or go without concern to the run.

    Args:
        study: Its name.
        data: Names of its data sets.
        components: Of its stages: `loss.variance`.
    """
    recipe = search_spaces.load(study).recipe
    wanted = {("study", study), *(("dataset", name) for name in data if name)}
    wanted |= {(kind, name) for kind, _, name in (component.partition(".") for component in components)}
    asked = {
        offer.source.mark
        for offer in registry.plugins()
        if (offer.group, offer.name) in wanted or (offer.group == "recipe" and offer.implementation is recipe)
    }
    return [origin for origin in plugins.loaded() if not origin.entry or origin.mark in asked]


def rows(origins: Sequence[Origin], before: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What run.json says of plug-ins; `before` is what it said."""
    told = {(row["sha256"], row.get("entry") or ""): row["where"] for row in before.get("plugins") or ()}
    return [
        {
            "file": origin.file,
            "sha256": origin.sha256,
            "where": told.get(origin.mark, origin.where),  # Not the copy that a later command read.
            "entry": origin.entry or None,
            "copy": None if origin.entry else f"{FOLDER}/{origin.version}_{origin.file}",
            "offers": [f"{offer.group} {offer.name}" for offer in registry.plugins(origin=origin)],
        }
        for origin in origins
    ]


def keep(run: RunFolder, origins: Sequence[Origin]) -> None:
    """Copy plug-ins into the run's folder, as they were read: workers and later commands take them from there."""
    files = [origin for origin in origins if not origin.entry]
    if files:
        make_folder(run.path / FOLDER)
    for origin in files:
        path = copy_of(run, origin)
        if not path.is_file() or path.read_bytes() != origin.content:
            write_atomically(path, origin.content)


def carried(run: RunFolder) -> list[dict[str, str]]:
    """What an order says of plug-ins: the copy's path or the entry point, and the digest it must have."""
    found = []
    for origin in plugins.loaded():
        row = {"file": origin.file, "sha256": origin.sha256, "where": origin.where}
        if origin.entry:
            found.append(row | {"entry": origin.entry})
        elif copy_of(run, origin).is_file():
            found.append(row | {"path": str(copy_of(run, origin))})
    return found


def part_for(rows: Sequence[Mapping[str, str]], components: Iterable[str]) -> list[Mapping[str, str]]:
    """Of what `carried` says, what a stage with these components, its own and those of what it reads, cannot do without.

    Files before one that is used come along, because it may rest on them. What no stage uses can fail no stage.
    """
    offers = map(registry.plugin_of, components)
    wanted = {offer.source.mark for offer in offers if offer is not None}
    used = [(row["sha256"], row.get("entry", "")) in wanted for row in rows]
    last = max((place for place, row in enumerate(rows) if used[place] and not row.get("entry")), default=-1)
    return [row for place, row in enumerate(rows) if used[place] or (place <= last and not row.get("entry"))]


def use_those_of(run: RunFolder, content: Mapping[str, Any]) -> None:
    """Load the plug-ins of a run from its own copies, so that nobody needs to name them again.

    Raises:
        UsageError: If one cannot be loaded, or another file is loaded that offers the same.
        ArtifactError: If a copy was altered.
    """
    for row in content.get("plugins") or ():
        try:
            if row.get("entry"):
                plugins.use([{"entry": row["entry"], "sha256": row["sha256"], "where": row["where"]}])
            else:
                meant = {"sha256": row["sha256"], "file": row["file"], "where": f"{row['file']} of {run.id}"}
                plugins.use([{"path": str(run.path / row["copy"]), **meant}])
        except ArtifactError:
            raise
        except SweepsError as error:
            raise _rests_on_copies(run, error) from None


def load_more(run: RunFolder, words: Sequence[str]) -> None:
    """Plug-ins beside those of a run, which are loaded.

    Raises:
        UsageError: If one offers what the run's own copies offer, and is another file; or as `load`.
    """
    try:
        load_files(words)
    except UsageError as error:
        raise _rests_on_copies(run, error) from None


def _rests_on_copies(run: RunFolder, error: SweepsError) -> UsageError:
    return UsageError(
        f"{error}\n{run.id} continues with its own copies of its plug-ins, in {run.path / FOLDER}. To use an edited file, give "
        "the run command with --plugins: that starts another run."
    )


def described() -> list[dict[str, Any]]:
    """All that plug-ins offer, for lists."""
    return [
        {"kind": offer.group, "name": offer.name, "from": offer.where, "sha256": offer.source.sha256}
        for offer in registry.plugins()
    ]
