"""Files of parties that nobody made for this project: scikit-learn's sets, cut into sites."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_breast_cancer, load_digits

LABEL = "diagnosis"


def hospitals(folder: Path, sizes: Sequence[int], missing: float = 0.05) -> list[Path]:
    """A CSV a hospital, of the breast cancer set; a share of the values is missing."""
    found = load_breast_cancer()
    draws = np.random.default_rng(0)
    order = draws.permutation(len(found.target))
    paths = []
    for number, rows in enumerate(np.split(order, np.cumsum(sizes))[: len(sizes)]):
        path = folder / f"hospital_{'abcdef'[number]}.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow([*found.feature_names, LABEL])
            for row in rows:
                values = ["" if draws.random() < missing else str(v) for v in found.data[row]]
                writer.writerow([*values, found.target_names[found.target[row]]])
        paths.append(path)
    return paths


def picture_sites(folder: Path, sizes: Sequence[int]) -> list[Path]:
    """A folder with CLASS/*.png a site, of the 8x8 digits."""
    found = load_digits()
    paths, start = [], 0
    for number, size in enumerate(sizes):
        site = folder / f"site_{number}"
        for place in range(start, start + size):
            file = site / str(found.target[place]) / f"{place}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((found.images[place] * 15).astype(np.uint8)).save(file)
        paths.append(site)
        start += size
    return paths
