"""Plug-ins: a loss, network, data set, stage, recipe or study of your own, from one file outside the package.

    from trainables import plugins

    @plugins.loss("variance", weight=1.0)
    def variance(student, teacher, labels): ...

Only files that somebody names, and entry points of installed distributions, are run. A file is known by the SHA-256
of its bytes: equal bytes are one plug-in, and whatever it offers has these digits in the keys of the stages that use it.
No torch here; the file brings what it needs.
"""

from __future__ import annotations

from trainables.plugins.loading import files_of, forget, load, load_entries, load_entry, loaded, use
from trainables.plugins.offers import dataset, loss, network, recipe, recipe_of, stage

__all__ = [
    "dataset",
    "files_of",
    "forget",
    "load",
    "load_entries",
    "load_entry",
    "loaded",
    "loss",
    "network",
    "recipe",
    "recipe_of",
    "stage",
    "use",
]
