"""Data sets by name: mnist, cifar10, digits, a folder of pictures, an .npz file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from client_sdk.data import cifar10, digits, mnist
from client_sdk.data.dataset import Dataset, Parts, make_dataset
from client_sdk.data.preparation import Preparation
from client_sdk.errors import DataError

# A published set's reader takes the folder of data, and whether it may download.
PUBLISHED: Mapping[str, Callable[[Path, bool], Parts]] = {
    "mnist": mnist.read,
    "cifar10": cifar10.read,
    "digits": digits.read,
}
NAMES = (*PUBLISHED, "auto")


def load(
    name: str | Path,
    data_dir: Path = Path("data"),
    *,
    download: bool = True,
    size: tuple[int, int] | None = None,
    fit: str | None = None,
    like: Preparation | None = None,
) -> Dataset:
    """Load a set by name, or a user's own by its path. Raises DataError.

    `data_dir` holds mnist and cifar10, and is where they are downloaded to. A user's own pictures
    get the (width, height) of `size` by `fit` (letterbox or crop). With `like`, the preparation in
    a model's file, they are prepared for that model.
    """
    name = str(name)
    if name in NAMES and (size or fit):
        raise DataError(f"--image-size and --fit are for pictures of your own; {name} has a size.")
    try:
        if name == "auto":
            return _auto(data_dir, download)
        if name in PUBLISHED:
            return make_dataset(name, PUBLISHED[name](data_dir, download))
        return _own(Path(name), size, fit, like)
    except MemoryError as error:
        raise DataError(
            f"{name} does not fit into the memory here: {error}. A smaller --image-size helps."
        ) from error


def _auto(data_dir: Path, download: bool) -> Dataset:
    """MNIST where it is or can be downloaded, else the digits; the note says which, and why."""
    how = "found in" if mnist.find_files(data_dir) else "downloaded to"
    try:
        found = load("mnist", data_dir, download=download)
        return replace(found, note=f"Data: MNIST, {how} {data_dir}. {found.note}".rstrip())
    except DataError as error:
        note = f"Data: the 8x8 digits that come with scikit-learn. {error}"
    return replace(load("digits", data_dir), note=note)


def _own(
    path: Path, size: tuple[int, int] | None, fit: str | None, like: Preparation | None
) -> Dataset:
    if path.suffix.lower() == ".npz" and path.is_file():
        from client_sdk.data.arrays import read_arrays

        return make_dataset(path.stem, read_arrays(path, size, fit, like))
    if path.is_dir():
        from client_sdk.data.folder import read_folder  # with Pillow and SciPy, which take a while

        return make_dataset(path.resolve().name, read_folder(path, size, fit, like))
    raise DataError(
        f"There is no data set {str(path)!r}: give {', '.join(NAMES)}, a folder with "
        "train/CLASS/*.png, or an .npz file."
    )
