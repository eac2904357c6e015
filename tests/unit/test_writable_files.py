"""What is written in place is a regular file, or is refused at once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from trainables import writable_files
from trainables.regular_files import NotRegularError


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
