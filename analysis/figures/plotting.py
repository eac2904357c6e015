"""The one door of matplotlib: as it is shipped, whatever settings of the user's lie around.

matplotlib reads a `matplotlibrc` from the working folder, from MATPLOTLIBRC, MPLCONFIGDIR or the home's .config, styles
beside it, and MPLBACKEND, when it is imported; a key of those moves figures silently, and some (`text.usetex`, a backend
that does not exist) end the import or the drawing. Here it is imported where none of them is seen, and `as_shipped` draws
with its defaults even if somebody imported it before and changed them.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def _nothing_of_the_users() -> Iterator[None]:
    """Hide settings from an import of matplotlib; its font cache stays where the user wants it."""
    found = importlib.util.find_spec("matplotlib")
    if "matplotlib" in sys.modules or found is None or found.origin is None:
        yield
        return
    shipped = Path(found.origin).parent / "mpl-data" / "matplotlibrc"
    before = dict(os.environ)
    exists = os.path.exists
    with tempfile.TemporaryDirectory(prefix="sweeps-matplotlib-") as empty:
        os.environ.update(MATPLOTLIBRC=str(shipped), MPLBACKEND="agg", XDG_CONFIG_HOME=empty)
        if cache := os.environ.pop("MPLCONFIGDIR", ""):
            os.environ["XDG_CACHE_HOME"] = cache
        # The working folder's file comes before all others and is looked for by this very name. A change of the working
        # folder would do as well, but would be one for all threads.
        os.path.exists = lambda path: path != "matplotlibrc" and exists(path)
        try:
            yield
        finally:
            os.path.exists = exists
            for name in ("MATPLOTLIBRC", "MPLBACKEND", "XDG_CONFIG_HOME", "MPLCONFIGDIR", "XDG_CACHE_HOME"):
                os.environ.pop(name, None)
                if name in before:
                    os.environ[name] = before[name]


with _nothing_of_the_users():
    import matplotlib as mpl
    import matplotlib.style  # Reads the user's styles, of which there are none now; `rcdefaults` imports it otherwise.
    from matplotlib import font_manager  # Reads its cache now.
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import to_hex, to_rgb
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Rectangle
    from matplotlib.ticker import FixedFormatter, FixedLocator, LogLocator, MaxNLocator, NullLocator

__all__ = [
    "Axes",
    "Axis",
    "Figure",
    "FigureCanvasAgg",
    "FixedFormatter",
    "FixedLocator",
    "Line2D",
    "LogLocator",
    "MaxNLocator",
    "NullLocator",
    "Rectangle",
    "as_shipped",
    "font_manager",
    "to_hex",
    "to_rgb",
]


@contextmanager
def as_shipped(look: Mapping[str, Any]) -> Iterator[None]:
    """Draw with the defaults of matplotlib and `look`; afterwards all settings are what they were."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(dict(look))  # type: ignore[arg-type]  # Its keys are typed as literals.
        yield
