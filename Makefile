# make demo      set up .venv (prediction only) and run the main job; pictures and JSON in out/
# make test      set up .venv (training and development too) and run the tests
# make check     lint, types and tests: what .ci/run runs, and what to run before a commit
# make evaluate  measure the bundled model on held-out scenes
# Options: PYTHON=python3.12 chooses the interpreter, TORCH=torch==2.7.1 the torch to install.

PYTHON ?= python3
BIN := .venv/bin
# setup_env.py refuses a .venv of another Python only where PYTHON was given (then its origin is not this file).
SETUP := $(PYTHON) setup_env.py $(if $(filter file,$(origin PYTHON)),,--chosen) $(if $(TORCH),--torch "$(TORCH)")
# The package, which mypy checks as a whole, and the scripts beside it; a folder stands for all its modules.
TYPED := __init__.py cli.py cli_data.py errors.py stopping.py criterions data engine inference metrics models tasks \
  evaluate.py train.py predict.py demo_s1.py gradio_demo.py launcher.py setup_env.py

.PHONY: demo test lint types check evaluate clean predict-env test-env

predict-env:
	@$(SETUP) predict

test-env:
	@$(SETUP) test

demo: predict-env
	$(BIN)/python demo_s1.py

evaluate: predict-env
	$(BIN)/python evaluate.py

test: test-env
	$(BIN)/python -m pytest

lint: test-env
	$(BIN)/ruff check .

types: test-env
	MYPYPATH=.cache/path $(BIN)/python -m mypy $(TYPED:%=.cache/path/refhcm/%)

check: lint types test

clean:
	rm -rf .venv .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis build *.egg-info out
