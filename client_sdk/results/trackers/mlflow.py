"""A run in MLflow: where MLFLOW_TRACKING_URI says, or in MLflow's own default place."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from client_sdk.results.trackers.tracker import Tracker

_TAG = "serverless-fl.experiment"


class MLflow(Tracker):
    """Records a run in the MLflow experiment MLFLOW_EXPERIMENT_NAME, or `serverless-fl`.

    A resumed run goes on in the same MLflow run. MLflow's telemetry to its makers is off, unless
    MLFLOW_DISABLE_TELEMETRY says otherwise.
    """

    name = "mlflow"
    environment: ClassVar[dict[str, str]] = {"MLFLOW_DISABLE_TELEMETRY": "true"}

    def __init__(self, out: Path) -> None:
        self._client: Any = None
        self._run = ""
        self._reported: dict[str, set[int]] = {}  # the steps of each metric that MLflow has

    def begin(self, experiment_id: str, config: dict[str, Any]) -> None:
        """Create the MLflow run with the settings, or find the one of an earlier start."""
        from mlflow.entities import Param
        from mlflow.tracking import MlflowClient

        self._client = MlflowClient()
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "serverless-fl")
        found = self._client.get_experiment_by_name(name)
        where = found.experiment_id if found else self._client.create_experiment(name)
        earlier = self._client.search_runs(
            [where], f"tags.`{_TAG}` = '{experiment_id}'", max_results=1
        )
        if earlier:
            self._run = earlier[0].info.run_id
            self._client.update_run(self._run, status="RUNNING")
            return
        made = self._client.create_run(where, run_name=experiment_id, tags={_TAG: experiment_id})
        self._run = made.info.run_id
        self._client.log_batch(self._run, params=[Param(k, str(v)) for k, v in config.items()])

    def metrics(self, values: dict[str, float], step: int) -> None:
        """Log one round's figures. MLflow keeps a repeated step twice, so they are logged once."""
        for name, value in values.items():
            if name not in self._reported:
                history = self._client.get_metric_history(self._run, name)
                self._reported[name] = {metric.step for metric in history}
            if step not in self._reported[name]:
                self._client.log_metric(self._run, name, value, step=step)
                self._reported[name].add(step)

    def end(self, report: dict[str, Any], files: Sequence[Path]) -> None:
        """Upload the files, and set how the run ended."""
        for file in files:
            self._client.log_artifact(self._run, str(file))
        status = {"completed": "FINISHED", "failed": "FAILED"}.get(report["state"], "KILLED")
        self._client.set_tag(self._run, "serverless-fl.reason", report["reason"])
        self._client.set_terminated(self._run, status)

    def close(self) -> None:
        """Do nothing: every call above was sent at once."""
