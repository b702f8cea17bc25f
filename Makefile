# `make run` and `make test` set up everything they need. PYTHON=/path/to/python3.11 chooses the interpreter.

.PHONY: help run test test-fast test-image gpu-check has-image-python lint format bench results notebooks lock lock-image lock-serving lock-dashboard \
	debian clean venv dashboard-venv screenshots
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Each process takes the next file, the long ones first (tests/conftest.py).
PARALLEL := -n 2 --dist loadfile --no-loadscope-reorder
# The Merlin image's versions, for Python 3.10. IMAGE_PYTHON= chooses the interpreter; pyenv's `python3.10` may be there and not run.
IMAGE := docker/image-23.12
IMAGE_VENV := .venv-image
IMAGE_PYTHON = $(shell for python in python3.10 "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/3.10*/bin/python3.10; do \
	"$$python" -c "import ensurepip, venv" >/dev/null 2>&1 && echo "$$python" && break; done)
# In the image protobuf's Python code does the work; there is no GPU in a test.
IMAGE_TEST = PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION=python $(IMAGE_VENV)/bin/python -m pytest
# One training, export and parity with a real Triton.
IMAGE_SLOW := tests/ensemble/test_parity.py
# What computes, reads and writes with the image's packages, and runs on its Python; not what terminals, names of files,
# texts and pictures look like, which `make test` has seen.
IMAGE_FAST := tests/contracts tests/core tests/workflows tests/models tests/ensemble tests/test_extending.py tests/test_image.py \
	$(addprefix tests/marquee/test_,own_table.py prepare.py training.py) tests/report/test_made.py \
	--ignore=tests/workflows/sources/test_text.py --ignore=tests/models/evaluation/test_compare_seeds.py
# The tests that are run once more under a counted driver: that is for the lock, as the image has cuDF.
IMAGE_WITHOUT := tests/core/test_gpu.py::test_the_fast_tests_of_what_imports_merlin_pass_there

# The page's packages, and the browser tests', which start the rest with the main environment's Python.
DASHBOARD := .venv-dashboard
BROWSER := MARQUEE_PYTHON="$(abspath $(BIN))/python" $(DASHBOARD)/bin/python

help: ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

run: $(READY) ## MovieLens-100K to recommendations from Triton, in one command
	@$(BIN)/python -m marquee run $(ARGS)

test: $(READY) debian dashboard-venv ## every test: fast ones first, then those that train and serve, then the page in a browser
	@$(BIN)/python -m pytest -m "not slow" $(PARALLEL) $(ARGS)
	@$(BIN)/python -m pytest -m slow $(PARALLEL) $(ARGS)
	@$(BROWSER) -m pytest $(PARALLEL) tests/dashboard/browser tests/report/browser $(ARGS)

test-fast: $(READY) ## the tests that take seconds
	@$(BIN)/python -m pytest -m "not slow" $(PARALLEL) $(ARGS)

test-image: ## the fast tests of what computes and serves, and one training, export and parity, with the Merlin image's versions (needs Python 3.10)
	@test -n "$(IMAGE_PYTHON)" || { echo "error: no Python 3.10 with venv was found; give one with IMAGE_PYTHON=" >&2; exit 2; }
	@UV_OVERRIDE=$(IMAGE).overrides tools/setup.sh "$(IMAGE_PYTHON)" $(IMAGE_VENV) $(IMAGE).lock
	@tools/debian.sh $(IMAGE_VENV)
	@$(IMAGE_TEST) -m "not slow" $(PARALLEL) -rf --deselect $(IMAGE_WITHOUT) $(IMAGE_FAST) $(ARGS)
	@$(IMAGE_TEST) -m slow -rf $(IMAGE_SLOW)

lint: $(READY) ## ruff (check and format), mypy, and hadolint for the Dockerfiles
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/hadolint docker/Dockerfile docker/serving.Dockerfile docker/page.Dockerfile

format: $(READY) ## let ruff rewrite what it can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(READY) ## measure against peers, each in its own environment (hours; ONLY="dlrm etl" for some)
	@$(BIN)/python bench/run.py $(if $(ONLY),--only $(ONLY)) $(ARGS)

gpu-check: $(READY) ## on a machine with a GPU: training, precision, row-wise updates, cuDF, ONNX parity and speed, in one JSON
	@$(BIN)/python bench/gpu_check.py $(ARGS)

results: $(READY) ## train everything with five seeds again, and renew the README's figures (hours)
	@$(BIN)/python bench/accuracy.py --measure $(ARGS)

notebooks: $(READY) ## run the notebooks again over ML-100K, with their pictures (MARQUEE_RUN=FOLDER for another run)
	@test -n "$(MARQUEE_RUN)" || $(BIN)/python -m marquee run
	@$(BIN)/python tools/notebooks.py $(ARGS)

lock: $(READY) ## renew requirements.txt, with hashes, from requirements.in
	@$(BIN)/python tools/lock.py requirements.in requirements.txt --upgrade $(ARGS)

has-image-python:
	@test -n "$(IMAGE_PYTHON)"

lock-image: $(READY) ## renew the lock of the Merlin image's versions
	@UV_CONFIG_FILE=$(IMAGE).toml UV_OVERRIDE=$(IMAGE).overrides $(BIN)/python tools/lock.py $(IMAGE).in $(IMAGE).lock \
		--upgrade --no-universal --python-platform x86_64-manylinux_2_35

lock-serving: $(READY) ## renew the locks of the serving image and the page's, after `make lock` and `make lock-dashboard`
	@$(BIN)/python tools/lock.py docker/serving.in docker/serving.lock $(ARGS)
	@$(BIN)/python tools/lock.py docker/page.in docker/page.lock $(ARGS)

lock-dashboard: $(READY) ## renew the lock of the page, requirements-dashboard.txt
	@$(BIN)/python tools/lock.py requirements-dashboard.in requirements-dashboard.txt --upgrade $(ARGS)

dashboard-venv: ## the page's packages, for `python -m marquee dashboard`
	@tools/setup.sh "$(PYTHON)" $(DASHBOARD) requirements-dashboard.txt

screenshots: $(READY) dashboard-venv ## take the pictures of the page in docs/page/ again, over runs/ml-100k
	@$(BROWSER) -m tools.screenshots

debian: $(READY) ## the test tools that are Debian's (promtool), where apt is there
	@tools/debian.sh $(VENV)

clean: ## remove the environment, the runs and the caches; downloads in data/ stay
	rm -rf $(VENV) $(IMAGE_VENV) $(DASHBOARD) .bench runs .mypy_cache .ruff_cache .pytest_cache .hypothesis

venv: $(READY) ## the virtual environment alone

$(READY): requirements.txt tools/uv.txt
	@tools/setup.sh "$(PYTHON)" "$(VENV)" requirements.txt
