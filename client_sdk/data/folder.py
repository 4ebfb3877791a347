"""Reads a folder of pictures: `train/CLASS/*.png` and `test/CLASS/*.png`.

Or a folder of several sites, each of which has such folders: `SITE/train/CLASS/*.png`, or
`SITE/CLASS/*.png` without a part to test on.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np

from client_sdk.data import pictures
from client_sdk.data.dataset import Part, Parts
from client_sdk.data.preparation import Preparation, Range, guess_range
from client_sdk.errors import DataError

SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("png", "jpg", "jpeg", "jpe", "jfif", "jp2", "bmp", "dib", "gif", "webp", "avif"),
        *("tif", "tiff", "pbm", "pgm", "ppm", "pnm"),
    )
)
TEST_NAMES = ("test", "val", "valid", "validation")  # the first that is there is the test part
# Pixels of the longer side, unless the user gives a size: photographs would make huge networks.
MAX_SIDE = 128
_SCALED_SIDE = 64  # pixels of the longer side of larger pictures
# File managers, archives and network storage leave these behind; hidden names begin with a dot.
_SYSTEM = frozenset(
    {
        *("__macosx", "@eadir", "#recycle", "#snapshot", "$recycle.bin", "lost+found"),
        *("system volume information", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"),
        "__pycache__",
    }
)

T = TypeVar("T")
U = TypeVar("U")
File = tuple[Path, int]  # a picture and its label


@dataclass
class _LeftOut:
    """Names of files and folders that are neither a class nor a picture."""

    system: list[str] = field(default_factory=list)
    other: list[str] = field(default_factory=list)

    def sentence(self) -> str:
        kinds = (("hidden or system", self.system), ("not a picture in a class", self.other))
        parts = [
            f"{len(names)} {what} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
            for what, names in kinds
            if names
        ]
        return f"Left out: {'; '.join(parts)}." if parts else ""


@dataclass(frozen=True)
class _Site:
    """A folder with a training part, and a test part or None."""

    name: str
    train: Path
    test: Path | None


def read_folder(
    root: Path,
    size: tuple[int, int] | None = None,
    fit: str | None = None,
    like: Preparation | None = None,
    *,
    whole: bool = False,
) -> Parts:
    """Read a folder's pictures, prepared as `like` says or, without it, as suits them.

    `whole`: it is one site, and where it has no train/, the class folders stand in it.

    `size` is (width, height), by default the most common one; where that is over MAX_SIDE, it is
    scaled to 64 pixels on the longer side. Pictures are greyscale where all training pictures are,
    else RGB. Raises DataError.
    """
    notes: list[str] = []
    sites = _whole(root, notes) if whole else _sites(root, notes)
    left_out = _LeftOut()
    train_folders = {site.train: _class_folders(site.train, left_out) for site in sites}
    classes = tuple(sorted(set().union(*train_folders.values())))
    train, owners, test = list[File](), list[str](), list[File]()
    for site in sites:
        mine = _files(site.train, train_folders[site.train], classes, left_out)
        train += mine
        owners += [site.name] * len(mine)
    test_owners = list[str]()
    for name, part in ((site.name, site.test) for site in sites if site.test):
        folders = _class_folders(part, left_out)
        unknown = sorted(set(folders) - set(classes))
        if unknown:
            raise DataError(f"{part} has classes that train/ lacks: {unknown}.")
        theirs = _files(part, folders, classes, left_out)
        test += theirs
        test_owners += [name] * len(theirs)
    notes.append(left_out.sentence())
    trained = {label for _, label in train}
    if len(trained) < len(classes):
        lacking = [name for label, name in enumerate(classes) if label not in trained]
        notes.append(f"No picture to train on of: {', '.join(lacking)}.")
    looks = _in_threads(pictures.look_at, [path for path, _ in train])
    wanted = like or _suit(looks, size, fit, notes)
    looks += _in_threads(pictures.look_at, [path for path, _ in test])
    deep = any(look.kind for look in looks)
    return Parts(
        classes,
        _read(train, wanted, deep),
        _read(test, wanted, deep) if test else None,
        wanted,
        " ".join(filter(None, notes)),
        np.array(owners) if len(sites) > 1 else None,
        np.array(test_owners) if len(sites) > 1 and test else None,
    )


def _whole(root: Path, notes: list[str]) -> list[_Site]:
    """The folder as one site. Raises DataError."""
    found = _folders_in(root)
    return [_site(root, found, notes) if "train" in found else _Site(root.name, root, None)]


def _sites(root: Path, notes: list[str]) -> list[_Site]:
    """The folder itself, or the sites in it. Raises DataError where it is neither.

    `notes` gets sentences about parts that are left out.
    """
    found = _folders_in(root)
    if "train" in found:
        return [_site(root, found, notes)]
    inside = {path: _folders_in(path) for path in found.values() if not _is_system(path.name)}
    lacking = [path for path, folders in inside.items() if "train" not in folders]
    if not inside or (len(lacking) == len(inside) and not all(map(_has_classes, inside))):
        raise DataError(f"{root} has no folder train/; expected train/CLASS/*.png.")
    if 0 < len(lacking) < len(inside):
        raise DataError(f"{lacking[0]} has no folder train/, as the sites beside it have.")
    if lacking:
        sites = [_Site(path.name, path, None) for path in inside]
    else:
        sites = [_site(path, folders, notes) for path, folders in inside.items()]
    names = ", ".join(site.name for site in sites[:5]) + (", ..." if sites[5:] else "")
    notes.append(f"Its folders are {len(sites)} sites: {names}.")
    untested = [site.name for site in sites if site.test is None]
    if 0 < len(untested) < len(sites):
        raise DataError(f"{root / untested[0]} has no test part, as other sites have.")
    return sites


def pictures_in(paths: Iterable[Path]) -> Iterator[Path]:
    """The paths; instead of a folder, all pictures in it and in its folders, by name.

    Raises DataError for a folder without one.
    """
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        try:
            found = list(_walk(path, path, _LeftOut()))
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}.") from error
        if not found:
            raise DataError(f"{path} has no images.")
        yield from found


def _has_classes(site: Path) -> bool:
    """Whether the folder has folders of pictures, and no picture of its own."""
    paths = [path for path in site.iterdir() if not _is_system(path.name)]
    return any(path.is_dir() for path in paths) and not any(
        path.suffix.lower() in SUFFIXES for path in paths if path.is_file()
    )


def _folders_in(root: Path) -> dict[str, Path]:
    """The folders by their names in small letters. Raises DataError."""
    try:
        return {path.name.lower(): path for path in sorted(root.iterdir()) if path.is_dir()}
    except OSError as error:
        raise DataError(f"{root} cannot be read: {error.strerror}.") from error


def _site(root: Path, found: dict[str, Path], notes: list[str]) -> _Site:
    tests = [found[name] for name in TEST_NAMES if name in found]
    notes += [
        f"{other.name}/ is left out: {tests[0].name}/ is the test part." for other in tests[1:]
    ]
    return _Site(root.name, found["train"], tests[0] if tests else None)


def _is_system(name: str) -> bool:
    return name.startswith(".") or name.lower() in _SYSTEM


def _class_folders(part: Path, left_out: _LeftOut) -> dict[str, list[Path]]:
    """The folders of each class. Names are composed (NFC), since macOS decomposes accents (NFD)."""
    found: dict[str, list[Path]] = {}
    for path in sorted(part.iterdir()):
        if _is_system(path.name):
            left_out.system.append(f"{part.name}/{path.name}")
        elif path.is_dir():
            found.setdefault(unicodedata.normalize("NFC", path.name), []).append(path)
        else:
            left_out.other.append(f"{part.name}/{path.name}")
    return found


def _files(
    part: Path, folders: dict[str, list[Path]], classes: Sequence[str], left_out: _LeftOut
) -> list[File]:
    """All pictures and labels, also from folders inside a class's folder. Raises DataError."""
    if not folders:
        raise DataError(f"{part} has no class folders; expected {part.name}/CLASS/*.png.")
    found = [
        (path, classes.index(name))
        for name, roots in sorted(folders.items())
        for root in roots
        for path in _walk(root, part, left_out)
    ]
    if not found:
        raise DataError(f"{part} has no images.")
    return found


def _walk(root: Path, part: Path, left_out: _LeftOut) -> Iterator[Path]:
    for path in sorted(root.iterdir()):
        if _is_system(path.name):
            left_out.system.append(path.relative_to(part.parent).as_posix())
        elif path.is_dir():
            if not path.is_symlink():  # a link may lead back here
                yield from _walk(path, part, left_out)
        elif path.suffix.lower() in SUFFIXES:
            yield path
        else:
            left_out.other.append(path.relative_to(part.parent).as_posix())


def _in_threads(work: Callable[[T], U], items: Sequence[T]) -> list[U]:
    """Call `work` with each item, in threads: Pillow releases the interpreter's lock to decode."""
    with pictures.large_pictures_allowed(), ThreadPoolExecutor() as pool:
        return list(pool.map(work, items))


def _suit(
    looks: Sequence[pictures.Look], size: tuple[int, int] | None, fit: str | None, notes: list[str]
) -> Preparation:
    """The preparation that suits the training pictures; notes what happens to the others."""
    sizes = Counter(look.size for look in looks)
    (common, count), fit = sizes.most_common(1)[0], fit or "letterbox"
    how = "letterboxed" if fit == "letterbox" else "cropped"
    width, height = size or common
    if size is None and max(common) > MAX_SIDE:
        scale = _SCALED_SIDE / max(common)
        width, height = (max(1, round(side * scale)) for side in common)
        notes.append(
            f"Pictures of {common[0]}x{common[1]} are scaled to {width}x{height}, those of other "
            f"proportions {how}; --image-size chooses another size."
        )
    elif size is None and count < len(looks):
        notes.append(
            f"{len(looks) - count} of {len(looks)} pictures to train on are not of "
            f"{width}x{height}: they are scaled and {how}; --image-size chooses another size."
        )
    ranges = {}
    for kind in sorted({look.kind for look in looks if look.kind}):
        low = min(look.low for look in looks if look.kind == kind)
        high = max(look.high for look in looks if look.kind == kind)
        ranges[kind] = guess_range(low, high) or Range((low,), (high,))
    return Preparation(1 if all(look.grey for look in looks) else 3, height, width, fit, ranges)


def _read(files: Sequence[File], wanted: Preparation, deep: bool) -> Part:
    shape = (len(files), wanted.height, wanted.width, wanted.channels)
    images = np.empty(shape, np.float32 if deep else np.uint8)

    def read(number: int) -> None:
        pixels = pictures.read_picture(files[number][0], wanted)
        if deep and pixels.dtype == np.uint8:
            pixels = pixels / np.float32(255)
        images[number] = pixels

    _in_threads(read, range(len(files)))
    labels = np.array([label for _, label in files], np.int64)
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2)), labels
