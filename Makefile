# `make run` and `make test` set up everything they need. PYTHON=/path/to/python3.11 chooses the interpreter.

.PHONY: help run test test-fast lint format bench results notebook lock clean venv
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

help: ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

run: $(READY) ## MovieLens-100K to recommendations from Triton, in one command
	@$(BIN)/python -m marquee run $(ARGS)

test: $(READY) ## every test: fast ones first, then those that train and serve
	@$(BIN)/python -m pytest -m "not slow" $(ARGS)
	@$(BIN)/python -m pytest -m slow $(ARGS)

test-fast: $(READY) ## the tests that take seconds
	@$(BIN)/python -m pytest -m "not slow" $(ARGS)

lint: $(READY) ## ruff (check and format), mypy, and hadolint for the Dockerfile
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/hadolint docker/Dockerfile

format: $(READY) ## let ruff rewrite what it can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(READY) ## measure against peers, each in its own environment (hours; ONLY="dlrm etl" for some)
	@$(BIN)/python bench/run.py $(if $(ONLY),--only $(ONLY)) $(ARGS)

results: $(READY) ## train everything with five seeds again, and renew the README's figures (hours)
	@$(BIN)/python bench/accuracy.py --measure $(ARGS)

notebook: $(READY) ## run the notebook over runs/ml-100k again, with its pictures
	@cd notebooks && ../$(BIN)/jupyter execute --inplace dlrm-vs-ncf.ipynb

lock: $(READY) ## renew requirements.txt, with hashes, from requirements.in
	@$(BIN)/python tools/lock.py requirements.in requirements.txt --upgrade $(ARGS)

clean: ## remove the environment, the runs and the caches; downloads in data/ stay
	rm -rf $(VENV) .bench runs .mypy_cache .ruff_cache .pytest_cache .hypothesis

venv: $(READY) ## the virtual environment alone

$(READY): requirements.txt tools/uv.txt
	@tools/setup.sh "$(PYTHON)" "$(VENV)" requirements.txt
