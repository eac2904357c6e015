"""Colours and type of every figure: plain values, read without the drawing libraries."""

from __future__ import annotations

BLUE, VERMILLION, GREEN, GREY, PINK = "#0072b2", "#d55e00", "#009e73", "#6b7280", "#cc79a7"
INK, MUTED, FAINT, RULE, BAND, GROUND = "#1f2430", "#4b5263", "#c9ccd1", "#a3a7b8", "#f5f6f8", "#ffffff"

# On a white ground the five keep a contrast of 3:1 and differ under deuteranopia; grey and pink are never
# neighbours.
SERIES = (BLUE, VERMILLION, GREEN, PINK, INK)
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))

# A figure for a dark page is the light one with these colours exchanged.
DARK = {
    BLUE: "#56b4e9",
    VERMILLION: "#f08a3c",
    GREEN: "#2fc79a",
    GREY: "#9aa1ad",
    PINK: "#e3a1c6",
    INK: "#e8eaee",
    MUTED: "#b4bac6",
    FAINT: "#4a4f5a",
    RULE: "#6f7686",
    BAND: "#20242d",
    GROUND: "#14171d",
}

SANS = ["DejaVu Sans", "Verdana", "sans-serif"]
MONO = ["DejaVu Sans Mono", "Menlo", "Consolas", "monospace"]

RC = {
    "font.family": "sans-serif",
    "font.sans-serif": SANS,
    "font.monospace": MONO,
    "font.size": 9.5,
    "axes.titlesize": 11.5,
    "axes.titleweight": "normal",
    "axes.titlelocation": "left",
    "axes.labelsize": 10,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "grid.color": FAINT,
    "grid.linewidth": 0.8,
    "text.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "xtick.major.width": 0.8,
    "ytick.major.width": 0.8,
    "xtick.color": INK,
    "legend.frameon": False,
    "figure.facecolor": GROUND,
    "axes.facecolor": GROUND,
    "savefig.facecolor": GROUND,
    "path.simplify": True,
    "svg.fonttype": "none",  # Text stays text: searchable, and sharp at any size.
    "svg.hashsalt": "figure",  # Fixed, so that equal figures have equal bytes.
    "pdf.fonttype": 42,  # TrueType, which publishers ask for.
    "ps.fonttype": 42,
}
