"""Rows of trials and cells as Parquet."""

from __future__ import annotations

import io

from analysis.report.blocks import Document


def files(document: Document) -> dict[str, bytes]:
    found = {}
    for name, frame in document.frames.items():
        target = io.BytesIO()
        frame.write_parquet(target)
        found[f"data/{name}.parquet"] = target.getvalue()
    return found
