# Everything a person or a CI runs. `make demo` and `make test` need Python >= 3.11 and make, no more.
# PYTHON=python3.12 chooses the interpreter of .venv; `make clean` first when it has one already.

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
LOCKS := requirements/runtime.lock requirements/dev.lock
PIP := -m pip --disable-pip-version-check --no-input
WORKERS := 2

# The first of these that runs and is new enough: a distribution's python3 may be older.
OLD_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for each in python3 python3.13 python3.12 python3.11; do \
	"$$each" -c '$(OLD_ENOUGH)' 2>/dev/null && echo "$$each" && break; done)

# Elixir's client is tested where Elixir is; its project has nothing to fetch.
CLIENT := elixir_client_stub
MIX := cd $(CLIENT) && HEX_OFFLINE=1 MIX_ENV=test DSPY_BRIDGE_PYTHON=$(CURDIR)/$(BIN)/python mix
HAS_ELIXIR := $(shell command -v mix)
NO_ELIXIR = echo "make: no mix found, so the Elixir client is left out"$(if $(REQUIRE_ELIXIR),; exit 1)

.PHONY: demo test test-elixir check check-elixir readme bench lock clean
.NOTPARALLEL:

demo: $(INSTALLED)
	@$(BIN)/dspy-bridge demo

# What measures time and memory runs by itself, after the rest.
test: $(INSTALLED) test-elixir
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m "not load"
	@$(BIN)/python -m pytest -m load

test-elixir: $(INSTALLED)
	@$(if $(HAS_ELIXIR),$(MIX) test,$(NO_ELIXIR))

check: $(INSTALLED) check-elixir
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy

check-elixir:
	@$(if $(HAS_ELIXIR),$(MIX) do format --check-formatted + compile --force --warnings-as-errors,$(NO_ELIXIR))

# Writes the generated blocks of the README again; a test fails when they are stale.
readme: $(INSTALLED)
	@$(BIN)/python -m tests.readme

bench: $(INSTALLED)
	@$(BIN)/python -m bench

# The locks are frozen on the oldest Python: newer ones need the same packages or fewer.
lock:
	@rm -rf build/lock && $(PYTHON) -m venv build/lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' \
		|| { echo "make lock: needs PYTHON=python3.11, the oldest that is supported"; exit 1; }
	@mkdir -p requirements
	@build/lock/bin/python $(PIP) install --quiet .
	@build/lock/bin/python $(PIP) freeze --exclude dspy-bridge > requirements/runtime.lock
	@build/lock/bin/python $(PIP) install --quiet '.[dev]'
	@{ echo "-r runtime.lock"; \
		build/lock/bin/python $(PIP) freeze --all --exclude pip --exclude dspy-bridge \
		| grep -vxFf requirements/runtime.lock; } > requirements/dev.lock
	@rm -rf build/lock

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	rm -rf $(CLIENT)/_build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The build tool is locked, too, so nothing is resolved here. `compat` is a line in a .pth file; the
# usual way is an import hook that every start of Python would load first, 15 ms of it.
$(INSTALLED): $(LOCKS) pyproject.toml
	@test -n "$(PYTHON)" || { echo "make: no Python >= 3.11 found; name one as PYTHON=..."; exit 1; }
	@$(PYTHON) -c '$(OLD_ENOUGH)' \
		|| { echo "make: $(PYTHON) is too old, 3.11 or newer is needed"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python $(PIP) install --quiet -r requirements/dev.lock
	@$(BIN)/python $(PIP) install --quiet --no-deps --no-build-isolation \
		--config-settings editable_mode=compat -e .
	@touch $@
