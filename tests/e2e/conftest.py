import pytest

from tests.e2e.processes import SMALL, run


@pytest.fixture(scope="session")
def quiet_run(tmp_path_factory):
    """One small run that nothing disturbs: what the others are compared with."""
    out = tmp_path_factory.mktemp("quiet") / "out"
    done = run(*SMALL, "--out", str(out), "--json")
    assert done.returncode == 0, done.stderr
    return out, done
