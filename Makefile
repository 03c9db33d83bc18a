# Everything runs from .venv, which the first target that needs it makes from the pinned requirements.
# With LOWEST=1 it is .venv-lowest, with the lowest versions that pyproject.toml admits.
PYTHON ?= python3
VENV := $(if $(LOWEST),.venv-lowest,.venv)
BIN := $(VENV)/bin
HOST ?= 127.0.0.1
PORT ?= 8000
CRASH_KILLS ?= 1000
WEATHER_ROUNDS ?= 200
SOAK_MINUTES ?= 30
STORAGE_KILLS ?= 5000
LIVES ?= 5000
WIRED_LIVES ?= 300
ATTACKS ?= 2000
CONTESTS ?= 50
STREAM_KILLS ?= 20
STREAM_THREADS ?= 50
STREAM_EVENTS ?= 2000
CLIENT_KILLS ?= 20
SLOW_READERS ?= 400
SLOW_SECONDS ?= 30
OPENAPI_SECONDS ?= 300
OPENAPI_SEED ?= 0
SAVER_KILLS ?= 200
IMPORT_KILLS ?= 200
FUZZ_SECONDS ?= 120
# Whether a server starts and serves is asked of the lowest versions too.
SERVED := tests/acceptance/test_demo.py tests/acceptance/test_files.py tests/config/test_logging.py

.PHONY: help serve page test test-fast test-web browser node clients crash openapi contract check bench lock dist clean

help:  ## What there is to run
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST)

PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check
EDITABLE = $(PIP) --no-deps --no-build-isolation --editable .

ifdef LOWEST
$(VENV)/serves: $(VENV)/venv requirements/lowest.txt pyproject.toml
	@echo "Installing what Assent needs into $(VENV): a minute or more, once."
	$(PIP) --require-hashes -r requirements/lowest.txt
	$(EDITABLE)
	@touch $@

$(VENV)/ready: $(VENV)/serves
	@touch $@
else
# Only what a server needs, so that it is there soon: the page is built meanwhile, and bytecode is
# stored when a module is first imported.
$(VENV)/serves: $(VENV)/venv requirements/run.txt requirements/build.txt pyproject.toml
	@echo "Installing what the server needs into $(VENV): a minute, once."
	-$(PIP) --require-hashes -r requirements/node.txt && touch $(VENV)/node
	@$(BIN)/python web/build.py & \
	$(PIP) --no-compile --require-hashes -r requirements/run.txt -r requirements/build.txt && $(EDITABLE); \
	status=$$?; wait; exit $$status
	@touch $@

$(VENV)/ready: $(VENV)/serves requirements/dev.txt
	@echo "Installing what the tests need into $(VENV): a minute, once."
	$(PIP) --require-hashes -r requirements/dev.txt
	@touch $@
endif

$(VENV)/venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Assent needs Python 3.11 or newer, and '$(PYTHON)' is older. Name another: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

serve: $(VENV)/serves  ## Start the server with the demo agent, and its web page
	@$(MAKE) --no-print-directory page || echo "The server starts without the page as it is now."
	$(BIN)/assent serve --host $(HOST) --port $(PORT)

page: $(VENV)/serves  ## Build the web page, if its sources have changed
	@test -e $(VENV)/node || $(MAKE) --no-print-directory node
	@$(BIN)/python web/build.py

# The tests start many processes. Without stored bytecode each would compile every module anew.
test test-fast test-web clients crash: export PYTHONDONTWRITEBYTECODE :=

test: $(VENV)/ready  ## Run the tests
	@$(BIN)/python -m tests.support.node || $(MAKE) node
	@$(BIN)/python -m compileall -q -j 0 assent tests/support
	$(BIN)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder --ignore tests/web

test-web: $(VENV)/web page browser  ## Test the web page in a browser, and the TypeScript packages
	@$(BIN)/python web/build.py test
	$(BIN)/python -m pytest -n 2 --dist loadfile tests/web

$(VENV)/web: $(VENV)/ready requirements/web.txt
	$(PIP) --require-hashes -r requirements/web.txt
	@touch $@

browser: $(VENV)/ready  ## Install the Chromium that tests open the page in, if there is none
	@$(BIN)/python -m tests.support.node || $(MAKE) node
	@$(BIN)/python -m tests.support.browser

test-fast: $(VENV)/ready  ## Run the tests that start no process; make test-fast LOWEST=1 with the lowest versions of all requirements, and a server
	$(BIN)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder -m "not slow" --ignore tests/web
	$(if $(LOWEST),$(BIN)/python -m pytest $(SERVED))

node: $(VENV)/serves  ## Install the Node.js that the page is built with; tests run clients in it if there is no other
	$(PIP) --require-hashes -r requirements/node.txt
	@touch $(VENV)/node

clients: $(VENV)/ready  ## Install the JavaScript clients that people have, and test them; make clients LATEST=1 tries their newest versions
	@$(BIN)/python -m tests.support.node || $(MAKE) node
	$(BIN)/python -m clients.install $(if $(LATEST),--latest)
	$(BIN)/python -m pytest -n 2 clients

crash: $(VENV)/ready  ## Kill, starve and attack the server for hours; CONTRIBUTING.md says with what, and how to do less
	CRASH_KILLS=$(CRASH_KILLS) $(BIN)/python -m pytest tests/acceptance/test_crash_storm.py
	WEATHER_ROUNDS=$(WEATHER_ROUNDS) $(BIN)/python -m pytest tests/acceptance/test_crash_weather.py
	SOAK_MINUTES=$(SOAK_MINUTES) $(BIN)/python -m pytest tests/acceptance/test_crash_soak.py
	STREAM_KILLS=$(STREAM_KILLS) STREAM_THREADS=$(STREAM_THREADS) STREAM_EVENTS=$(STREAM_EVENTS) \
		$(BIN)/python -m pytest tests/acceptance/test_streams.py
	CLIENT_KILLS=$(CLIENT_KILLS) $(BIN)/python -m pytest tests/clients/test_kills.py
	SLOW_READERS=$(SLOW_READERS) SLOW_SECONDS=$(SLOW_SECONDS) \
		$(BIN)/python -m pytest tests/acceptance/test_slow_readers.py
	CRASH_KILLS=$(STORAGE_KILLS) $(BIN)/python -m pytest tests/storage/test_crash.py
	ASSENT_SAVER_KILLS=$(SAVER_KILLS) $(BIN)/python -m pytest tests/storage/test_saver.py -k kill
	ASSENT_IMPORT_KILLS=$(IMPORT_KILLS) $(BIN)/python -m pytest tests/importing -k kill
	CRASH_CONTESTS=$(CONTESTS) $(BIN)/python -m pytest tests/acceptance/test_contested_decisions.py
	CRASH_CONTESTS=$(CONTESTS) $(BIN)/python -m pytest tests/api/test_decisions.py -k all_people
	CRASH_DECISIONS=200 $(BIN)/python -m pytest tests/acceptance/test_audit.py -k very_many
	CRASH_ROUNDS=27 $(BIN)/python -m pytest tests/acceptance/test_approval_crashes.py
	ASSENT_SEEDS=$(LIVES) $(BIN)/python -m pytest tests/approvals/test_lives.py
	ASSENT_SEEDS=500 $(BIN)/python -m pytest tests/storage/test_saver_random.py
	ASSENT_LIVES=$(WIRED_LIVES) $(BIN)/python -m pytest tests/runs/test_lives.py
	ASSENT_ATTACKS=$(ATTACKS) $(BIN)/python -m pytest tests/graphs/test_attack.py
	FUZZ_SECONDS=$(FUZZ_SECONDS) $(BIN)/python -m pytest --timeout 0 tests/security/test_fuzz.py
	OPENAPI_SECONDS=$(OPENAPI_SECONDS) OPENAPI_SEED=$$(date +%s) $(BIN)/python -m pytest tests/security/test_openapi.py

openapi: $(VENV)/ready  ## Walk the server by its own OpenAPI document, in each role: five minutes; make openapi OPENAPI_SEED=7 walks in another way
	OPENAPI_SECONDS=$(OPENAPI_SECONDS) OPENAPI_SEED=$(OPENAPI_SEED) $(BIN)/python -m pytest tests/security/test_openapi.py

contract: $(VENV)/ready  ## Write web/openapi.json, the contract of the web page and the TypeScript client, anew
	$(BIN)/python -m tests.support.contract

check: $(VENV)/ready  ## Lint, format, types and layers; types of the TypeScript packages too
	@test -e $(VENV)/node || $(MAKE) --no-print-directory node
	@$(BIN)/python web/build.py check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/web page browser  ## Print the ratios
	$(BIN)/python -m benchmarks

PIN = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-header
COMPILE = $(PIN) pyproject.toml --extra openai --extra anthropic --extra otel

lock: $(VENV)/ready  ## Pin the requirements anew; make lock LOCK=--upgrade for newer ones
	$(COMPILE) --output-file requirements/run.txt $(LOCK)
	$(COMPILE) --group dev --constraint requirements/run.txt --output-file requirements/dev.txt $(LOCK)
	$(COMPILE) --group dev --resolution lowest-direct --output-file requirements/lowest.txt $(LOCK)
	$(PIN) --group build --constraint requirements/run.txt --output-file requirements/build.txt $(LOCK)
	$(PIN) --group node --output-file requirements/node.txt $(LOCK)
	$(PIN) --group web --constraint requirements/dev.txt --output-file requirements/web.txt $(LOCK)

dist: $(VENV)/ready page  ## Build all that is published, into dist/: wheels, sdists, and the packages for npm
	rm -rf dist
	$(BIN)/hatchling build -t sdist -t wheel -d dist
	cd packages/client && $(abspath $(BIN))/hatchling build -t sdist -t wheel -d ../../dist
	@$(BIN)/python web/build.py pack dist

clean:  ## Remove the environment
	rm -rf .venv .venv-lowest
