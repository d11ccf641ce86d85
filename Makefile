# The commands of this project. Each sets up what is missing first; a second time that takes no time.
MAKEFLAGS += --no-print-directory
PYTHON ?= python3
VENV := .venv/bin

# bench: ONLY=name runs one, with TARGET and DURATION_S for ONLY=sustained. demo: DEMO_SECONDS (default 60).
# Variables given on the command line reach the programs through the environment.

.PHONY: help demo test bench chaos stack stack-stop check docs lint lock setup setup-venv
.DEFAULT_GOAL := help

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' Makefile | expand -t 14

demo: setup ## the whole way of a reading on real servers, with a cut link and a killed ingest
	@$(VENV)/python -m deploy.demo

test: setup lint ## everything: format, lint, types, unit tests, tests on real servers
	@$(VENV)/pytest -n 2 --dist loadfile --no-loadscope-reorder

bench: setup ## measure: a table and bench.json (ONLY=name, TARGET, DURATION_S)
	@$(VENV)/python -m deploy.bench

chaos: setup ## the long kill matrix
	@$(VENV)/python -m deploy.chaos

stack: setup ## start PostgreSQL, Mosquitto and Kafka; prints the environment as NAME=value
	@$(VENV)/python -m deploy.stack up

stack-stop: setup-venv ## stop them; the data stays
	@$(VENV)/python -m deploy.stack down

check: setup-venv lint ## format, lint, types, import rules, unit tests; under a minute
	@$(VENV)/pytest -q -n 2 --dist loadfile tests/unit tests/test_architecture.py

docs: setup-venv ## write docs/reference again from the code
	@$(VENV)/python -m deploy.reference

lint: setup-venv
	@$(VENV)/ruff format --check --quiet .
	@$(VENV)/ruff check --quiet .
	@$(VENV)/mypy --no-error-summary

lock: ## compile the requirement files again from pyproject.toml (needs uv)
	@for extra in agent hub dev; do \
	  uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	    --no-emit-index-url --no-emit-find-links --no-header \
	    --extra $$extra pyproject.toml --output-file deploy/requirements/$$extra.txt || exit 1; \
	done

setup:
	@$(PYTHON) -m deploy.setup

setup-venv:
	@$(PYTHON) -m deploy.setup venv
