"""Whatever settings of matplotlib's lie around, a figure has the same bytes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PROGRAM = """
import hashlib, os, sys
ours = lambda: {{n: v for n, v in os.environ.items() if n.startswith(("MPL", "MATPLOTLIB", "XDG"))}}
before = ours()
{first}
from analysis.figures import curves, effects
from analysis.frames.factor import Factor
from analysis import statistics
assert ours() == before, "the environment was changed"
cells = {{frozenset(c): {{s: 0.5 + 0.01 * len(c) + 0.001 * s * len(c) for s in range(3)}} for c in ("", "1", "2", "12")}}
result = statistics.factorial_effects(cells, ["1", "2"])
drawn = effects.effects(result, Factor(parameter="orders"), words="x", name="e", title="$t_1$", caption="", alt="")
print(*(hashlib.sha256(drawn.files[suffix]).hexdigest() for suffix in ("svg", "png", "pdf")))
"""
RC = """
text.usetex: True
font.size: 30
axes.grid: True
figure.dpi: 33
savefig.bbox: tight
axes.formatter.use_locale: True
lines.linewidth: 9
axes.prop_cycle: cycler('color', ['red'])
path.sketch: 1, 100, 2
"""


def drawn(folder, first="", **environment):
    known = {
        name: value for name, value in os.environ.items() if not name.startswith(("MPL", "MATPLOTLIB", "XDG_CONFIG"))
    }
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(first=first)],
        cwd=folder,
        env=known | {"PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1"} | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert found.returncode == 0, found.stderr[-2000:]
    assert "matplotlib" not in found.stderr, found.stderr[-2000:]
    return found.stdout.split()


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return drawn(tmp_path_factory.mktemp("plain"))


@pytest.mark.parametrize(
    "content", [RC, "no key at all\x00\n", "text.usetex: maybe\n"], ids=["keys", "noise", "wrong value"]
)
def test_a_settings_file_in_the_working_folder_is_not_read(tmp_path, plain, content):
    (tmp_path / "matplotlibrc").write_text(content)
    assert drawn(tmp_path) == plain


def test_neither_bytes_that_are_no_text_nor_a_pipe_stop_a_figure(tmp_path, plain):
    (tmp_path / "matplotlibrc").write_bytes(b"\xff\xfe\x00text.usetex: True")
    assert drawn(tmp_path) == plain
    (tmp_path / "matplotlibrc").unlink()
    os.mkfifo(tmp_path / "matplotlibrc")
    assert drawn(tmp_path) == plain


@pytest.mark.parametrize("name", ["MATPLOTLIBRC", "MPLCONFIGDIR", "XDG_CONFIG_HOME"])
def test_settings_and_styles_elsewhere_are_not_read(tmp_path, plain, name):
    folder = tmp_path / "theirs"
    inner = folder / "matplotlib" if name == "XDG_CONFIG_HOME" else folder
    (inner / "stylelib").mkdir(parents=True)
    (inner / "matplotlibrc").write_text(RC)
    (inner / "stylelib" / "ticks.mplstyle").write_text(RC + "nonsense\n")
    assert drawn(tmp_path, **{name: str(folder)}) == plain


@pytest.mark.parametrize("backend", ["garbage", "tkagg", "module://nowhere"])
def test_a_backend_that_is_not_there_is_not_asked(tmp_path, plain, backend):
    assert drawn(tmp_path, MPLBACKEND=backend) == plain


def test_settings_changed_before_in_the_same_process_do_not_reach_a_figure(tmp_path, plain):
    first = "import matplotlib; matplotlib.rcParams.update({'text.usetex': True, 'font.size': 30, 'axes.grid': True})"
    assert drawn(tmp_path, first) == plain


def test_the_font_cache_stays_where_the_user_wants_it(tmp_path, plain):
    assert drawn(tmp_path, MPLCONFIGDIR=str(tmp_path / "cache")) == plain
    assert list((tmp_path / "cache").rglob("fontlist*.json"))
