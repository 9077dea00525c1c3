# The vocabulary of this repository. A bare `make` explains it.

PYTHON ?= python3
VENV   := .venv
PY     := $(VENV)/bin/python
READY  := $(VENV)/.ready

# Which PostgreSQL `make test` uses: installed, wheel, a major version such as 16, or a folder with `postgres`
# in it. Empty: the first one found, and where that is an installed one, a second run on the wheel's.
POSTGRES ?=
# What the second run covers: a pytest -m expression; `none` leaves it out.
SECOND_RUN ?= every_postgres and not soak
# How many processes run tests side by side, each with a server of its own, a file at a time; 0: none but pytest's own.
# Most of what tests do is to wait, so two are twice as quick on two cores.
PARALLEL ?= 2
# Anything more for pytest: make test ARGS='-k crash -x'
ARGS ?=
PYTEST = $(PY) -m pytest -n $(PARALLEL) --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help demo test check format bench soak clean usable

help:
	@echo 'Wakelog: the append-only log in your Postgres that wakes your agents.'
	@echo
	@echo '  make demo     a CI pipeline on a private PostgreSQL: a worker is killed, and the past looked at'
	@echo '  make test     run the tests, on an installed PostgreSQL 14 or newer and on the wheel'"'"'s'
	@echo '  make check    lint, format, types, and the floors between the rooms'
	@echo '  make format   let ruff put the code in shape'
	@echo '  make bench    measure appends, wake-ups and deliveries beside the same work done by hand'
	@echo '  make soak     the tests that run for minutes'
	@echo '  make clean    remove .venv, caches and build products (data in .wakelog/ stays)'
	@echo
	@echo 'Each makes its own .venv at first. PYTHON=python3.12 chooses another Python,'
	@echo 'POSTGRES=wheel (or installed, 16, /a/bin/folder) the PostgreSQL for the tests.'

demo: $(READY)
	@$(VENV)/bin/wakelog demo

test: $(READY)
ifneq ($(POSTGRES),)
	WAKELOG_TEST_POSTGRES='$(POSTGRES)' $(PYTEST) $(ARGS)
else
	@$(PYTEST) $(ARGS)
	@if [ '$(SECOND_RUN)' != none ] && [ "$$($(PY) -m wakelog.postgres.binaries --origin)" != wheel ]; then \
	  echo 'Again on the PostgreSQL of the wheel: $(SECOND_RUN)'; \
	  WAKELOG_TEST_POSTGRES=wheel $(PYTEST) -m '$(SECOND_RUN)' $(ARGS); \
	fi
endif

check: $(READY)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/pyright
	$(VENV)/bin/lint-imports

format: $(READY)
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

# Single figures, or a bound that counts: make bench ARGS='no-op batch --strict'
bench: $(READY)
	@$(PY) -m benchmarks $(ARGS)

soak: $(READY)
	@WAKELOG_TEST_POSTGRES='$(POSTGRES)' $(PY) -m pytest -m soak --timeout 3600 $(ARGS)

clean:
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find engine cli tests examples benchmarks migrations -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

# Looks every time, costs a few milliseconds, and saves a puzzling "Permission denied" later.
usable:
	@if [ -e $(VENV) ]; then \
	  [ -w $(VENV) ] && { [ ! -e $(PY) ] || $(PY) -c '' 2>/dev/null; } || { \
	    echo "Expected a $(VENV) that $$(id -un) can run and write, found one of $$(ls -ld $(VENV) | awk '{print $$3}') that is not; remove it (rm -rf $(VENV)) or work in a clone of your own." >&2; \
	    exit 1; }; \
	else \
	  command -v '$(PYTHON)' >/dev/null 2>&1 || { \
	    echo 'Expected Python 3.11 or newer as $(PYTHON), found none; install one, or name it: make PYTHON=/path/to/python3.' >&2; exit 1; }; \
	  '$(PYTHON)' -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "Expected Python 3.11 or newer as $(PYTHON), found $$('$(PYTHON)' -V 2>&1); name a newer one: make PYTHON=python3.12." >&2; exit 1; }; \
	  '$(PYTHON)' -c 'import venv, ensurepip' 2>/dev/null || { \
	    echo 'Expected a $(PYTHON) that can make virtual environments, found one without ensurepip; install it (Debian, Ubuntu: apt-get install python3-venv) or name another: make PYTHON=/path/to/python3.' >&2; exit 1; }; \
	fi

$(READY): pyproject.toml | usable
	@echo 'Installing Wakelog and its tools into $(VENV) (once, and again when pyproject.toml changes) ...'
	@[ -x $(PY) ] || '$(PYTHON)' -m venv $(VENV)
	@$(PY) -m pip install --quiet --disable-pip-version-check --no-input -e '.[dev]'
	@touch $@
