"""A run in the tools that people compare runs with: TensorBoard and MLflow.

Both are told the same, under the same names: what each round gave, the settings, and at the end
the federated figures and the files. They are told from a thread of their own, in order, so that a
slow tracking server holds up no round; one that fails is said so and left out from then on.
"""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol, Self

from client_sdk.exits import UsageError
from client_sdk.simulate import Row

NAMES = ("tensorboard", "mlflow")


class Tracker(Protocol):
    """One tool. `begin` comes first, `close` last, also after an interruption."""

    def begin(self, experiment_id: str, config: dict[str, Any]) -> None: ...
    def metrics(self, values: dict[str, float], step: int) -> None: ...
    def end(self, report: dict[str, Any], files: Sequence[Path]) -> None: ...
    def close(self) -> None: ...


def of_row(row: Row) -> dict[str, float]:
    """A closed round's figures by name; seconds, bytes, and shares of the test set."""
    return {
        "test/accuracy": row.accuracy,
        "test/loss": row.loss,
        "round/seconds": row.seconds,
        "round/bytes_up": float(row.bytes_up),
        "round/bytes_down": float(row.bytes_down),
        "round/updates": float(row.updates),
        **{f"cohort/{name}": value for name, value in sorted(row.federated.items())},
    }


def of_models(report: dict[str, Any]) -> Iterator[tuple[int, dict[str, float]]]:
    """Each version's federated figures, by version; they are known a round later than its own."""
    for found in report["models"]:
        if found["version"] and found["federated"]:
            values = found["federated"].items()
            yield found["version"], {f"federated/{name}": value for name, value in values}


class Tracking:
    """All trackers that were asked for. Use it as a context manager. Raises UsageError."""

    def __init__(self, names: Sequence[str], out: Path, say: Callable[[str], None]) -> None:
        self._trackers: dict[str, Tracker] = {}
        for name in dict.fromkeys(names):
            require(name)
            self._trackers[name] = (
                TensorBoard(out / "tensorboard") if name == "tensorboard" else MLflow()
            )
        self._say = say
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tracking")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._tell(lambda tracker: tracker.close())
        self._thread.shutdown()

    def begin(self, experiment_id: str, config: dict[str, Any]) -> None:
        self._tell(lambda tracker: tracker.begin(experiment_id, config))

    def row(self, row: Row) -> None:
        self._tell(lambda tracker: tracker.metrics(of_row(row), row.round))

    def end(self, report: dict[str, Any], files: Sequence[Path]) -> None:
        def tell(tracker: Tracker) -> None:
            for version, values in of_models(report):
                tracker.metrics(values, version)
            tracker.end(report, files)

        self._tell(tell)

    def _tell(self, what: Callable[[Tracker], None]) -> None:
        if self._trackers:
            self._thread.submit(self._each, what)

    def _each(self, what: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self._trackers.items()):
            try:
                what(tracker)
            except Exception as error:
                # Whatever it was, the training is worth more than the record of it.
                del self._trackers[name]
                self._say(f"{name} is told no more of this run: {error}")


def require(name: str) -> None:
    """Raises UsageError where the tool's package is not installed."""
    try:
        importlib.import_module(name)
    except ImportError as error:
        raise UsageError(
            f"--track {name} takes a package more: pip install 'serverless-fl[{name}]'"
        ) from error


class TensorBoard:
    """Event files in a folder: `tensorboard --logdir runs`."""

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # A run that is resumed tells all its rounds again.
        for old in folder.glob("events.out.tfevents.*"):
            old.unlink()
        self._writer = SummaryWriter(str(folder))
        self._config: dict[str, Any] = {}

    def begin(self, experiment_id: str, config: dict[str, Any]) -> None:
        self._config = {"experiment": experiment_id, **config}

    def metrics(self, values: dict[str, float], step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def end(self, report: dict[str, Any], files: Sequence[Path]) -> None:
        """The settings as hparams; the figures as images, the report as text.

        An event file holds no other files, so the model's place is named.
        """
        from torch.utils.tensorboard.summary import hparams

        plain = (int, float, str, bool)
        known = {k: v if isinstance(v, plain) else str(v) for k, v in self._config.items()}
        goals = {"test/accuracy": None, "test/loss": None}
        for summary in hparams(known, goals):
            self._writer._get_file_writer().add_summary(summary)
        for file in files:
            if file.suffix == ".png":
                self._image(file, report["totals"]["rounds"])
        text = json.dumps(report, indent=2).replace("\n", "\n    ")
        self._writer.add_text("report", f"    {text}")
        names = "\n".join(f"- {file}" for file in files)
        self._writer.add_text("files", names)

    def _image(self, file: Path, step: int) -> None:
        import numpy as np
        from PIL import Image

        with Image.open(file) as image:
            pixels = np.asarray(image.convert("RGB"))
        self._writer.add_image(file.stem, pixels, step, dataformats="HWC")

    def close(self) -> None:
        self._writer.close()


class MLflow:
    """A run in MLflow: where MLFLOW_TRACKING_URI says, or MLflow's own default.

    The MLflow experiment is MLFLOW_EXPERIMENT_NAME's or `serverless-fl`. A run that is resumed
    goes on in the same MLflow run. MLflow's telemetry to its makers is off, unless
    MLFLOW_DISABLE_TELEMETRY says otherwise.
    """

    _TAG = "serverless-fl.experiment"

    def __init__(self) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        self._client: Any = None
        self._run = ""
        self._told: dict[str, set[int]] = {}

    def begin(self, experiment_id: str, config: dict[str, Any]) -> None:
        from mlflow.entities import Param
        from mlflow.tracking import MlflowClient

        self._client = MlflowClient()
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "serverless-fl")
        found = self._client.get_experiment_by_name(name)
        where = found.experiment_id if found else self._client.create_experiment(name)
        earlier = self._client.search_runs(
            [where], f"tags.`{self._TAG}` = '{experiment_id}'", max_results=1
        )
        if earlier:
            self._run = earlier[0].info.run_id
            self._client.update_run(self._run, status="RUNNING")
            return
        made = self._client.create_run(
            where, run_name=experiment_id, tags={self._TAG: experiment_id}
        )
        self._run = made.info.run_id
        self._client.log_batch(self._run, params=[Param(k, str(v)) for k, v in config.items()])

    def metrics(self, values: dict[str, float], step: int) -> None:
        for name, value in values.items():
            if name not in self._told:
                history = self._client.get_metric_history(self._run, name)
                self._told[name] = {metric.step for metric in history}
            if step not in self._told[name]:
                self._client.log_metric(self._run, name, value, step=step)
                self._told[name].add(step)

    def end(self, report: dict[str, Any], files: Sequence[Path]) -> None:
        for file in files:
            self._client.log_artifact(self._run, str(file))
        status = {"completed": "FINISHED", "failed": "FAILED"}.get(report["state"], "KILLED")
        self._client.set_tag(self._run, "serverless-fl.reason", report["reason"])
        self._client.set_terminated(self._run, status)

    def close(self) -> None:
        return None
