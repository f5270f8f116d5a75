# Each target does all its own set-up on a fresh machine: Python >= 3.11, make and a package index.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# A CPU build of torch is enough for the demo and the tests; set TORCH= to take what pip chooses.
TORCH ?= torch==2.13.0
INSTALLED := $(VENV)/.installed

export HF_HUB_OFFLINE := 1
export RAY_USAGE_STATS_ENABLED := 0
export TOKENIZERS_PARALLELISM := true

.PHONY: demo test test-slow test-integrations soak fuzz audit lint config-reference clean

$(INSTALLED): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(TORCH)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test,lint]'
	touch $@

demo: $(INSTALLED)  ## compress the shipped corpus into out/demo/, verify it, show before and after
	$(BIN)/moos compress configs/demo.articles.yaml
	$(BIN)/moos verify out/demo/articles
	$(BIN)/moos compress configs/demo.meetings.yaml
	$(BIN)/moos verify out/demo/meetings
	$(BIN)/moos show out/demo/articles --chars 1200
	$(BIN)/moos show out/demo/meetings --chars 1200
	@echo "look at out/demo/articles/report.html and out/demo/meetings/report.html"

test: $(INSTALLED)  ## run all tests; three at a time, for many wait
	$(BIN)/python -m pytest -q -n 3 --dist loadfile --no-loadscope-reorder --max-worker-restart=0

test-slow: $(INSTALLED)  ## run the tests that `make test` leaves out: more layouts, more interruptions
	$(BIN)/python -m pytest -q -m slow

test-integrations: $(INSTALLED)  ## run the tests against LangChain, LlamaIndex, datasets, DuckDB, Polars, pandas
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test-integrations]'
	$(BIN)/python -m pytest -q -m "slow or not slow" tests/integrations

SOAK ?= --count 45 --seed 1
soak: $(INSTALLED)  ## strike the real job with seeded faults; an hour or so; SOAK="--count 200 --seed 9"
	$(BIN)/python -m tests.faults.soak --table tests/faults/RESULTS.md $(SOAK)

FUZZ_SECONDS ?= 720
fuzz: $(INSTALLED)  ## attack the reader, word cutter, selection, renderer and configs; an hour
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[fuzz]'
	$(BIN)/python -m tests.fuzz.run --seconds $(FUZZ_SECONDS) --table tests/fuzz/RESULTS.md $(FUZZ)

audit: $(INSTALLED)  ## ask for known weaknesses of what is installed; needs a network
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[audit]'
	$(BIN)/python -m tests.audit

lint: $(INSTALLED)  ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

config-reference: $(INSTALLED)  ## write configs/README.md from the config models
	$(BIN)/python -m pipelines.config_reference > configs/README.md

clean:
	rm -rf $(VENV) out build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
