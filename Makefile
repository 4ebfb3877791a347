# Two commands do everything: `make run` and `make test`. The rest is for daily work.
ifeq ($(strip $(PYTHON)),)
override PYTHON := $(shell command -v python3.11 || command -v python3 || echo python3)
endif
BIN := .venv/bin
ARGS ?=
MAKEFLAGS += --jobs=2  # while one environment is set up, so is the other

.PHONY: run test test-reversed conformance lint lint-style lint-types lint-floors lint-security audit format serve lambda-local openwhisk-local sam-validate
.PHONY: sbom container-test mlflow-test bench bench-accuracy bench-load bench-platforms clean

run: .venv/ready  ## twenty clients train one model through a coordinator
	$(BIN)/python -m client_sdk --clients 20 $(ARGS)

# In the files' own order: by the number of their tests, those that take longest would come last.
# Bytecode is kept, whatever the machine's settings say: a run starts a hundred processes.
PYTEST := env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

test: .venv/ready .venv-sam/ready lint  ## everything that must hold
	$(PYTEST) $(ARGS)

test-reversed: .venv/ready .venv-sam/ready  ## the same tests, the last one first: none may need another
	$(PYTEST) --reversed $(ARGS)

conformance: .venv/ready  ## the API through every way in, a model of 100 MB included
	$(BIN)/python -m pytest tests/conformance -m "large or not large" $(ARGS)

.PHONY: soak
soak: .venv/ready  ## the long forms of faults and bad input, about twenty minutes, and a table
	$(BIN)/python -m tests.soak $(ARGS)

.PHONY: audit-numbers
audit-numbers: .venv/ready  ## the checks of an audit of our figures, with many cases, and a table
	$(BIN)/python -m tests.audit $(ARGS)

.PHONY: mutants
mutants: .venv/ready  ## small changes to the code that no test notices; ARGS='--changed main' for those of a branch
	$(BIN)/python -m tests.mutants $(ARGS)

lint: lint-types lint-style lint-floors lint-security  ## two at a time: types take longest

lint-types: .venv/ready
	$(BIN)/mypy

lint-style: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

lint-floors: .venv/ready
	$(BIN)/lint-imports

lint-security: .venv/ready
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive serverless_fl app client_sdk

audit: .venv/ready  ## known vulnerabilities of what is pinned; needs a network, so no part of lint
	$(BIN)/python .ci/audit.py $(ARGS)

format: .venv/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

serve: .venv/ready  ## a coordinator on this machine; a dashboard at /, its API documentation at /docs
	$(BIN)/python -m app $(ARGS)

lambda-local: .venv/ready  ## the same under Lambda's emulator
	$(BIN)/python -m examples.lambda_local $(ARGS)

openwhisk-local: .venv/ready  ## and as Docker actions of OpenWhisk
	$(BIN)/python -m examples.openwhisk_local $(ARGS)

sam-validate: .venv-sam/ready  ## template.yaml, by the SAM CLI
	SAM_CLI_TELEMETRY=0 AWS_DEFAULT_REGION=eu-west-1 .venv-sam/bin/sam validate --lint

mlflow-test: .venv-mlflow/ready  ## what MLflow is told by `run --track mlflow`
	.venv-mlflow/bin/python -m pytest tests/client_sdk/results/test_mlflow.py -m mlflow $(ARGS)

sbom: .venv-sbom/ready  ## what the image installs, as CycloneDX: sbom.json
	.venv-sbom/bin/cyclonedx-py requirements docker/requirements.txt --pyproject pyproject.toml \
		--output-reproducible --of JSON -o sbom.json

container-test: .venv/ready  ## the Dockerfile, built by buildah
	tests/container.sh

bench: .venv/ready  ## beside peers and limits, in short; writes benchmarks/RESULTS.md
	$(BIN)/python -m benchmarks $(ARGS)

bench-accuracy: .venv/ready  ## accuracy over ten seeds; ARGS choose the data set
	$(BIN)/python -m benchmarks.training.accuracy $(ARGS)

bench-load: .venv/ready  ## twenty to two thousand clients against two workers
	$(BIN)/python -m benchmarks.load.load $(ARGS)

bench-platforms: .venv/ready  ## cold start and warm request on each platform
	$(BIN)/python -m benchmarks.coordinator.platforms $(ARGS)

define check_python
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	echo "Python 3.11 is needed, or a newer one, and $(PYTHON) is not: make PYTHON=/path/to/python3.11"; \
	exit 1; }
endef

# The stamp is younger than what it was made from, or all is installed again.
.venv/ready: pyproject.toml constraints.txt
	$(check_python)
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints.txt --editable '.[server,client,aws,dev]'
	@# For Lambda's emulator, which it carries; its own dependencies clash with ours.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps aws-sam-cli==1.170.0
	@touch $@

# MLflow brings some thirty packages, large ones among them, for one test.
.venv-mlflow/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-mlflow
	.venv-mlflow/bin/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints.txt --editable '.[server,client,aws,dev,mlflow]'
	@touch $@

# The SAM CLI in a place of its own, because it pins what we need newer.
.venv-sam/ready: Makefile
	$(check_python)
	$(PYTHON) -m venv .venv-sam
	.venv-sam/bin/python -m pip install --quiet --disable-pip-version-check aws-sam-cli==1.170.0
	@touch $@

.venv-sbom/ready: Makefile
	$(PYTHON) -m venv .venv-sbom
	.venv-sbom/bin/python -m pip install --quiet --disable-pip-version-check cyclonedx-bom==7.5.0
	@touch $@

clean:
	rm -rf mutants .venv .venv-sam .venv-mlflow .venv-sbom .venv-peers .mypy_cache .pytest_cache .ruff_cache .import_linter_cache *.egg-info
