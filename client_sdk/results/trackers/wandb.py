"""A run in Weights & Biases: on its server, or with WANDB_MODE=offline in the run's folder."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from client_sdk.errors import UsageError
from client_sdk.results.trackers.tracker import Tracker


class WandB(Tracker):
    """Records a run in the W&B project WANDB_PROJECT, or `serverless-fl`, with the experiment's id.

    W&B gets what the other tools get: it collects no output, no code, no figures of the machine. A
    resumed run goes on in the same W&B run. W&B's reports to its makers and its lines between ours
    are off, unless WANDB_ERROR_REPORTING or WANDB_SILENT say otherwise.
    """

    name = "wandb"
    environment: ClassVar[dict[str, str]] = {
        "WANDB_ERROR_REPORTING": "false",
        "WANDB_SILENT": "true",
    }

    @classmethod
    def require(cls) -> None:
        """Raises UsageError also where W&B would ask for a key in the middle of the run."""
        super().require()
        import wandb

        if wandb.setup().settings.mode in ("offline", "disabled", "dryrun"):
            return
        if not wandb.login(prompt=False, verify=False):
            raise UsageError(
                "--track wandb needs a login: run `wandb login`, set WANDB_API_KEY, or keep the "
                "record in the run's folder with WANDB_MODE=offline."
            )

    def __init__(self, out: Path) -> None:
        self._out = out
        self._run: Any = None
        self._failed = 1  # as an exit code, until the run ends well
        self._recorded: dict[str, int] = {}  # the last step of each axis that W&B has

    def begin(self, experiment_id: str, config: dict[str, Any]) -> None:
        """Create the W&B run with the settings, or go on in the one of an earlier start."""
        import wandb

        project = wandb.setup().settings.project or "serverless-fl"
        # A resumed run reports all its rounds again, and files cannot be gone on with.
        for old in self._out.glob(f"wandb/offline-run-*-{experiment_id}"):
            shutil.rmtree(old)
        self._run = wandb.init(
            project=project,
            id=experiment_id,
            name=experiment_id,
            resume="allow",
            reinit="create_new",  # a notebook's own run stays open
            dir=str(self._out),
            config=config,
            settings=wandb.Settings(
                host="",
                console="off",
                symlink=False,
                save_code=False,
                disable_code=True,
                disable_git=True,
                x_disable_meta=True,
                x_disable_stats=True,
                x_disable_machine_info=True,
                x_save_requirements=False,
            ),
        )
        # W&B's own steps never go back. Federated figures arrive a round late, so that they have
        # an axis of their own.
        self._run.define_metric("*", step_metric="round")
        self._run.define_metric("federated/*", step_metric="version")
        for axis in ("round", "version"):
            self._recorded[axis] = int(self._run.summary.get(axis) or 0)

    def metrics(self, values: dict[str, float], step: int) -> None:
        """Log one round's figures. W&B keeps a repeated row twice, so rows are logged once."""
        axis = "version" if all(name.startswith("federated/") for name in values) else "round"
        if step > self._recorded[axis]:
            self._run.log({axis: step, **values})
            self._recorded[axis] = step

    def end(self, report: dict[str, Any], files: Sequence[Path]) -> None:
        """Give W&B the files, and how the run ended."""
        self._run.summary.update({"state": report["state"], "reason": report["reason"]})
        for file in files:
            self._run.save(str(file), base_path=str(file.parent), policy="now")
        self._failed = int(report["state"] != "completed")

    def close(self) -> None:
        """Send what waits. A run that was interrupted counts as failed until it is resumed."""
        if self._run is not None:
            self._run.finish(exit_code=self._failed)
