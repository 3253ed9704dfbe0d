# Two commands on a fresh machine with Python >= 3.11, venv and make: `make demo`, `make test`.
PYTHON ?= python3
BIN := .venv/bin

# The kernels' own tests, which CI also runs for CPUs with AVX2 and with SSE2 alone.
KERNEL_TESTS := tests/kernels
AVX2 = $(shell $(PYTHON) -m bench.limits avx2)

# The main path, which must work with every lower bound of pyproject.toml, and the newest there is.
LOWEST := .venv-lowest
NEWEST := .venv-newest
MAIN_PATH_TESTS := tests/kernels/test_gradient.py tests/io/test_saving.py \
	$(patsubst %,tests/api/test_%.py,network derivatives training full_batch)

.PHONY: wheels demo playground bench bench-full bench-peers results test test-slow test-lowest test-newest test-avx2 test-sse2 lint docs clean

demo: .venv/demo
	$(BIN)/deltajit demo

playground: .venv/playground  # a network to watch while it learns, in the browser
	$(BIN)/deltajit playground

# The sdist, the wheel of sources, and one with object code for x86-64-v3 and -v4, which takes minutes.
# The same sources and versions of what compiles give the same bytes.
wheels: export SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct)
wheels: .venv/wheels
	rm -rf build
	$(BIN)/python -m build --outdir dist
	DELTAJIT_WHEEL=1 $(BIN)/python -m build --wheel --outdir dist

bench: .venv/bench  # two minutes: claims about what derivatives cost, which can fail
	$(BIN)/python -m pytest bench/

bench-full: .venv/bench
	$(BIN)/python -m pytest bench/ --full

# Every library on every row of the tables, for this CPU and as if it had no more than AVX2: 15
# minutes each. LIBXSMM and FANN want gcc, libxsmm-dev and libfann-dev. Whatever is missing is said,
# and left out. `PEERS=--tensorflow` adds TensorFlow, in an environment of its own.
PEERS ?=
bench-peers: .venv/bench .venv/peers .peers/jax-0.4.31 $(patsubst --%,.peers/%,$(filter --tensorflow,$(PEERS)))
	for isa in native avx2; do $(BIN)/python -m bench.peers --isa $$isa $(PEERS) || exit 1; done

# All figures and pictures of the documentation, beside other libraries; wants a quiet machine.
CITED := single ensemble start distributed second_order
results: bench-peers
	$(BIN)/python -m pytest bench/ --full --claims=report
	for program in $(CITED); do $(BIN)/python -m bench.$$program || exit 1; done
	$(BIN)/python -m bench.report --docs

# Environments of peers that can't share ours; not every Python has them.
.peers/jax-0.4.31: PACKAGES := jax==0.4.31 jaxlib==0.4.31
.peers/tensorflow: PACKAGES := tensorflow-cpu
.peers/%:
	$(PYTHON) -m venv $@
	$@/bin/python -m pip install --quiet --disable-pip-version-check $(PACKAGES) || rm -rf $@

test: .venv/test
	$(BIN)/python -m pytest --numprocesses=auto --dist=worksteal --benchmark-disable

test-slow: .venv/test
	$(BIN)/python -m pytest -m slow

test-avx2: .venv/test
	$(AVX2) $(BIN)/python -m pytest $(KERNEL_TESTS)

test-sse2: .venv/test
	NUMBA_CPU_NAME=generic NUMBA_CPU_FEATURES= $(BIN)/python -m pytest $(KERNEL_TESTS)

test-lowest: $(LOWEST)/made
	NUMBA_CACHE_DIR=$(CURDIR)/$(LOWEST)/cache $(LOWEST)/bin/python -m pytest $(MAIN_PATH_TESTS)

test-newest:
	$(PYTHON) -m venv --clear $(NEWEST)
	$(NEWEST)/bin/python -m pip install --quiet --disable-pip-version-check --editable ".[test,onnx]"
	NUMBA_CACHE_DIR=$(CURDIR)/$(NEWEST)/cache $(NEWEST)/bin/python -m pytest $(MAIN_PATH_TESTS)

lint: .venv/test .venv/lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/numpydoc lint `find src/deltajit -name '*.py'`

docs: .venv/docs
	$(BIN)/sphinx-build -W --keep-going docs docs/_build/html

clean:
	rm -rf .venv .peers $(LOWEST) $(NEWEST) docs/_build docs/gallery

# One stamp an extra: the environment is made once, and brought up to date when pyproject changes.
.venv/%: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[$*]"
	touch $@

$(LOWEST)/made: pyproject.toml tests/helpers/lowest.py
	rm -rf $(LOWEST)
	$(PYTHON) -m venv $(LOWEST)
	$(PYTHON) tests/helpers/lowest.py > $(LOWEST)/constraints.txt
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check \
		--constraint $(LOWEST)/constraints.txt --editable ".[test,onnx]"
	touch $@
