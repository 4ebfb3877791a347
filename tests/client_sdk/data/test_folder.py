"""Folders of pictures as machines, archives and people leave them."""

import shutil
import unicodedata
import zlib
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from client_sdk.data import datasets
from client_sdk.errors import DataError
from tests.support.sites import SIZES, write_sites
from tests.support.some import needs_names


def picture(path, size=(9, 8), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(zlib.crc32(path.as_posix().encode()))
    shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
    image = Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8))
    image.save(path, format="PNG")


@pytest.fixture
def pets(tmp_path):
    root = tmp_path / "pets"
    for part in ("train", "test"):
        for name in ("cat", "dog"):
            for n in range(4):
                picture(root / part / name / f"{n}.png")
    return root


def load(root, **options):
    return datasets.load(str(root), root, **options)


@pytest.mark.parametrize("part", ["train", "test"])
@pytest.mark.parametrize(
    "name", [".ipynb_checkpoints", "__MACOSX", "@eaDir", ".git", "$RECYCLE.BIN", "#recycle"]
)
def test_hidden_and_system_folders_are_no_classes_and_are_said(pets, part, name):
    before = load(pets)
    picture(pets / part / name / "0.png")
    found = load(pets)
    assert found.classes == ("cat", "dog")
    assert (len(found.train_y), len(found.test_y)) == (len(before.train_y), len(before.test_y))
    assert before.note == ""
    assert f"{part}/{name}" in found.note


@pytest.mark.parametrize(
    "name", ["._0.png", ".DS_Store", "Thumbs.db", "desktop.ini", "@eaDir/0.png", "notes.txt"]
)
def test_files_that_are_no_pictures_are_left_out_and_said(pets, name):
    path = pets / "train" / "cat" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"\0\5\x16\7" + b"\0" * 100)
    found = load(pets)
    assert found.train_y.tolist() == [0] * 4 + [1] * 4
    assert f"train/cat/{name.partition('/')[0]}" in found.note


def test_what_lies_beside_the_classes_is_said(pets):
    picture(pets / "train" / "stray.png")
    for n in range(5):
        (pets / "train" / f"{n}.csv").touch()
    found = load(pets)
    assert len(found.train_y) == 8
    assert "6 not a picture in a class (train/0.csv, train/1.csv, train/2.csv, ...)" in found.note


def test_folders_inside_of_a_class_belong_to_it(pets):
    picture(pets / "train" / "cat" / "2024" / "may" / "0.png")
    picture(pets / "test" / "dog" / "more" / "0.png")
    found = load(pets)
    assert found.train_y.bincount().tolist() == [5, 4]
    assert found.test_y.bincount().tolist() == [4, 5]


@pytest.mark.parametrize("name", ["val", "valid", "validation", "Val"])
def test_a_validation_part_is_the_test_part_where_there_is_no_other(pets, name):
    (pets / "test").rename(pets / name)
    picture(pets / name / "cat" / "more.png")
    found = load(pets)
    assert (len(found.train_y), len(found.test_y), found.note) == (8, 9, "")


def test_a_validation_part_beside_a_test_part_is_left_out_and_said(pets):
    picture(pets / "val" / "cat" / "0.png")
    found = load(pets)
    assert len(found.test_y) == 8
    assert found.note == "val/ is left out: test/ is the test part."


@pytest.mark.parametrize("suffix", [".jfif", ".JPG", ".jpe", ".webp", ".PGM", ".TIF"])
def test_pictures_by_other_names(pets, suffix):
    picture(pets / "train" / "cat" / f"more{suffix}")
    assert len(load(pets).train_y) == 9


def test_names_composed_and_decomposed_are_one_class(pets):
    composed, decomposed = (unicodedata.normalize(form, "chió") for form in ("NFC", "NFD"))
    assert composed != decomposed
    needs_names(composed + decomposed)
    picture(pets / "train" / composed / "0.png")
    picture(pets / "train" / decomposed / "1.png")
    picture(pets / "test" / decomposed / "0.png")
    found = load(pets)
    assert found.classes == ("cat", composed, "dog")
    assert found.train_y.bincount().tolist() == [4, 2, 4]
    assert found.test_y.bincount().tolist() == [4, 1, 4]


def test_a_class_without_pictures_is_said(pets):
    (pets / "train" / "cow").mkdir()
    found = load(pets)
    assert found.classes == ("cat", "cow", "dog")
    assert "No picture to train on of: cow." in found.note


def test_an_empty_test_part_is_named(pets):
    for path in (pets / "test").glob("*/*"):
        path.unlink()
    with pytest.raises(DataError, match="test has no images"):
        load(pets)


def test_the_most_common_size_is_taken_and_the_others_are_said(pets):
    picture(pets / "train" / "cat" / "!first.png", size=(30, 20))
    found = load(pets)
    assert found.shape == (3, 8, 9)
    assert "1 of 9 pictures to train on are not of 9x8: they are scaled and letterbox" in found.note


def test_photographs_are_scaled_and_that_is_said(pets):
    for path in (pets / "train").glob("*/*"):
        picture(path, size=(400, 300))
    found = load(pets)
    assert found.shape == (3, 48, 64)
    assert "400x300 are scaled to 64x48" in found.note
    assert load(pets, size=(400, 300)).shape == (3, 300, 400)
    assert load(pets, size=(20, 30)).note == ""


def test_grey_pictures_stay_grey_unless_one_has_colours(pets):
    for path in (pets / "train").glob("*/*"):
        picture(path, mode="L")
    assert load(pets).shape == (1, 8, 9)
    picture(pets / "train" / "dog" / "2.png")
    assert load(pets).shape == (3, 8, 9)


def test_pictures_that_are_all_alike_are_refused(pets):
    for path in (pets / "train").glob("*/*"):
        Image.new("L", (9, 8), 255).save(path)
    with pytest.raises(DataError, match="all pixels of all images to train on are alike"):
        load(pets)


def test_a_link_that_leads_back_is_not_followed(pets):
    (pets / "train" / "cat" / "all").symlink_to(pets / "train", target_is_directory=True)
    assert len(load(pets).train_y) == 8


def test_a_folder_may_have_a_folder_for_each_site(tmp_path):
    dataset = datasets.load(str(write_sites(tmp_path / "own")), tmp_path)
    assert dataset.classes == ("bright", "dark")
    assert Counter(dataset.sites.tolist()) == SIZES
    assert (len(dataset.train_y), len(dataset.test_y)) == (sum(SIZES.values()), 18)


def test_sites_without_a_test_part_keep_a_fifth_of_each_class_for_it(tmp_path):
    dataset = datasets.load(str(write_sites(tmp_path / "own", test=0)), tmp_path)
    assert len(dataset.sites) == len(dataset.train_y) == 61
    assert len(dataset.test_y) == 16
    assert set(dataset.sites.tolist()) == set(SIZES)
    all_sites = Counter(dataset.sites.tolist()) + Counter(dataset.test_sites.tolist())
    assert all_sites == SIZES


def test_sites_may_have_their_class_folders_at_once(tmp_path):
    root = write_sites(tmp_path / "own", test=0)
    for site in SIZES:
        for folder in (root / site / "train").iterdir():
            folder.rename(root / site / folder.name)
        (root / site / "train").rmdir()
    dataset = datasets.load(str(root), tmp_path)
    assert dataset.classes == ("bright", "dark")
    assert "Its folders are 3 sites: bern, oslo, rome." in dataset.note
    assert (len(dataset.train_y), set(dataset.sites.tolist())) == (61, set(SIZES))


def test_sites_that_differ_are_named(tmp_path):
    root = write_sites(tmp_path / "own")
    shutil.rmtree(root / "oslo" / "test")
    with pytest.raises(DataError, match=r"oslo has no test part, as other sites have"):
        datasets.load(str(root), tmp_path)
    shutil.rmtree(root / "oslo" / "train")
    with pytest.raises(DataError, match=r"oslo has no folder train/, as the sites beside it"):
        datasets.load(str(root), tmp_path)
