"""What a record's file carries beside Parquet's own: its row in short, and a checksum of the whole file.

A record is a Parquet file of one row, which any tool reads. Opening tens of thousands of them as Parquet takes most of
a report's time, so the file repeats its row as one JSON object, without its long columns, and a report reads that.
Both stand between the last page and the footer, where Parquet's readers, led by offsets, never look; a tool that writes
the file anew leaves them out. The checksum covers every byte of the file but its own digits, so that neither copy of
the row can change without a word. Files of earlier versions have neither, and are read as Parquet.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

# A quote cannot stand unescaped inside a JSON text, so nothing that a row says is taken for one of these marks.
_SUMMARY_MARK = b'sweeps.summary="{'
_CHECKSUM_MARK = b'sweeps.checksum="'
_DIGITS = 32
_BLANK = b"0" * _DIGITS
_END = 8  # Bytes of a Parquet file behind its footer: the footer's length, and the mark of the format.
_DECODER = json.JSONDecoder()


class BrokenSealError(ValueError):
    """A file is not as it was written."""


def sealed(content: bytes, row: dict[str, Any]) -> bytes:
    """The bytes of a Parquet file with its row in short and its checksum.

    Args:
        content: The file as Arrow wrote it.
        row: Its row without the long columns, as Arrow gives it back, so that both copies hold the same values.
    """
    short = {name: value for name, value in row.items() if value is not None}
    text = json.dumps(short, separators=(",", ":")).encode()
    block = b"\n" + _SUMMARY_MARK[:-1] + text + b'"\n' + _CHECKSUM_MARK + _BLANK + b'"\n'
    footer = len(content) - _END - int.from_bytes(content[-_END : -_END + 4], "little")
    whole = content[:footer] + block + content[footer:]
    at = footer + len(block) - len(_BLANK) - 2
    return whole[:at] + _digits(whole, at) + whole[at + _DIGITS :]


def summary(content: bytes) -> dict[str, Any] | None:
    """The row of a file in short, null columns left out; None where it carries none, as files of earlier versions.

    Raises:
        BrokenSealError: If the bytes are not those that were written.
    """
    at = _place_of_digits(content)
    if at is None:
        return None
    if content[at : at + _DIGITS] != _digits(content, at):
        raise BrokenSealError("its bytes are not those that were written: the checksum differs")
    start = content.rfind(_SUMMARY_MARK)
    if start < 0:
        return None
    begin = start + len(_SUMMARY_MARK) - 1
    try:
        row, _ = _DECODER.raw_decode(content[begin:].decode("utf-8", "replace"))
    except (ValueError, RecursionError) as error:
        raise BrokenSealError(f"its row in short cannot be read: {error}") from None
    if not isinstance(row, dict):
        raise BrokenSealError("its row in short is no object")
    return row


def _place_of_digits(content: bytes) -> int | None:
    start = content.rfind(_CHECKSUM_MARK)
    at = start + len(_CHECKSUM_MARK)
    return at if start >= 0 and at + _DIGITS <= len(content) else None


def _digits(content: bytes, at: int) -> bytes:
    digest = hashlib.blake2b(content[:at], digest_size=_DIGITS // 2)
    digest.update(_BLANK)
    digest.update(content[at + _DIGITS :])
    return digest.hexdigest().encode()
