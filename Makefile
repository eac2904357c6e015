# Two commands do all the set-up: `make demo` and `make test`. Both start at once when the environment is there.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test check kill fault slurm browser bench gpu clean

$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[test]"
	touch $(VENV)/ready

demo: $(VENV)/ready
	$(BIN)/python -m sweeps run horkd_order_ablation

test: $(VENV)/ready check
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses=4 --dist loadfile -m "not kill and not fault and not browser and not slurm" --durations=15

check: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/mypy sweeps search_spaces trainables analysis slurm system benchmarks

kill: $(VENV)/ready
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m kill --durations=15

# Drawn faults, half a minute a round: `make fault ROUNDS=30`; with SEED=7 ROUND=12 one of them is repeated.
ROUNDS ?= 10
fault: $(VENV)/ready
	@OMP_NUM_THREADS=1 PYTHONPATH=tests/kill:. $(BIN)/python tests/fault/rounds.py --rounds $(ROUNDS) $(if $(SEED),--seed $(SEED)) $(if $(ROUND),--round $(ROUND))

# Needs root and Debian's slurm-wlm and munge; without them the tests say that they were skipped.
slurm: $(VENV)/ready
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "slurm and not long" --durations=15 tests/slurm

# Needs Debian's chromium (or another one called so); without it the tests say that they were skipped.
browser: $(VENV)/ready
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[test,browser]"
	$(BIN)/python -m pytest -m browser tests/browser || [ $$? -eq 5 ]  # 5: none ran, each skipped with its reason.

# Half an hour on an idle machine; `make bench QUICK=--quick` is minutes and shows the table. See docs/performance.md.
bench: $(VENV)/ready
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks $(QUICK)

# One table of what a GPU does, in at most 8 minutes. It needs torch, numpy, safetensors and pyarrow alone, so it sets nothing
# up; `make gpu TINY=--tiny` tries its logic anywhere. See docs/performance.md.
GPU_PYTHON ?= $(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON))
gpu:
	$(GPU_PYTHON) -m benchmarks.gpu $(TINY)
	@if $(GPU_PYTHON) -c "import pytest" 2>/dev/null; then $(GPU_PYTHON) -m pytest -q -m gpu tests/gpu; fi

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache
