"""What MLflow is told, read back with its own client: `make mlflow-test`.

MLflow brings some thirty packages, large ones among them: they have an environment of their own,
and the test a run of its own.
"""

import pytest

from client_sdk.results.trackers import Tracking
from tests.support.tracked import CONFIG, FIRST, a_run, files_of

pytestmark = [
    pytest.mark.mlflow,
    pytest.mark.filterwarnings("default"),  # its packages have their own
]


def test_mlflow_reads_back_what_it_was_told(tmp_path, monkeypatch):
    from mlflow.tracking import MlflowClient

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    files = files_of(tmp_path / "files")
    said = []
    a_run(Tracking(["mlflow"], tmp_path, said.append), [], rows=[FIRST])  # interrupted
    a_run(Tracking(["mlflow"], tmp_path, said.append), files)  # and resumed
    assert said == []
    client = MlflowClient()
    where = client.get_experiment_by_name("serverless-fl").experiment_id
    (run,) = client.search_runs([where])
    assert run.info.status == "FINISHED"
    assert run.data.params == {name: str(value) for name, value in CONFIG.items()}
    assert run.data.tags["serverless-fl.experiment"] == "experiment-1"

    def history(name):
        return [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, name)]

    assert history("test/accuracy") == [(1, 0.5), (2, 0.75)]
    assert history("round/bytes_down") == [(1, 1200.0), (2, 1200.0)]
    assert history("federated/loss") == [(1, 1.0)]
    artifacts = {found.path for found in client.list_artifacts(run.info.run_id)}
    assert artifacts == {"report.json", "global.safetensors", "evaluation.png"}
