"""Records a run in the tools with which people compare runs. One tool a file.

`tracker` has the contract, `TRACKERS` the modules: a new one is a file here and a line there.

All tools get the same figures under the same names: the settings, each round's figures, and at the
end the federated figures and the files. A separate thread calls them in order, so that a slow
tracking server does not delay a round. A tool that fails is reported once and gets nothing more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

from client_sdk.results.trackers.tracker import Tracker
from client_sdk.simulation.outcome import Row
from serverless_fl.registry import registered

# By the name for --track, which is also the name of the tool's package.
TRACKERS = {
    tracker.name: tracker
    for tracker in registered(
        Tracker,
        __name__,
        "tensorboard",
        "mlflow",
        "wandb",
    )
}


def of_row(row: Row) -> dict[str, float]:
    """A closed round's figures by name; seconds, bytes, and shares of the test set."""
    return {
        **{f"test/{name}": value for name, value in row.metrics.items()},
        "round/seconds": row.seconds,
        "round/bytes_up": float(row.bytes_up),
        "round/bytes_down": float(row.bytes_down),
        "round/updates": float(row.updates),
        **{f"cohort/{name}": value for name, value in sorted(row.federated.items())},
    }


def of_models(report: dict[str, Any]) -> Iterator[tuple[int, dict[str, float]]]:
    """Each model version and its federated figures, which arrive a round after its own."""
    for found in report["models"]:
        if found["version"] and found["federated"]:
            values = found["federated"].items()
            yield found["version"], {f"federated/{name}": value for name, value in values}


class Tracking:
    """All trackers that a user named. Use it as a context manager. Raises UsageError."""

    def __init__(self, names: Sequence[str], out: Path, say: Callable[[str], None]) -> None:
        self._trackers: dict[str, Tracker] = {}
        for name in dict.fromkeys(names):
            TRACKERS[name].require()
            self._trackers[name] = TRACKERS[name](out)
        self._say = say
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tracking")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._submit(lambda tracker: tracker.close())
        self._thread.shutdown()

    def begin(self, experiment_id: str, config: dict[str, Any]) -> None:
        """Name the experiment and its settings."""
        self._submit(lambda tracker: tracker.begin(experiment_id, config))

    def row(self, row: Row) -> None:
        """Pass on a closed round's figures."""
        self._submit(lambda tracker: tracker.metrics(of_row(row), row.round))

    def end(self, report: dict[str, Any], files: Sequence[Path]) -> None:
        """Pass on the federated figures, the report and the files of the run."""

        def conclude(tracker: Tracker) -> None:
            for version, values in of_models(report):
                tracker.metrics(values, version)
            tracker.end(report, files)

        self._submit(conclude)

    def _submit(self, call: Callable[[Tracker], None]) -> None:
        if self._trackers:
            self._thread.submit(self._call_each, call)

    def _call_each(self, call: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self._trackers.items()):
            try:
                call(tracker)
            except Exception as error:
                # Whatever the error is, the run goes on.
                del self._trackers[name]
                self._say(f"{name} records no more of this run: {error}")
