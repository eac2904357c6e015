"""The folders of our packages: what a copy of the code holds, and what its digest is of."""

ROOMS = ("sweeps", "search_spaces", "trainables", "analysis", "slurm", "system")
