# Two commands do everything: `make run` and `make test`. The rest is for daily work.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
ARGS ?=

.PHONY: run test lint format serve lambda-local container-test bench clean

run: .venv/ready  ## twenty clients train one model through a coordinator
	$(BIN)/python -m client_sdk --clients 20 $(ARGS)

test: .venv/ready lint  ## everything that must hold
	$(BIN)/python -m pytest $(ARGS)

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

serve: .venv/ready  ## a coordinator on this machine; its API docs are at /docs
	$(BIN)/uvicorn app.main:app $(ARGS)

lambda-local: .venv/ready  ## the same under Lambda's emulator
	$(BIN)/python -m examples.lambda_local $(ARGS)

container-test: .venv/ready  ## the Dockerfile, built by buildah
	tests/container.sh

bench: .venv/ready  ## accuracy over three seeds; ARGS choose the data set
	$(BIN)/python -m benchmarks.accuracy $(ARGS)

# The stamp is younger than what it was made from, or all is installed again.
.venv/ready: pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 is needed; set PYTHON=..."; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints.txt --editable '.[server,client,aws,dev]'
	@# For Lambda's emulator, which it carries; its own dependencies clash with ours.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps aws-sam-cli==1.170.0
	@touch $@

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .import_linter_cache *.egg-info
