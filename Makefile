# `make` lists the targets. Each installs what it needs; `sudo make test` needs only make.

PYTEST_ARGS ?=
# how many processes run the tests of `make test`, file by file; 0: no others
WORKERS ?= 3
PREFIX ?= /usr/local
export PATH := $(PATH):/usr/local/sbin:/usr/sbin:/sbin

# Run the venv's programs by its Python: their first lines break if the checkout is moved.
BIN := .venv/bin
PYTHON := $(BIN)/python
PYTEST := $(PYTHON) -m pytest $(PYTEST_ARGS)
C_FILES = $(shell find tracer/bpf tests bench -name '*.[ch]' | sort)
SH_FILES := tfotrace bench/*.sh scripts/*.sh tests/fuzz/*.sh packaging/deb/* vagrant/*/*.sh .ci/run
DEV := sh scripts/setup-dev.sh
READABLE := sh scripts/readable.sh

.DEFAULT_GOAL := help
.PHONY: test-kernels test-kernels-uml vagrant-check help setup test test-unit test-root test-filters lint lint-ruff lint-format lint-types lint-imports lint-c lint-sh \
	format generate demo bench bench-quick wheel sdist deb deb-check install uninstall lock clean distclean venv system root

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' Makefile

setup: ## install what tests and linters need (programs by apt-get too, when root)
	@if [ "$$(id -u)" = 0 ]; then $(DEV) --system; else $(DEV); fi

test: root system ## run all tests (root)
	@status=0; $(READABLE) $(PYTEST) --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder tests || status=$$?; $(DEV) --give-back; exit $$status

test-unit: venv ## run the tests that need no root
	@$(PYTEST) -m "not root" tests/unit tests/host tests/fuzz tests/tui

test-root: root system ## run the tests that need root
	@status=0; $(READABLE) $(PYTEST) $(wildcard tests/prog tests/netns) || status=$$?; $(DEV) --give-back; exit $$status

test-filters: root system ## compare 1,000 expressions with tcpdump, 10,000 record filters with a plain evaluation (root)
	@status=0; TFOTRACE_EXPRESSIONS=1000 TFOTRACE_RECORD_FILTERS=10000 $(PYTEST) tests/prog/test_filter.py \
		tests/unit/filters/test_filter_plain.py || status=$$?; $(DEV) --give-back; exit $$status

.PHONY: fuzz fuzz-python fuzz-kernel
fuzz: ## fuzz parsing and pairing of packets: RUNS=10000000 executions of each target (needs clang)
	@tests/fuzz/run.sh

fuzz-python: venv ## fuzz replay, filters and other readers of untrusted bytes: EXAMPLES=20000 of each test
	@TFOTRACE_FUZZ_EXAMPLES=$(or $(EXAMPLES),20000) nice -n 10 $(PYTEST) tests/fuzz --timeout 14400 \
		--ignore tests/fuzz/test_headers.py

fuzz-kernel: root system ## compare programs and an independent decoder: FRAMES=1000000 mutated frames (root)
	@status=0; TFOTRACE_FRAMES=$(or $(FRAMES),1000000) $(PYTEST) tests/prog/test_decode_agrees.py || status=$$?; \
		$(DEV) --give-back; exit $$status

lint: lint-ruff lint-format lint-types lint-imports lint-c lint-sh ## check style, types and import contracts, change nothing

lint-ruff: venv
	$(PYTHON) -m ruff check .

lint-format: venv
	$(PYTHON) -m ruff format --check .

lint-types: venv
	$(PYTHON) -m mypy

lint-imports: venv
	$(PYTHON) $(BIN)/lint-imports

lint-c: venv
	$(PYTHON) $(BIN)/clang-format --dry-run --Werror $(C_FILES)

lint-sh:
	@command -v shellcheck >/dev/null || { echo "shellcheck is missing: sudo make setup installs it" >&2; exit 1; }
	shellcheck $(SH_FILES)

format: venv ## format Python and C
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .
	$(PYTHON) $(BIN)/clang-format -i $(C_FILES)

generate: venv ## write anew what follows from the program: docs/REFERENCE.md, SQL in docs/, golden copy of the schema
	@$(PYTHON) scripts/generate.py

.PHONY: pictures
pictures: root venv ## make docs/'s pictures of the dashboard again, the moving one from the demo (root; rsvg-convert)
	@$(PYTHON) scripts/picture.py
	@$(PYTHON) scripts/moving_picture.py

demo: ## trace a private lab with TFO traffic of every outcome (root)
	@./tfotrace demo

bench: root system ## measure speed and memory, compare with other tools, write bench/RESULTS.md (root)
	@status=0; bench/run || status=$$?; $(DEV) --give-back; exit $$status

bench-quick: root system ## the same in under two minutes, without writing it (root)
	@status=0; bench/run --quick || status=$$?; $(DEV) --give-back; exit $$status

.PHONY: test-reliability soak beside
test-reliability: root system ## the long forms of docs/RELIABILITY.md, about an hour: TFOTRACE_KILLS=200 TFOTRACE_FLOOD_S=60 TFOTRACE_SEED=n (root)
	@status=0; TFOTRACE_LONG=1 $(PYTEST) -rP tests/netns/test_add_a_field.py tests/netns/test_e2e_neighbours.py tests/netns/test_faults_interfaces.py \
		tests/netns/test_faults_processes.py tests/netns/test_flood.py tests/netns/test_kill_moments.py \
		tests/netns/test_e2e_process.py tests/unit/test_bounds.py tests/unit/store/test_store.py \
		tests/unit/causes/test_cookies.py tests/unit/causes/test_timeouts.py tests/unit/filters/test_filter.py \
		tests/unit/handshake/test_outcome.py tests/prog/test_decode_agrees.py || status=$$?; \
		$(DEV) --give-back; exit $$status

soak: root system ## handshakes at full rate for SECONDS=600: is any lost, does memory grow? (root)
	@status=0; $(PYTHON) -m bench.soak $(or $(SECONDS),600) || status=$$?; $(DEV) --give-back; exit $$status

beside: root system ## how much tfotrace slows a TCP stream and handshakes during 200,000 SYNs a second (root)
	@status=0; $(PYTHON) -m bench.beside $(or $(ROUNDS),9) || status=$$?; $(DEV) --give-back; exit $$status

.PHONY: fidelity
fidelity: root system ## hold replays of the captures below CAPTURES=DIR against tshark and a second set of rules, write docs/FIDELITY.md (root)
	@[ -n "$(CAPTURES)" ] || { echo "make fidelity: say where the captures are: CAPTURES=DIR" >&2; exit 2; }
	@status=0; $(PYTHON) -m scripts.fidelity "$(CAPTURES)" || status=$$?; $(DEV) --give-back; exit $$status

.PHONY: test-replay test-fleet
test-replay: root system ## replay a generated capture of 1 GB (root)
	@status=0; TFOTRACE_LONG=1 $(PYTEST) -rP tests/netns/test_replay_large.py || status=$$?; $(DEV) --give-back; exit $$status

.PHONY: test-busy
# what failed on a busy machine once: names of processes, SIGHUP under nohup, programs of libxdp, OpenSSL's own SYN
BUSY_TESTS = $(addprefix tests/netns/test_,e2e_process.py e2e_ending.py e2e_files.py e2e_neighbours.py attach_killed.py benefit.py e2e_nginx.py)
test-busy: root system ## run TESTS="tests/..." beside LOAD=20 processes that only use the CPU (root)
	@status=0; sh scripts/busy.sh $(or $(LOAD),20) $(PYTEST) $(or $(TESTS),$(BUSY_TESTS)) || status=$$?; $(DEV) --give-back; exit $$status

.PHONY: test-many-interfaces
test-many-interfaces: root system ## trace 3,000 interfaces, INTERFACES=3000, and measure how long it takes (root)
	@status=0; TFOTRACE_PATIENCE=4 TFOTRACE_INTERFACES=$(or $(INTERFACES),3000) $(PYTEST) tests/netns/test_many_interfaces.py && \
		$(PYTHON) -m bench.many_interfaces $(or $(INTERFACES),3000) || status=$$?; $(DEV) --give-back; exit $$status

test-fleet: root system ## demo -> OpenTelemetry collector -> ClickHouse -> docs/clickhouse's questions (root; 200 MB from PyPI)
	@sh scripts/fleet-check.sh

wheel: venv ## build dist/tfotrace-*.whl
	$(PYTHON) -m pip wheel --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir dist .

test-kernels: root system ## boot Debian's kernels 5.10 to the newest in qemu, run the tests in each: KERNELS="5.10 6.1" QUICK=1 (root; hours without KVM)
	@vagrant/kernels/run.sh $(KERNELS)

.PHONY: test-cpus
test-cpus: root system ## boot a kernel with CPUS=32 and run the tests of rings, counters and pairing over CPUs: KERNELS=6.12 (root; hours without KVM)
	@CPUS=$(or $(CPUS),32) KERNEL_TESTS="$(or $(KERNEL_TESTS),tests/prog/test_bpfsys.py tests/prog/test_layout.py \
		tests/prog/test_races.py tests/prog/test_limits.py tests/prog/test_payload_ring.py tests/netns/test_load_cpus.py \
		tests/netns/test_load_counts.py)" vagrant/kernels/run.sh $(or $(KERNELS),6.12)

test-kernels-uml: root system ## build the same kernels as User Mode Linux and run the tests in each: needs no KVM, one CPU, no JIT; 5.10, 6.1 and 6.12 were tried (root)
	@vagrant/kernels/uml.sh $(KERNELS)

vagrant-check: ## validate vagrant/Vagrantfile without starting a machine
	@sh scripts/vagrant-check.sh

sdist: venv ## build dist/tfotrace-*.tar.gz
	$(PYTHON) -c "from setuptools import build_meta; print(build_meta.build_sdist('dist'))"

deb: venv ## build dist/tfotrace_*.deb for this release of Debian or Ubuntu
	@sh scripts/deb.sh

deb-check: root ## install that package in a fresh Debian, run it, remove it (root; needs debootstrap)
	@sh scripts/deb-check.sh

install: root venv ## install for all users of this host: PREFIX=/usr/local (root)
	@PREFIX=$(PREFIX) sh scripts/install.sh install

uninstall: root ## remove what install put there (root)
	@PREFIX=$(PREFIX) sh scripts/install.sh uninstall

lock: ## rewrite the lock files (needs uv)
	@sh scripts/lock.sh

clean: ## remove built files
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis tests/host/build \
		tests/fuzz/build bench/build bench/out
	find . -name .venv -prune -o -name __pycache__ -exec rm -rf {} +

distclean: clean ## also remove .venv
	rm -rf .venv

venv:
	@$(DEV)

system: root
	@$(DEV) --system

root:
	@[ "$$(id -u)" = 0 ] || { echo "this needs root: sudo make $(MAKECMDGOALS) (make test-unit needs none)" >&2; exit 1; }
