"""Arguments and flags that several commands take."""

from __future__ import annotations

from typing import Any

import click

from sweeps import example
from sweeps.commands import completion
from trainables.errors import UsageError

MODES = ("local", "slurm", "slurm-gang", "slurm-array")  # Where the stages of a run may train.


def study_argument(function: Any) -> Any:
    """Adds the name of a study; without one all are named."""

    def named(context: click.Context, parameter: click.Parameter, word: str | None) -> str | None:
        if word is None and not context.resilient_parsing:
            import search_spaces

            rows = [f"  {name:<30} {search_spaces.load(name).title}" for name in search_spaces.names()]
            words = f"python -m sweeps {context.info_name} {example.STUDY}"
            raise UsageError("\n".join([f"Name a study, for example: {words}", "There are:", *rows]))
        return word

    return click.argument("study", required=False, metavar="STUDY", callback=named, shell_complete=completion.studies)(
        function
    )


def run_argument(function: Any) -> Any:
    """Adds a run: `latest`, a name, the beginning of one, or a path."""
    return click.argument("run", required=False, metavar="[RUN]", shell_complete=completion.runs)(function)


def preset_flag(words: str) -> Any:
    """Gives --preset."""
    return click.option("--preset", metavar="NAME", shell_complete=completion.presets, help=words)


def json_flag(function: Any) -> Any:
    """Adds --json."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")(function)


def place_flags(function: Any) -> Any:
    """Adds --out and --store."""
    function = click.option(
        "--store", metavar="DIR", help="The store of artifacts, if not OUT/store [env: SWEEPS_STORE]."
    )(function)
    return click.option("--out", metavar="DIR", help="Folder of runs/ and store/ [env: SWEEPS_OUT; default: here].")(
        function
    )


def plugin_flag(function: Any) -> Any:
    """Adds --plugins, which is answered at once: whatever comes after it may name what the files offer."""

    def load(context: click.Context, parameter: click.Parameter, words: tuple[str, ...]) -> list[str]:
        from sweeps.runs import plugin_files

        plugin_files.load(words)
        return plugin_files.named(words)  # What asks for the same elsewhere must name those of the environment, too.

    return click.option(
        "--plugins",
        multiple=True,
        metavar="PATH",
        callback=load,
        is_eager=True,
        help="A file, or a folder of them, with your own losses, networks, data sets or studies [env: SWEEPS_PLUGINS].",
    )(function)


def study_flags(function: Any) -> Any:
    """Adds what run and show share."""
    flags = [
        preset_flag(
            "demo, small, own (made from the data), tuning, paper or tiny [default: what the data has, else own]."
        ),
        click.option(
            "--data", metavar="NAME", shell_complete=completion.data_sets, help="A name of `data list`, or folder:PATH."
        ),
        click.option("--data-root", metavar="DIR", help="Where the data set lies [env: SWEEPS_DATA_ROOT]."),
        click.option("--data-size", type=int, metavar="PIXELS", help="Side at which image files are packed."),
        click.option(
            "--test-data",
            metavar="NAME",
            shell_complete=completion.data_sets,
            help="Another data set to test, all of it; --data is trained on.",
        ),
        click.option("--test-data-root", metavar="DIR", help="Where that one lies [default: --data-root]."),
        click.option("--seeds", metavar="N", help="5 means seeds 0 to 4; also 100-104 or 0,3,7."),
        click.option(
            "--set",
            "settings",
            multiple=True,
            metavar="KEY=VALUE",
            shell_complete=completion.settings,
            help="Any parameter (`params STUDY` lists them); several values: an axis.",
        ),
        click.option("--trials", type=int, metavar="N", help="Cells of a study that draws them."),
        click.option("--no-share", "share", flag_value=False, default=True, help="Train equal stages once per trial."),
        plugin_flag,
    ]
    for flag in reversed(flags):
        function = flag(function)
    return function


def cluster_flags(function: Any) -> Any:
    """Adds what says where a run goes."""
    modes = click.Choice(MODES)
    flags = [
        click.option("--on", type=modes, default="local", show_default=True, help="Where the stages run."),
        click.option("--workers", type=int, metavar="N", help="SLURM: nodes that train, at most [2]."),
        click.option(
            "--profile",
            "profiles",
            multiple=True,
            metavar="NAME[:N]",
            shell_complete=completion.profiles,
            help="SLURM: what a node is.",
        ),
        click.option("--slurm", multiple=True, metavar="KEY=VALUE", help="SLURM: over the profile."),
        click.option(
            "--need", "needs", multiple=True, metavar="ROLE:KEY=VALUE", help="What a stage takes: gpu, cpus, memory_gb."
        ),
        click.option("--wait", is_flag=True, help="SLURM: follow the run to its end."),
    ]
    for flag in reversed(flags):
        function = flag(function)
    return function
