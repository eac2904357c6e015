"""The words of a command as a request."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from sweeps.commands.output import narrate

if TYPE_CHECKING:
    from sweeps.planning.request import Request


def request_of_words(study: str, **words: Any) -> Request:
    """The request that a command line stands for, with paths that mean the same in every folder."""
    import search_spaces
    from sweeps.planning.parameters import spelled_out
    from sweeps.planning.request import Request
    from sweeps.runs.whereabouts import absolute

    for name in ("settings", "profiles", "slurm", "needs", "plugins"):
        words[name] = list(words.get(name) or ())
    words["data_root"] = words.get("data_root") or os.environ.get("SWEEPS_DATA_ROOT")
    # A run is resumed from any folder, so that its paths must not hang on this one.
    for name in ("data_root", "test_data_root"):
        words[name] = absolute(words[name]) if words.get(name) else None
    for name in ("data", "test_data"):
        prefix, colon, path = (words.get(name) or "").partition(":")
        if prefix == "folder" and path:
            words[name] = f"{prefix}{colon}{absolute(path)}"
    words["plugins"] = [absolute(path) for path in words["plugins"]]
    question = search_spaces.load(study)
    words["settings"], notes = spelled_out(question, words["settings"])
    for note in notes:
        narrate(note)
    if words.get("preset") is None:
        words["preset"] = question.preset_for(words.get("data"))
    return Request(study=study, **words)
