# make demo    the whole workflow on scikit-learn's digits, in minutes on two cores
# make paper   what the paper's study would cost and run; `make paper RUN=1` runs it and goes on where an earlier run was cut off
# make measured    docs/measured.md, tables and claims of CIFAR-10, from the rows in released
# make test    the tests          make lint    style, types and workflow checks          make format    put the style right
# make slurm-test    both cluster profiles under a real SLURM, which it installs (as root, with apt), starts and shuts down
# make chaos   kills a small study KILLS=100 times, restarts it, and compares what it leaves with an undisturbed run
#
# Each makes .venv with the exact versions of requirements.txt by itself. PYTHON=python3.12 picks another interpreter, from 3.11 on.

PYTHON ?= python3
VENV := .venv
READY := $(VENV)/installed
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

KILLS ?= 100
DEMO := --configfile config/demo.yaml

.PHONY: help demo paper measured test slurm-test chaos lint format

help:
	@sed -n 's/^# \(make.*\)/\1/p' Makefile

$(READY): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12")'
	@echo "Installing the packages of requirements.txt into $(VENV), one to two minutes."
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/python -m pip install --quiet --quiet --disable-pip-version-check --requirement requirements.txt
	@$(VENV)/bin/python -m pip install --quiet --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

demo: $(READY)
	@python workflow/scripts/unlock.py $(DEMO)
	snakemake $(DEMO) --quiet host reason
	snakemake $(DEMO) --report results/demo/report.html --quiet all
	@python -m esp_core show results/demo

paper: $(READY)
	@python -m esp_core plan
ifdef RUN
	@python workflow/scripts/unlock.py
	snakemake
	snakemake --report results/paper/report.zip --quiet all
else
	@snakemake --dry-run --quiet rules
	@printf '\nThis is the plan; nothing has run. make paper RUN=1 runs it.\n'
endif

TABLES := results/measured
measured: $(READY)
	@mkdir -p $(TABLES)
	@set -e; printf '<!-- make measured writes this page from the rows in released -->\n' > $(TABLES)/page.md; \
	for job in 'cifar10 tables 1' 'cifar10_ipc10 tables 1' 'networks tables 2' 'networks tables 3' 'cifar10 tables 4' \
	  'cifar10 comparisons' 'cifar10 claims'; do \
	  set -- $$job; out="$(TABLES)/$$1-$$2$$3"; python -m esp_core $$2 --spec "$$(python -m esp_core study config/$$1.yaml $$2 $$3)" \
	  --rows $$(find released/*/evaluated -name '*.csv') --published esp_core/reporting/published.csv \
	  $$(test "$$2" != claims || echo --claims esp_core/reporting/claims.yaml) --out "$$out.csv"; \
	  { echo; cat "$$out.md"; } >> $(TABLES)/page.md; done; cp $(TABLES)/page.md docs/measured.md

test: $(READY)
	pytest

slurm-test: $(READY)
	python tests/cluster/run_slurm.py

chaos: $(READY)
	python tests/chaos/kill_the_workflow.py --kills $(KILLS)

lint: $(READY)
	ruff check
	ruff format --check
	mypy
	snakemake --lint
	snakefmt --check workflow

format: $(READY)
	ruff check --fix
	ruff format
	snakefmt workflow
