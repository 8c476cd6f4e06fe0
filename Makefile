# `make demo` and `make test` need Python 3.11+ and make, nothing else: no root, no Docker, no running services.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/pip --disable-pip-version-check
PINS   := pyproject.toml constraints.txt
JOBS   ?= 4

.DEFAULT_GOAL := help
.PHONY: help demo demo-schedule demo-nearest demo-chain demo-own-task test test-hosts screenshots lint docs reference openapi fuzz-api soak bench bench-bulk bench-claims bench-embeddings bench-host bench-http bench-pages bench-gpu test-versions bundle samples clean

help: ## Show this.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: $(VENV)/.runs ## Install, then run all ten tasks on an embedded Valkey and SQLite.
	@BATCHMILL_HOME=$${BATCHMILL_HOME:-$(CURDIR)/.demo} $(BIN)/batchmill demo

demo-schedule: $(VENV)/.runs ## Show three runs of a nightly schedule in a minute: examples/nightly/run.py.
	@$(BIN)/python examples/nightly/run.py

demo-nearest: $(VENV)/.runs ## Embed tickets in three nights and find the nearest old ones: examples/nearest_tickets/run.py.
	@$(BIN)/python examples/nearest_tickets/run.py

demo-own-task: $(VENV)/.runs ## Install a package with a task of one's own, and run it: examples/own_task/run.py.
	@$(PIP) install --quiet --no-deps ./examples/own_task
	@$(BIN)/python examples/own_task/run.py

demo-chain: $(VENV)/.runs ## Translate notes in two nights, then label the translations: examples/translate_then_classify/run.py.
	@$(BIN)/python examples/translate_then_classify/run.py

test: $(VENV)/.tests ## Install, then run all tests on real Valkey and real PostgreSQL: JOBS=4 in parallel.
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal

test-hosts: $(VENV)/.hosts ## Install Chromium where it is missing, then run the tests of the pages in it.
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || { \
	  test "$$(id -u)" = 0 || { echo "These tests need Chromium: apt-get install chromium"; exit 1; }; \
	  apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends chromium fonts-dejavu-core; }
	$(BIN)/python -m pytest tests/browser

screenshots: $(VENV)/.hosts ## Seed a database, and write the pictures of the pages to docs/images.
	$(BIN)/python -m tests.browser.screenshots

lint: $(VENV)/.tests ## Check style, types and the direction of imports.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/.tests ## Build the documents into build/docs, strictly and without a network.
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs build/docs
	@echo "open build/docs/index.html"

reference: $(VENV)/.tests ## Write the tables of docs/reference that come from the code: settings, codes, metrics.
	$(BIN)/python -m tests.reference_tables

openapi: $(VENV)/.tests ## Write docs/reference/openapi.json, the copy of the server's OpenAPI document.
	$(BIN)/python -m tests.openapi_copy

fuzz-api: $(VENV)/.tests ## Make up requests from the OpenAPI document: EXAMPLES=100 per operation.
	$(BIN)/python -m tests.api_fuzzer --examples $(or $(EXAMPLES),100)

soak: $(VENV)/.tests ## Kill, freeze and disconnect everything while batches run, then count: MINUTES=5 SEED=7 DATABASE=sqlite.
	$(BIN)/python -m tests.soak --minutes $(or $(MINUTES),5) $(if $(SEED),--seed $(SEED)) $(if $(DATABASE),--database $(DATABASE))

bench: $(VENV)/.tests ## Compare with pipeline(), Celery and Ray Data on this machine; takes about 30 minutes.
	$(BIN)/python -m benchmarks

bench-bulk: $(VENV)/.tests ## Measure ingestion and export, compared with Celery and RQ: ITEMS=1000000.
	$(BIN)/python -m benchmarks.bulk_submit $(if $(ITEMS),--items $(ITEMS))

bench-claims: $(VENV)/.tests ## Measure claims among 10,000 batches of one job, on both databases; takes a minute or two.
	$(BIN)/python -m benchmarks.small_batches

bench-embeddings: $(VENV)/.tests ## Measure vectors and cross-encoders' scores beside sentence-transformers: ITEMS=400 ROUNDS=3.
	$(BIN)/python -m benchmarks.embeddings $(if $(ITEMS),--items $(ITEMS)) $(if $(ROUNDS),--rounds $(ROUNDS))
	$(BIN)/python -m benchmarks.ranking $(if $(ITEMS),--items $(ITEMS)) $(if $(ROUNDS),--rounds $(ROUNDS))

bench-host: $(VENV)/.tests ## Measure Batchmill's own cost per text against an older commit and pipeline(): ITEMS=2000 BEFORE=HASH TASKS=ner.
	$(BIN)/python -m benchmarks.host $(if $(ITEMS),--items $(ITEMS)) $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(BEFORE),--before $(BEFORE)) $(if $(TASKS),--tasks $(TASKS)) $(if $(DATABASE),--database $(DATABASE))

bench-http: $(VENV)/.tests ## Measure the HTTP server: uploads, pollers, streams, followers: ITEMS=1000000 RESULTS=1000000 SECONDS=15 DATABASES=SQLite.
	$(BIN)/python -m benchmarks.http_door $(if $(ITEMS),--items $(ITEMS)) $(if $(RESULTS),--results $(RESULTS)) $(if $(SECONDS),--seconds $(SECONDS)) $(if $(STAGES),--stages $(STAGES)) $(if $(DATABASES),--databases $(DATABASES))

bench-pages: $(VENV)/.tests ## Measure the pages with a million jobs and 10,000 batches on both databases: JOBS_SEEDED=1000000 BATCHES=10000 DATABASES=SQLite.
	$(BIN)/python -m benchmarks.pages $(if $(JOBS_SEEDED),--jobs $(JOBS_SEEDED)) $(if $(BATCHES),--batches $(BATCHES)) $(if $(DATABASES),--databases $(DATABASES))

bench-gpu: $(VENV)/.tests ## Measure one CUDA card in seven minutes; SMOKE=1 runs tiny models on the CPU.
	$(BIN)/python -m benchmarks.gpu $(if $(SMOKE),--smoke) $(if $(STAGES),--stages $(STAGES))

test-versions: $(VENV)/.tests ## Run the tasks' tests with the oldest, the pinned and the newest transformers within its bounds: VERSIONS="5.23.0 5.24.0".
	$(BIN)/python -m tests.transformers_versions $(VERSIONS)

bundle: $(VENV)/.tests ## Collect the wheels for a machine without a network in dist/bundle: BUNDLE="--python-version 3.12 --without-torch".
	$(BIN)/python build_hooks/bundle.py $(BUNDLE)

samples: $(VENV)/.tests ## Train the bundled sample models again (seeded).
	$(BIN)/python -m training.sentiment_analysis
	$(BIN)/python -m training.ner
	$(BIN)/python -m training.question_answering
	$(BIN)/python -m training.zero_shot_classification
	$(BIN)/python -m training.fill_mask
	$(BIN)/python -m training.text_generation
	$(BIN)/python -m training.summarization
	$(BIN)/python -m training.translation
	$(BIN)/python -m training.feature_extraction
	$(BIN)/python -m training.text_ranking
	$(BIN)/python -m training.prompt_injection
	$(BIN)/python -m training.toxicity
	$(BIN)/python -m training.personal_data

clean: ## Remove the environment, the demo's data and all caches.
	rm -rf $(VENV) .demo benchmarks/.envs benchmarks/.models .versions build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/bin/pip:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runs: $(VENV)/bin/pip $(PINS)
	@echo "Installing Batchmill with torch and transformers; the first time this takes a few minutes."
	$(PIP) install --quiet -c constraints.txt -e '.[worker,embedded,serve]'
	@touch $@

$(VENV)/.tests: $(VENV)/.runs
	$(PIP) install --quiet -c constraints.txt -e '.[worker,embedded,serve,dev,docs]'
	@touch $@

$(VENV)/.hosts: $(VENV)/.tests
	$(PIP) install --quiet -c constraints.txt -e '.[worker,embedded,serve,dev,docs,browser]'
	@touch $@
