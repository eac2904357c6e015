"""The commands on teachers from files: `teachers check FILE` says what a file is, `teachers list` what the store has."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

from sweeps.commands.flags import json_flag, place_flags
from sweeps.commands.group import Commands
from sweeps.commands.output import answer, table


@click.group("teachers", cls=Commands)
def teachers_group() -> None:
    """Teachers from files of weights: check, list."""


@teachers_group.command("check")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--family", metavar="NAME", help="iresnet, vggface2, facenet or plain [default: as recognised].")
@click.option("--architecture", metavar="NAME", help="One of ours, torchvision:NAME or timm:NAME.")
@json_flag
def teachers_check(file: Path, family: str | None, architecture: str | None, as_json: bool) -> None:
    """Look a file of weights over: what it is, what it wants to see, how to use it. Keeps nothing, runs nothing of it."""
    from trainables.data.preprocess import Preprocessing
    from trainables.pretrained import shelf
    from trainables.spec import GivenSpec

    flags = {name: value for name, value in (("family", family), ("architecture", architecture)) if value}
    wanted = GivenSpec(family=family or "auto", architecture=architecture or "auto")
    weights = shelf.admit(str(file), Path(), wanted, write=False)
    about = weights.about
    words = "".join(f" --set teacher.{name}={value}" for name, value in flags.items())
    use = f"--set {shlex.quote(f'teacher.weights={file}')}{words}"

    def text() -> None:
        unusual = about["width"] != 1.0 or about["embedding"] or about["stem"] != "small"
        built = f", width {about['width']:g}, stem {about['stem']}, embedding layer {about['embedding']}"
        shape = built if unusual else ""
        rows = [
            ("file", f"{about['file']}, {about['bytes'] / 1e6:.1f} MB, {about['format']}, {about['tensors']} tensors"),
            ("sha256", about["sha256"]),
            ("unwrapped", ", ".join(about["unwrapped"]) or "nothing"),
            ("family", about["family"]),
            ("network", f"{about['architecture']}{shape}, {about['parameters']:,} parameters"),
            ("embedding", f"{about['embedding_width']} wide"),
            ("classifier", _classifier(about["classes"])),
            ("reads", Preprocessing.from_plain(about["preprocessing"]).sentence()),
            ("left out", ", ".join(about["left_out"]) or "nothing"),
            ("use it", use),
        ]
        for name, value in rows:
            click.echo(f"{name:<11} {value}")

    answer({"digits": weights.digits, **about, "use": use}, as_json, text)


def _classifier(classes: int) -> str:
    return f"{classes} classes; with teacher.head=keep where they are the data's" if classes else "none in the file"


@teachers_group.command("list")
@place_flags
@json_flag
def teachers_list(out: str | None, store: str | None, as_json: bool) -> None:
    """The weights from files that the store has; each can be named by its digits."""
    from sweeps.runs.folder import Place
    from trainables.pretrained import shelf

    rows: list[dict[str, Any]] = shelf.known(Place.of(out, store).store)

    def text() -> None:
        if not rows:
            click.echo("The store has no weights from files. --set teacher.weights=PATH brings some.")
            return
        table(
            [
                (
                    r["digits"],
                    *(r.get(name) or "-" for name in ("family", "architecture", "embedding_width", "classes")),
                    r["file"],
                )
                for r in rows
            ],
            ("WEIGHTS", "FAMILY", "NETWORK", "EMBEDDING", "CLASSES", "FILE"),
        )
        click.echo("Use one with --set teacher.weights=DIGITS.")

    answer({"teachers": rows}, as_json, text)
