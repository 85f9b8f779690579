# The commands of this repository.  `make help` lists them.
# Written for GNU make 3.81 (the one macOS ships) and a POSIX shell.

VENV  := .venv
BIN   := $(VENV)/bin
READY := $(VENV)/ready
SITE  := build/site

# The oldest Python 3 that is supported: 11 where pyproject.toml says ">=3.11".
OLDEST := $(shell sed -n 's/^requires-python = ">=3\.\([0-9]*\)"$$/\1/p' pyproject.toml)
# Which Python makes the environment: PYTHON=/path/to/python, or the first of these that can.
PYTHON ?= python3.13 python3.12 python3.$(OLDEST) python3

# The same book whoever builds it: a kernel, a Matplotlib or an IPython configuration that the
# user has elsewhere must not reach the notebooks.
export JUPYTER_PATH  := $(CURDIR)/$(VENV)/share/jupyter
export MPLCONFIGDIR  := $(CURDIR)/$(VENV)/matplotlib
export IPYTHONDIR    := $(CURDIR)/$(VENV)/ipython
unexport MPLBACKEND PYTHONPATH PYTHONHOME

.DELETE_ON_ERROR:
.PHONY: help book test check lint slow venv notebooks browser lock clean

help:
	@echo 'make book    the book as a web site, in $(SITE)/'
	@echo 'make check   lint, types, spelling, unit tests (two minutes)'
	@echo 'make test    make check, the book, and the built pages in a browser'
	@echo 'make lock    requirements.lock again, from the ranges in pyproject.toml'
	@echo 'make clean   remove what these commands made'


# ---- the environment ---------------------------------------------------------------------------

venv: $(READY)

# Everything that requirements.lock names, in a fresh environment.  The file `locked` is written
# last, so an interrupted installation starts again.  Matplotlib's font cache is made here because
# the notebook that would make it prints a warning.
$(VENV)/locked: requirements.lock
	@can='import ensurepip, sys, venv; sys.exit(sys.version_info < (3, $(OLDEST)))'; \
	for python in $(PYTHON); do \
	    if "$$python" -c "$$can" 2>/dev/null; then \
	        echo "Making $(VENV) with $$python"; exec "$$python" -m venv --clear $(VENV); \
	    fi; \
	done; \
	echo 'No Python 3.$(OLDEST) or newer with its venv module among: $(PYTHON)' >&2; \
	echo 'Install one (Debian and Ubuntu: apt-get install python3-venv),' >&2; \
	echo 'or name it: make PYTHON=/path/to/python ...' >&2; exit 1
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -c 'import matplotlib.pyplot'
	@touch $@

# The package itself, as a link to this folder.  The lock brings the build backend, so nothing is
# downloaded here; `pip check` notices a lock that no longer satisfies pyproject.toml.
$(READY): $(VENV)/locked pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	    --no-deps --no-build-isolation -e .
	$(BIN)/python -m pip check
	@touch $@

# The oldest Python that is supported, since what it can install the newer ones can as well; and a
# torch that moves on purpose, not with whoever runs `make lock` next: it is the largest package
# by far.
LOCK_PYTHON ?= python3.$(OLDEST)
LOCK_WITH   ?= torch==2.13.0

# `+cpu` and the CUDA libraries belong to one machine; on Linux pip adds the right ones by itself.
lock:
	rm -rf build/lock
	@mkdir -p build
	$(LOCK_PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --quiet -e '.[babilong,baselines,book,test]' $(LOCK_WITH)
	@{ echo '# Made from pyproject.toml by "make lock"; not edited by hand.'; \
	   build/lock/bin/python -m pip freeze --exclude-editable \
	   | sed -e '/^nvidia-/d' -e '/^cuda-/d' -e '/^triton==/d' -e 's/^\(torch==[^+]*\)+.*/\1/'; \
	 } > build/requirements.lock
	@if grep -e ' @ ' -e '://' build/requirements.lock; then \
	    echo 'A package came from a file or an address, not from an index' >&2; exit 1; fi
	mv build/requirements.lock requirements.lock
	rm -rf build/lock


# ---- the checks --------------------------------------------------------------------------------

# A process that has nothing left to do takes over half of what another one still has before it.
SIDE_BY_SIDE := -n auto --maxprocesses=4 --dist worksteal
UNIT_TESTS   := $(BIN)/pytest -q $(SIDE_BY_SIDE) -p no:nbmake --ignore=tests/browser
COVERAGE     := --cov=armt_mini --cov-report=term-missing:skip-covered --cov-fail-under=95

check: lint
	$(UNIT_TESTS) -m 'not slow'

# Also what is slow: several processes, the shipped models, the chapters, and the book's pages in a
# browser; and whether the fast tests reach all code, which makes those slower.
test: lint
	$(UNIT_TESTS) $(COVERAGE)
	@$(MAKE) --no-print-directory browser

lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/basedpyright
	$(BIN)/codespell

slow: $(READY)
	$(BIN)/pytest -q -p no:nbmake --ignore=tests/browser -m slow

# Times are taken last, by one process with nothing beside it.
browser: book
	$(BIN)/python tests/browser/chromium.py --install
	$(BIN)/pytest -q $(SIDE_BY_SIDE) --confcutdir=tests/browser \
	    --ignore=tests/browser/test_speed.py tests/browser
	$(BIN)/pytest -q --confcutdir=tests/browser tests/browser/test_speed.py


# ---- the book ----------------------------------------------------------------------------------

# The last ones take longest and begin first, so that none is left running alone.
CHAPTERS := $(shell ls -r book/chapters/*.ipynb)
EXECUTED := $(CHAPTERS:book/chapters/%=build/executed/%)
PAGES    := $(shell find book -type f ! -path '*/.*')
PACKAGE  := $(shell find armt_mini data -type f ! -name '*.pyc' ! -path '*/.*')

notebooks: $(EXECUTED)

# Each chapter runs once: this is its test, and its outputs are what the pages show.  It runs in a
# folder as deep as book/chapters/, so ../../data is the same place, and moves when it has passed.
build/executed/%.ipynb: book/chapters/%.ipynb $(PACKAGE) $(VENV)/locked | $(READY)
	@mkdir -p build/running build/executed
	@cp $< build/running/$*.ipynb
	@echo 'Running $<'
	@$(BIN)/pytest -q --no-header -p no:cacheprovider -W default \
	    --nbmake --overwrite --nbmake-kernel=python3 --nbmake-timeout=120 build/running/$*.ipynb
	@mv build/running/$*.ipynb $@

# Built from scratch whenever anything changed: Sphinx repeats no warning about a page that it has
# read before, so a second incremental build could pass where the first one failed.  The settings
# are those of _config.yml, but for the notebooks, which have been run.  Jupyter Book can fail and
# report success: the pages count as built when they are there.
$(SITE)/index.html: $(EXECUTED) $(PAGES) _config.yml $(VENV)/locked | $(READY)
	@rm -rf build/book build/_build $(SITE)
	@mkdir -p build
	@cp -R book build/book
	@cp $(EXECUTED) build/book/chapters/
	@sed 's/execute_notebooks:.*/execute_notebooks: "off"/' _config.yml > build/_config.yml
	@echo 'Building the book'
	@$(BIN)/jupyter-book build build/book --config build/_config.yml --path-output build \
	    -W -n --keep-going --quiet >build/book.log || { cat build/book.log; exit 1; }
	@test -f build/_build/html/index.html || { cat build/book.log; echo 'No pages'; exit 1; }
	@mv build/_build/html $(SITE)

# Two chapters run at a time: each keeps to one thread.
book: $(READY)
	@$(MAKE) --no-print-directory -j2 $(SITE)/index.html
	@echo
	@echo "The book: file://$(CURDIR)/$(SITE)/index.html"
	@echo 'or serve it: $(BIN)/python -m http.server --directory $(SITE)'

# The environment stays (rm -rf $(VENV) removes it): what it holds was downloaded.
clean:
	rm -rf build .pytest_cache .ruff_cache .coverage
	find armt_mini tests book -name __pycache__ -prune -exec rm -rf {} +
