"""Only regular files of the expected size are opened, whatever bears their name."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from system import regular_files
from system.regular_files import NotRegularError, TooLargeError

ROOT = Path(__file__).resolve().parents[3]


def put_fifo(path: Path) -> None:
    os.mkfifo(path)


def put_socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # A socket's name may have 107 bytes.
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(path.name)
    os.chdir(here)


KINDS = {
    "fifo": put_fifo,
    "socket": put_socket,
    "folder": lambda path: path.mkdir(),
    "endless device": lambda path: path.symlink_to("/dev/zero"),
    "empty device": lambda path: path.symlink_to("/dev/null"),
    "link to a folder": lambda path: path.symlink_to("/etc"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_regular_file_is_refused_at_once(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    KINDS[kind](path)
    for ask in (regular_files.opened, regular_files.check, regular_files.read_bytes, regular_files.read_text):
        with pytest.raises(NotRegularError, match="regular file"):
            ask(path)


def test_sizes_are_bounded_and_links_to_files_followed(tmp_path: Path) -> None:
    path, link = tmp_path / "file", tmp_path / "link"
    path.write_bytes(b"12345")
    link.symlink_to(path)
    assert regular_files.read_bytes(link, most=5) == b"12345"
    assert regular_files.check(path, most=5).st_size == 5
    for ask in (regular_files.opened, regular_files.check, regular_files.read_bytes):
        with pytest.raises(TooLargeError, match="5 bytes"):
            ask(path, most=4)
    with open(tmp_path / "sparse", "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(TooLargeError):
        regular_files.read_text(tmp_path / "sparse")
    with pytest.raises(FileNotFoundError):
        regular_files.read_bytes(tmp_path / "nothing")


def test_a_file_that_grows_while_it_is_read_is_bounded_too() -> None:
    # Files of /proc say that they have no bytes.
    assert os.stat("/proc/self/status").st_size == 0
    with pytest.raises(TooLargeError):
        regular_files.read_bytes("/proc/self/status", most=10)
