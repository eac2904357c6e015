"""Figures as SVG, PNG and PDF."""

from __future__ import annotations

from analysis.report.blocks import Document


def files(document: Document) -> dict[str, bytes]:
    return {
        f"figures/{drawn.name}.{suffix}": content
        for drawn in document.figures
        for suffix, content in drawn.files.items()
    }
