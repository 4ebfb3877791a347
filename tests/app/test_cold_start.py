"""A coordinator that only answers polls and takes updates loads no NumPy."""

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
