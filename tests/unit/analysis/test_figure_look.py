import seaborn

from analysis.figures import look as figure_look


def test_the_look_is_that_of_the_installed_seaborn():
    ticks = seaborn.axes_style("ticks")
    left_out = set(ticks) - set(figure_look.TICKS)
    assert left_out == {"font.sans-serif", "image.cmap"}
    assert {name: ticks[name] for name in figure_look.TICKS} == figure_look.TICKS
    assert seaborn.plotting_context("notebook") == figure_look.NOTEBOOK
