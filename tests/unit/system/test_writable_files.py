"""What is written in place is a regular file, or is refused at once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from system import writable_files
from system.regular_files import NotRegularError
from trainables.store.files import write_atomically


@pytest.mark.parametrize("ask", [writable_files.opened_to_append, writable_files.opened_to_change])
@pytest.mark.parametrize("put", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to("/dev/null")])
def test_what_is_no_regular_file_is_not_written_to(ask, put, tmp_path: Path) -> None:
    path = tmp_path / "log"
    put(path)
    with pytest.raises(NotRegularError, match="regular file"):
        ask(path)


def test_logs_grow_and_leases_are_changed_in_place(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with pytest.raises(FileNotFoundError):
        writable_files.opened_to_change(path)
    for word in (b"one ", b"two"):
        with writable_files.opened_to_append(path) as file:
            file.write(word)
    assert path.read_bytes() == b"one two"
    with writable_files.opened_to_change(path) as file:
        file.write(b"ONE")
    assert path.read_bytes() == b"ONE two"


@pytest.mark.parametrize(
    "put",
    [
        os.mkfifo,
        lambda path: (path / "in").mkdir(parents=True),
        lambda path: path.symlink_to("/dev/null"),
        lambda path: path.symlink_to(path),
        lambda path: path.write_bytes(b"too long"),
    ],
)
def test_what_stands_in_the_way_is_renamed_and_nothing_is_lost(put, tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    for number in (1, 2):
        put(path)
        assert writable_files.make_way(path, most=3) == tmp_path / f"run.json.damaged-{number}"
        assert not os.path.lexists(path)
    path.write_bytes(b"{}")
    assert writable_files.make_way(path, most=3) is None and path.read_bytes() == b"{}"


def test_a_folder_in_the_place_of_a_file_does_not_keep_it_from_being_written(tmp_path: Path) -> None:
    (tmp_path / "a.json" / "kept").mkdir(parents=True)
    write_atomically(tmp_path / "a.json", "{}")
    assert (tmp_path / "a.json").read_text() == "{}"
    assert (tmp_path / "a.json.damaged-1" / "kept").is_dir()
