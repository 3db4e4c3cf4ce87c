# Everything a developer or a new user needs from a fresh clone: make demo, make test.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint types wheel-test benchmark clean

# The stamp is newer than the pins only when the environment holds them.
.venv/stamp: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: .venv/stamp
	$(BIN)/rsunfold sample ir demo-out/scenes --count 5 --seed 0 --overwrite
	$(BIN)/rsunfold detect-ir 'demo-out/scenes/images/*.png' --output demo-out/results --overwrite
	$(BIN)/rsunfold evaluate detect-ir --images demo-out/scenes/images --masks demo-out/scenes/masks
	@echo "The results lie in demo-out/results: open a *_quicklook.png, or *_score.tif with *_targets.geojson in QGIS."

test: .venv/stamp
	$(BIN)/python -m pytest -n 2

lint: .venv/stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/stamp
	$(BIN)/mypy

# The wheel alone, in an empty environment outside the checkout, must run the demo.
wheel-test: .venv/stamp
	PYTHON=$(PYTHON) sh tests/wheel.sh

benchmark: .venv/stamp
	$(BIN)/python benchmarks/detect_ir.py

clean:
	rm -rf .venv demo-out dist build
