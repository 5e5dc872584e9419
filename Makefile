# Two commands matter: `make demo` and `make test`. Both set up .venv first, with what they need.
# Needs Python 3.11 to 3.14 and make; say PYTHON=python3.12 to choose.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.14 python3.11; do \
	"$$p" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 15))' 2>/dev/null && echo "$$p" && break; done)
BIN := .venv/bin
READY := .venv/.ready
TOOLS := .venv/.tools
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps

.PHONY: demo test product simulate walk bench bench-stores lint check lock setup clean

# What a machine needs that rotates keys, and nothing that tests them.
setup: $(READY)

$(READY): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "keyturn needs Python 3.11 to 3.14; none was found on the PATH."; exit 1; }
	"$(PYTHON)" -m venv --clear .venv
	# The lock is complete, so nothing is resolved again; pip checks every hash.
	$(PIP) --require-hashes -r requirements.lock
	$(PIP) --no-build-isolation --editable .
	@touch $(READY)

# The same, and what tests, checks and measures it.
$(TOOLS): $(READY) requirements-dev.lock
	$(PIP) --require-hashes -r requirements-dev.lock
	@touch $(TOOLS)

# Where the demo keeps its keys: age, vault or aws.
STORE := age

# The AWS of the demo is an emulator, one of the tools.
demo: $(if $(filter aws,$(STORE)),$(TOOLS),$(READY))
	$(BIN)/python -P -m keyturn.demo --store "$(STORE)"

# One more than cores: much of the suite waits for servers to start, and for clocks.
WORKERS := 3

# Hundreds of processes start in the suite; each would compile the project anew where this is set.
test: export PYTHONDONTWRITEBYTECODE :=
test: $(TOOLS)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

# Where the suite walks a shape (each thing that can happen, once), this walks everything.
product: export PYTHONDONTWRITEBYTECODE :=
product: $(TOOLS)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --product

# Workers, a person and a world that fails, under a seeded scheduler: COUNT seeds on every core, or SEED with its trace.
COUNT := 1000000
FIRST := 0
simulate: $(TOOLS)
	$(BIN)/python -m tests.simulation $(if $(SEED),--seed $(SEED),--first $(FIRST) --count $(COUNT))

# One worker waits in any call of its rotation while another goes on: the full product.
walk: $(TOOLS)
	$(BIN)/python -m tests.simulation.walk

bench: $(TOOLS)
	$(BIN)/python -m benchmarks

# The same for Vault (needs `bao` or `vault` on the PATH) and AWS (an emulator).
bench-stores: $(TOOLS)
	$(BIN)/python -m benchmarks.stores

lint: $(TOOLS)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint test

clean:
	rm -rf .venv demo .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

# Resolves for every supported Python and system at once; names, versions and hashes only.
COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --all-extras --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-header

lock: $(TOOLS)
	$(BIN)/python -m pip install --quiet uv
	$(COMPILE) --group build -o requirements.lock pyproject.toml
	$(COMPILE) --group dev --constraint requirements.lock -o requirements-dev.lock pyproject.toml
