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


def test_bodies_that_only_the_admin_or_a_masked_round_needs_wait_for_a_request():
    code = (
        "import sys, app.main; from app.config import Settings; "
        "made = app.main.create_app(Settings(admin_key='0' * 32)); "
        "late = {'app.api.routes.experiments', 'app.api.routes.page', 'serverless_fl.wire.views', "
        "'serverless_fl.wire.masking'}; "
        "print(*sorted((late | {'cryptography'}) & sys.modules.keys())); "
        "made.openapi(); print(late <= sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n") == ["", "True", ""]


def test_no_validator_of_a_body_is_built_before_a_request_needs_it():
    code = (
        "import app.main; from pydantic import BaseModel; "
        "below = lambda kind: {kind}.union(*map(below, kind.__subclasses__())); "
        "ours = [m for m in below(BaseModel) if m.__module__.startswith('serverless_fl')]; "
        "assert any(m.__name__ == 'Subscribe' for m in ours); "
        "print(*sorted(m.__name__ for m in ours if m.__pydantic_complete__))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    defaults = "ConstantRate FedAvg NormBound Synchronous Uniform"
    assert done.stdout.strip() == defaults  # the choices of an experiment that says nothing
