# Every target installs what it needs into .venv; nothing else has to be set up but Python 3.11 or newer.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help install demo test check fix bench evaluate evaluate-full docs clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 16

$(STAMP): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing into .venv (a minute or two the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

install: $(STAMP) ## make .venv with everything in it

demo: $(STAMP) ## the whole loop on a sample fleet, in under two minutes
	@$(BIN)/anomaly demo

test: $(STAMP) ## all tests, Kafka and real data among them where they can be had
	@$(BIN)/anomaly warmup
	@$(BIN)/python -m pytest -n 2 --dist worksteal -q

check: $(STAMP) ## lint, types, layers
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

fix: $(STAMP) ## let ruff mend what it can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(STAMP) ## speed, memory and recovery, beside peers in the same run; some ten minutes
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,bench]'
	@$(BIN)/python -m benchmarks

SUITES := fleet novel
evaluate-full: SUITES += budget
evaluate: $(STAMP) ## detection by one protocol on public data and simulated fleets; reports in evaluation/
evaluate-full: $(STAMP) ## the same, and whether the budget is kept on twenty large fleets; takes its time
evaluate evaluate-full:
	@mkdir -p evaluation
	@for suite in turbofan turbofan-drift battery nab; do \
	  $(BIN)/anomaly evaluate $$suite --data $${ANOMALY_TEST_DATA:-../shared/data} --report evaluation/$$suite.html || failed=1; done; \
	  for suite in $(SUITES); do \
	  $(BIN)/anomaly evaluate $$suite --report evaluation/$$suite.html || failed=1; done; exit $${failed:-0}

docs: $(STAMP) ## write docs/reference again from the code
	@$(BIN)/python -m anomaly.cli.reference docs/reference

clean: ## remove what the other targets made
	rm -rf .venv run dist build .mypy_cache .ruff_cache .hypothesis .import_linter_cache benchmarks/out
