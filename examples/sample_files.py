"""Makes the files and sentences that the examples learn from; nothing is downloaded."""

from __future__ import annotations

import atexit
import csv
import shutil
import tempfile
from pathlib import Path

import numpy as np

HOSPITALS = {"north": 280, "south": 130, "west": 45, "test": 114}  # patients
SITES = {
    "paper": (0, 1, 2, 3),
    "slate": (3, 4, 5, 6),
    "glass": (6, 7, 8, 9),
}  # most frequent digits


def temporary_folder() -> Path:
    """A folder that is there until the program ends."""
    folder = Path(tempfile.mkdtemp(prefix="examples-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def hospitals(folder: Path | None = None) -> list[Path]:
    """north.csv, south.csv, west.csv and test.csv: scikit-learn's breast cancer set (Wisconsin).

    The hospitals have 280, 130 and 45 patients; one value in twenty is missing. The column
    `diagnosis` says benign or malignant.
    """
    from sklearn.datasets import load_breast_cancer

    folder, data = folder or temporary_folder(), load_breast_cancer()
    draws = np.random.default_rng(0)
    order, files = draws.permutation(len(data.target)), []
    for name, count in HOSPITALS.items():
        mine, order = order[:count], order[count:]
        missing = draws.random((count, data.data.shape[1])) < 0.05
        files.append(folder / f"{name}.csv")
        with files[-1].open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow([*data.feature_names, "diagnosis"])
            for patient, unknown in zip(mine, missing, strict=True):
                values = zip(data.data[patient], unknown, strict=True)
                table.writerow(
                    ["" if lost else f"{value:g}" for value, lost in values]
                    + [data.target_names[data.target[patient]]]
                )
    return files


def folders_of_digits(folder: Path | None = None) -> Path:
    """A folder of scikit-learn's digits as images: SITE/train/CLASS/*.png and SITE/test/...

    Each of three sites has mostly digits of its own: nine in ten of them.
    """
    from PIL import Image
    from sklearn.datasets import load_digits

    folder, data = folder or temporary_folder(), load_digits()
    draws = np.random.default_rng(0)
    for number, (picture, digit) in enumerate(zip(data.images, data.target, strict=True)):
        own = [site for site, digits in SITES.items() if digit in digits]
        site = draws.choice(own if draws.random() < 0.9 else list(SITES))
        part = "test" if draws.random() < 0.2 else "train"
        path = folder / str(site) / part / str(digit) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((picture / 16 * 255).astype(np.uint8)).save(path)
    return folder
