"""What a cold start of the coordinator loads and builds, before it answers a poll."""

import subprocess
import sys


def test_the_application_is_imported_without_numpy():
    code = (
        "import sys, app.main, app.service.clients.checking; "
        "from serverless_fl.aggregation import strategy_of; "
        "from serverless_fl.domain.experiment import Config; "
        "strategy_of(Config(dataset='', dataset_size=100, model='')).weight; "
        "print('numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_no_validator_of_a_body_is_built_before_a_request_needs_it():
    code = (
        "import app.main; from pydantic import BaseModel; "
        "below = lambda kind: {kind}.union(*map(below, kind.__subclasses__())); "
        "ours = [m for m in below(BaseModel) if m.__module__.startswith('serverless_fl')]; "
        "assert len(ours) > 90; "
        "print(*sorted(m.__name__ for m in ours if m.__pydantic_complete__))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    defaults = "ConstantRate FedAvg NormBound Synchronous Uniform"
    assert done.stdout.strip() == defaults  # the choices of an experiment that says nothing
