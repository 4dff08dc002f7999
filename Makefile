# Everything a developer or operator types. Needs Python >= 3.11 and make; the rest is installed
# into .venv (what serves: no torch) and .venv-dev (everything else), and only when pyproject.toml changes.
#
#   make serve                      start, print a curl line that works      make serve UP="--workers 4 --port 9000"
#   make test                       all tests, two files at a time           make test PYTEST="-k supervisor -x" JOBS=0
#   make check                      formatting, lint, types, dependency audit, fast tests
#   make format                     write the formatting that check wants
#   make bench                      the numbers of the README, measured here
#   make bench-peers                Tombola beside other servers, half an hour; installs them into .peers (3 GB)
#   make starter DATA=clinc150_full.json   find the starter tickets again (about half an hour on 2 cores)
#   make monitor                    Prometheus with our rules beside a running make serve: alerts and graphs
#   make fuzz-api                   the API against its own description for half an hour (SECONDS=600: for less)
#   make clean                      remove environments and caches, the peers too (.tombola, the served state, stays)
#
# PYTHON=python3.12 chooses the interpreter. On a machine without a GPU, torch's CPU wheels are much
# smaller than the default ones: name the package index that carries them, as for any pip command, with
#   make test PIP_EXTRA_INDEX_URL=...

PYTHON ?= python3
TORCH ?= torch==2.13.0
UP ?=
DATA ?= clinc150_full.json
PYTEST ?=
JOBS ?= 2
PEERS ?=
SECONDS ?= 1800

SERVING := .venv/.installed
DEVELOPMENT := .venv-dev/.installed
RUN := .venv-dev/bin/python -m

# $(call environment,FOLDER): a virtual environment, after a clear word about too old a Python.
define environment
@command -v "$(PYTHON)" >/dev/null || { echo "Tombola needs Python 3.11 or newer; there is no $(PYTHON) here (make PYTHON=...)" >&2; exit 1; }
@"$(PYTHON)" -c 'import sys; v = sys.version.split()[0]; sys.exit("Tombola needs Python 3.11 or newer; $(PYTHON) is " + v + " (make PYTHON=...)" if sys.version_info < (3, 11) else 0)'
"$(PYTHON)" -m venv $(1)
endef

.PHONY: check monitor serve test format bench bench-peers fuzz-api starter starter-banking starter-travel clean

check: $(DEVELOPMENT)
	$(RUN) ruff format --check .
	$(RUN) ruff check .
	$(RUN) mypy
	$(RUN) tests.audit
	$(RUN) pytest -m "not e2e and not torch" $(PYTEST)

serve: $(SERVING)
	@exec .venv/bin/tombola up $(UP)

test: $(SERVING) $(DEVELOPMENT)
	$(RUN) pytest -n $(JOBS) --dist loadfile $(PYTEST)

# Prometheus with the rules of deploy/ beside a running `make serve`: http://127.0.0.1:9095/alerts
monitor:
	@deploy/monitor.sh

format: $(DEVELOPMENT)
	$(RUN) ruff check --fix .
	$(RUN) ruff format .

bench: $(SERVING) $(DEVELOPMENT)
	$(RUN) bench.run

# Stop it at any time: the same command goes on where it was. PEERS="--quick" shows that everything works.
bench-peers: $(DEVELOPMENT)
	$(RUN) loadtest.peers $(PEERS)
	$(RUN) bench.heavy bench/out/heavy
	$(RUN) loadtest.peers $(PEERS) --overload-only --turns 1 --ticket bench/out/heavy/banking-dense.ticket --out bench/out/peers-heavy

fuzz-api: $(DEVELOPMENT)
	$(RUN) tests.e2e.fuzz_api --seconds $(SECONDS)

# One thread: then two domains can be found side by side (make -j2 starter), and the bits are the same on any
# number of cores.
starter: starter-banking starter-travel

starter-banking: $(DEVELOPMENT)
	.venv-dev/bin/tombola find --data "$(DATA)" --domain banking --out tickets/starter --threads 1 \
	  --sample "please freeze my account" --sample "how much money do i have in savings"

starter-travel: $(DEVELOPMENT)
	.venv-dev/bin/tombola find --data "$(DATA)" --domain travel --out tickets/starter --threads 1 \
	  --sample "do i need a visa for japan" --sample "what time does my flight leave"

clean:
	rm -rf .venv .venv-dev .peers build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(SERVING): pyproject.toml
	$(call environment,.venv)
	.venv/bin/python -m pip install --quiet --editable '.[cpu,redis]'
	@touch $@

$(DEVELOPMENT): pyproject.toml
	$(call environment,.venv-dev)
	.venv-dev/bin/python -m pip install --quiet '$(TORCH)'
	.venv-dev/bin/python -m pip install --quiet --editable '.[cpu,redis,factory,load,dev]'
	@touch $@
