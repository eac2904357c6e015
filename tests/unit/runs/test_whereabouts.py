"""A run knows its store, and commands that are printed work when they are pasted."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import typed

from sweeps.planning.request import Request
from sweeps.runs import whereabouts
from sweeps.runs.continuation import continued
from sweeps.runs.folder import Place, RunFolder
from sweeps.runs.prepare import prepare
from trainables.store.artifacts import Artifact, Store

KEYS = {"teacher": "a" * 16, "evaluation": "b" * 16}


@pytest.fixture(autouse=True)
def no_places(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Nothing in the environment says where runs are, and the current folder has none."""
    for name in ("SWEEPS_OUT", "SWEEPS_STORE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))


@pytest.fixture
def run(nasty_path: Path, publish: Callable[..., Artifact], store: Store) -> RunFolder:
    """A finished run whose two stages are in `store`, which does not lie beside its runs/."""
    for kind, key in KEYS.items():
        publish(key, kind, {"score": 0.5})
    made = RunFolder(nasty_path / "out" / "runs" / "study-01234567")
    made.prepare()
    made.write(
        {
            "schema": 1,
            "run": made.id,
            "study": "study",
            "seeds": [0],
            "cells": [{"id": "c", "label": "c"}],
            "trials": [{"cell": "c", "seed": 0, "stages": KEYS}],
            "store": whereabouts.recorded(made.path, store.root),
        }
    )
    return made


def words_of(place: Place) -> list[str]:
    """The flags that name a place."""
    return whereabouts.place_words(place.runs, place.store)


def pasted(line: str) -> list[str]:
    """The words after `python -m sweeps` of a command that was printed."""
    return shlex.split(line.partition("python -m sweeps ")[2])


# The store of a run.


def test_a_run_is_looked_at_in_the_store_it_was_trained_into(
    run: RunFolder, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = typed(capsys, "status", str(run.path), "--json")
    view = json.loads(out)
    assert code == 0
    assert (view["state"], view["trials"]["done"], view["store"]) == ("finished", 1, str(store.root))
    assert typed(capsys, "status", run.id, "--out", str(run.path.parent.parent), "--json")[1] == out
    (row,) = json.loads(typed(capsys, "status", "--all", "--out", str(run.path.parent.parent), "--json")[1])["runs"]
    assert row["state"] == "finished"


def test_the_store_that_a_person_names_outranks_the_runs_own(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = typed(capsys, "status", str(run.path), "--store", str(tmp_path / "empty"))
    assert code == 0 and "stopped" in out and f"{tmp_path / 'empty'} is not there" in out
    (resume,) = [line for line in out.splitlines() if line.startswith("Resume: ")]
    assert pasted(resume) == ["resume", str(run.path), "--store", str(tmp_path / "empty")]


def test_a_store_beside_the_runs_is_found_after_both_were_moved(tmp_path: Path) -> None:
    place = Place.of(tmp_path / "before", None)
    place.prepare()
    made = RunFolder(place.runs / "a-1")
    made.prepare()
    made.write({"store": whereabouts.recorded(made.path, place.store)})
    assert not Path(made.read()["store"]).is_absolute()
    (tmp_path / "before").rename(tmp_path / "after")
    # A new store where the old one was is not the run's.
    Place.of(tmp_path / "before", None).prepare()
    assert whereabouts.store_of(tmp_path / "after" / "runs" / "a-1") == tmp_path / "after" / "store"


@pytest.mark.parametrize("said", [None, 5, "", "\0", [], "/nowhere/at/all"])
def test_a_run_that_does_not_say_its_store_has_the_one_beside_it_or_of_the_environment(
    said: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place.of(tmp_path, None)
    place.prepare()
    made = RunFolder(place.runs / "a-1")
    made.prepare()
    made.write({"run": "a-1"} if said is None else {"store": said})
    assert whereabouts.store_of(made.path) == tmp_path / "store"
    monkeypatch.setenv("SWEEPS_STORE", str(tmp_path / "shared"))
    assert whereabouts.store_of(made.path) == tmp_path / "shared"


def test_verify_takes_a_run_for_the_artifacts_it_rests_on(
    run: RunFolder, publish: Callable[..., Artifact], capsys: pytest.CaptureFixture[str]
) -> None:
    publish("c" * 16)
    code, out, _ = typed(capsys, "store", "verify", str(run.path), "--json")
    assert code == 0 and json.loads(out)["checked"] == 2
    code, _, err = typed(capsys, "store", "verify", "deadbeef")
    assert code == 2 and "'deadbeef' is neither a key of 16 hex digits nor a run" in err


def test_what_verify_says_to_remove_can_be_removed(
    run: RunFolder, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    (store.path(KEYS["teacher"]) / "content.bin").write_bytes(b"y")
    code, out, _ = typed(capsys, "store", "verify", str(run.path))
    assert code == 1
    (line,) = [line for line in out.splitlines() if line.startswith("FAIL")]
    assert typed(capsys, *pasted(line))[0] == 0
    assert store.keys() == {KEYS["evaluation"]}


# The same command again.


def test_the_command_without_store_goes_on_in_the_store_of_the_run_it_continues(
    digits_store: Store, tmp_path: Path
) -> None:
    place = Place.of(tmp_path / "out", None)
    place.prepare()
    request = Request("horkd_order_ablation", preset="tiny", settings=["orders=none,1"])
    ready = prepare(request, Place(place.runs, digits_store.root), lambda line: None, pack=False)
    made = RunFolder(place.runs / ready.run_id)
    made.prepare()
    made.write({"store": whereabouts.recorded(made.path, digits_store.root)})
    said: list[str] = []
    assert continued(request, place, said.append).store == digits_store.root
    assert len(said) == 1 and made.id in said[0] and str(digits_store.root) in said[0]
    another = Request("horkd_order_ablation", preset="tiny", settings=["orders=none,2"])
    assert continued(another, place, said.append).store == place.store
    named = Place(place.runs, place.store, named=True)
    assert continued(request, named, said.append).store == place.store
    assert continued(Request(**vars(request) | {"new": True}), place, said.append).store == place.store
    assert len(said) == 1


# Commands that are printed.


def test_a_run_is_named_by_its_name_where_that_is_enough_and_else_by_its_path(
    run: RunFolder, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert pasted(run.again("logs", "driver", store=store.root)) == ["logs", str(run.path), "driver"]
    monkeypatch.setenv("SWEEPS_OUT", str(run.path.parent.parent))
    assert pasted(run.again("resume", store=store.root)) == ["resume", run.id]
    monkeypatch.delenv("SWEEPS_OUT")
    monkeypatch.chdir(run.path.parent.parent)
    assert pasted(run.again("resume", "--retry-failed")) == ["resume", run.id, "--retry-failed"]


def test_a_run_command_names_folders_that_are_not_the_current_ones(
    nasty_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = Request("horkd_order_ablation", data_root="/my data")
    out, store = nasty_path / "out", nasty_path / "shared store"
    words = pasted(request.command(words_of(Place.of(out, store))))
    assert words[-4:] == ["--out", str(out), "--store", str(store)] and "/my data" in words
    assert pasted(request.command(words_of(Place.of(out, None))))[-2:] == ["--out", str(out)]
    monkeypatch.chdir(nasty_path)
    assert pasted(request.command(words_of(Place.of(None, "shared store"))))[-2:] == ["--store", str(store)]
    assert "--out" not in pasted(request.command(words_of(Place.of(None, None))))


def test_paths_of_a_request_mean_the_same_in_every_folder(
    nasty_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(nasty_path)
    words = ("show", "horkd_order_ablation", "--data", "folder:my images", "--data-root", "data", "--json")
    _, out, _ = typed(capsys, *words)
    command = pasted(json.loads(out)["command"])
    assert f"folder:{nasty_path / 'my images'}" in command and str(nasty_path / "data") in command
    assert whereabouts.absolute("~/data") == "~/data"
