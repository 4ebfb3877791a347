"""Folders of pictures of several sites."""

from __future__ import annotations

import numpy as np
from PIL import Image

SIZES = {"bern": 40, "oslo": 12, "rome": 25}  # pictures to train on


def write_sites(root, sizes=SIZES, test=6):
    """SITE/train/CLASS/*.png and SITE/test/CLASS/*.png: bright and dark pictures."""
    random = np.random.default_rng(0)
    for site, size in sizes.items():
        for part, count in (("train", size), ("test", test)):
            for n in range(count):
                name = ("dark", "bright")[n % 2]
                folder = root / site / part / name
                folder.mkdir(parents=True, exist_ok=True)
                pixels = random.integers(0, 90, (10, 10), dtype=np.uint8) + 150 * (n % 2)
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{n:03d}.png")
    return root
