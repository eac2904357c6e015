"""What a person asked for: the words of one command, as they are kept in run.json."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

import search_spaces


@dataclass(frozen=True)
class Setting:
    """What `--set` takes: `name=value`, taken apart."""

    name: str
    rest: str  # The sign of equality and what follows; nothing where it is missing.

    @classmethod
    def parse(cls, text: str) -> Setting:
        """Take a word apart."""
        name, equals, value = text.partition("=")
        return cls(name.strip(), equals + value)

    @property
    def whole(self) -> bool:
        """Whether it has a name and a sign of equality."""
        return bool(self.name and self.rest)

    @property
    def values(self) -> list[str]:
        """Its values; several are separated by commas."""
        return [part.strip() for part in self.rest[1:].split(",")]


@dataclass(frozen=True)
class Request:
    """What a person asked for, as it is kept in run.json."""

    study: str
    preset: str = "demo"
    data: str | None = None
    data_root: str | None = None
    data_size: int | None = None
    test_data: str | None = None  # Another data set that is tested.
    test_data_root: str | None = None
    settings: Sequence[str] = ()
    seeds: str | None = None
    trials: int | None = None
    jobs: int | None = None
    gpus: int | None = None
    gpu_share: float = 1.0
    needs: Sequence[str] = ()
    new: bool = False
    on: str = "local"
    profiles: Sequence[str] = ()  # Of worker jobs: NAME or NAME:WORKERS.
    workers: int | None = None
    slurm: Sequence[str] = ()  # KEY=VALUE over the profiles.
    share: bool = True  # Whether equal stages are trained once.
    report: bool = True  # Whether the jobs write the page at the end.
    plugins: Sequence[str] = ()  # Files and folders, as they were named.

    def command(self, place_words: Sequence[str] = ()) -> str:
        """The command line that asks for the same.

        Args:
            place_words: The flags that name its place, where it needs to be named.
        """
        words = ["python", "-m", "sweeps", "run", self.study]
        for path in self.plugins:
            words += ["--plugins", path]
        implied = search_spaces.load(self.study).preset_for(self.data)
        for flag, value in (
            ("--preset", self.preset if self.preset != implied else None),
            ("--data", self.data),
            ("--data-root", self.data_root),
            ("--data-size", self.data_size),
            ("--test-data", self.test_data),
            ("--test-data-root", self.test_data_root),
            ("--seeds", self.seeds),
            ("--trials", self.trials),
        ):
            if value is not None:
                words += [flag, str(value)]
        for setting in self.settings:
            words += ["--set", setting]
        if not self.share:
            words += ["--no-share"]
        if self.on != "local":
            words += ["--on", self.on]
            if self.workers is not None:
                words += ["--workers", str(self.workers)]
        for flag, several in (("--profile", self.profiles), ("--slurm", self.slurm), ("--need", self.needs)):
            for value in several:
                words += [flag, value]
        return shlex.join([*words, *place_words])
