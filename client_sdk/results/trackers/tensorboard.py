"""A run as TensorBoard's event files: `tensorboard --logdir runs`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from client_sdk.results.trackers.tracker import Tracker


class TensorBoard(Tracker):
    """Writes event files into `tensorboard/` of the run's folder."""

    name = "tensorboard"

    def __init__(self, out: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        folder = out / "tensorboard"
        # A resumed run reports all its rounds again.
        for old in folder.glob("events.out.tfevents.*"):
            old.unlink()
        self._writer = SummaryWriter(str(folder))
        self._config: dict[str, Any] = {}

    def begin(self, experiment_id: str, config: dict[str, Any]) -> None:
        """Keep the settings, which `end` writes beside the final figures."""
        self._config = {"experiment": experiment_id, **config}

    def metrics(self, values: dict[str, float], step: int) -> None:
        """Write scalars of one round."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def end(self, report: dict[str, Any], files: Sequence[Path]) -> None:
        """Write the settings as hparams, the figures as images, and the report as text.

        An event file cannot hold other files, so the text names the places of all of them.
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
        """Close the event file."""
        self._writer.close()
