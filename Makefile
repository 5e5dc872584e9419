# Two commands matter: `make demo` and `make test`. Both set up .venv first.
# Needs Python 3.11 to 3.14 and make; say PYTHON=python3.12 to choose.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.14 python3.11; do \
	"$$p" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 15))' 2>/dev/null && echo "$$p" && break; done)
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test product simulate walk bench bench-stores lint check lock setup clean

setup: $(READY)

$(READY): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "keyturn needs Python 3.11 to 3.14; none was found on the PATH."; exit 1; }
	"$(PYTHON)" -m venv --clear .venv
	# The lock is complete, so nothing is resolved again; pip checks every hash.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(READY)

# Where the demo keeps its keys: age, vault or aws.
STORE := age

demo: $(READY)
	$(BIN)/python -P -m keyturn.demo --store "$(STORE)"

# One more than cores: much of the suite waits for servers to start, and for clocks.
WORKERS := 3

# Hundreds of processes start in the suite; each would compile the project anew where this is set.
test: export PYTHONDONTWRITEBYTECODE :=
test: $(READY)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

# Where the suite walks a shape (each thing that can happen, once), this walks everything.
product: export PYTHONDONTWRITEBYTECODE :=
product: $(READY)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --product

# Workers, a person and a world that fails, under a seeded scheduler: COUNT seeds on every core, or SEED with its trace.
COUNT := 1000000
FIRST := 0
simulate: $(READY)
	$(BIN)/python -m tests.simulation $(if $(SEED),--seed $(SEED),--first $(FIRST) --count $(COUNT))

# One worker waits in any call of its rotation while another goes on: the full product.
walk: $(READY)
	$(BIN)/python -m tests.simulation.walk

bench: $(READY)
	$(BIN)/python -m benchmarks

# The same for Vault (needs `bao` or `vault` on the PATH) and AWS (an emulator).
bench-stores: $(READY)
	$(BIN)/python -m benchmarks.stores

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint test

clean:
	rm -rf .venv demo .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

# Resolves for every supported Python and system at once; names, versions and hashes only.
lock: $(READY)
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --all-extras --group dev --generate-hashes \
		--no-emit-index-url --no-emit-find-links --no-header -o requirements.lock pyproject.toml
