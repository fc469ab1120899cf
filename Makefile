# make demo        a whole cluster of virtual Pis on this machine     make demo-down   remove it
# make test        everything CI runs                                make lint        only the linters
# make test-long   what `make test` leaves out for its length
# make test-salt   tests/modules with another release of Salt, SALT=3007 or 3006
# make faults      faults of a whole cluster on virtual Pis: what has not passed, ONLY=F21,G01, or FRESH=1 for all
# make nemesis     a random mix of faults with a checked history, SEED=1 MINUTES=30
# make lab-stacks  addresses on virtual Pis of every network stack
# make bench       what a finished demo costs: an apply with nothing to do, memory per node
# make kitchen     the states in test-kitchen where it is installed, else on virtual Pis of the same roles
# make clean       remove what was built here (not a running demo)
NODES ?=
RELEASE ?=
# Files side by side, the longest first: most tests wait for real daemons, so three workers fit on two cores.
# Of the faults, which need a cluster of their own, only what checks them.
checkers = $(patsubst %,tests/faults/test_%.py,comments delay entries health history moves results search setups shown table)
TESTS ?= tests/lab $(wildcard tests/modules/test_swarm_*.py) tests/modules tests/unit $(checkers)
WORKERS ?= 3
SALT ?= 3007

parallel = -n $(WORKERS) --dist loadfile --no-loadscope-reorder
options = $(if $(NODES),--nodes $(NODES)) $(if $(RELEASE),--release $(RELEASE))
started := $(shell date +%s)
phase = @echo "$(1): $$(( $$(date +%s) - $(started) )) s after the start"

.PHONY: demo demo-down test test-long test-salt faults nemesis lint lab-stacks bench kitchen clean
demo:
	@sh bootstrap/workstation.sh lab
	@.venv/bin/rpiomega lab demo $(options)

demo-down:
	@sh bootstrap/workstation.sh lab
	@.venv/bin/rpiomega lab down
	@sh bootstrap/workstation.sh stop

test:
	@sh bootstrap/workstation.sh test
	$(call phase,workstation ready)
	@$(MAKE) --no-print-directory lint
	$(call phase,lint done)
	@.venv/bin/python -m pytest -p tests.phases -rfEs $(parallel) -m 'not long' $(TESTS)

test-long:
	@sh bootstrap/workstation.sh test
	@.venv/bin/python -m pytest -p tests.phases -rfEs -m long $(TESTS)

test-salt:
	@sh bootstrap/workstation.sh salt $(SALT)
	@.venv-$(SALT)/bin/python -m pytest -p tests.phases -rfEs $(parallel) -m 'not long' tests/modules

faults:
	@sh bootstrap/workstation.sh test
	@RPIOMEGA_FAULTS_ONLY=$(ONLY) RPIOMEGA_FAULTS_FRESH=$(FRESH) .venv/bin/python -m pytest -p tests.phases tests/faults

nemesis:
	@sh bootstrap/workstation.sh test
	@.venv/bin/python -m tests.faults.nemesis --seed $(or $(SEED),1) --minutes $(or $(MINUTES),30)

lint:
	@test -x .venv/bin/mypy || sh bootstrap/workstation.sh test
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/lint-imports --no-logo --no-cache
	.venv/bin/mypy
	.venv/bin/yamllint --strict .
	.venv/bin/salt-lint $$(git ls-files '*.sls' | grep -v '^pillar/site.sls$$')

lab-stacks:
	@sh bootstrap/workstation.sh test
	@RPIOMEGA_STACKS=$${RPIOMEGA_STACKS:-all} .venv/bin/python -m pytest -p tests.phases tests/lab/test_network_stacks.py

bench:
	@sh bootstrap/workstation.sh lab
	@.venv/bin/python -m tests.bench.cluster

# The lab's checks are those of the suites; a lab that fails them stays up to be looked at.
kitchen:
	@sh bootstrap/workstation.sh lab
	@if command -v kitchen >/dev/null; then kitchen test; else \
	  echo "test-kitchen is not installed (docs/kitchen.md): virtual Pis instead"; \
	  for nodes in 1 4; do \
	    .venv/bin/rpiomega lab demo --name kitchen --nodes $$nodes && .venv/bin/rpiomega lab down --name kitchen || exit 1; \
	  done; fi

clean:
	rm -rf .venv .venv-* .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist *.egg-info
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
