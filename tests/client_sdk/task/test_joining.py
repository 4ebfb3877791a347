"""Labels and pixels of parties that join one experiment mean the same, or nobody trains."""

import json
import unicodedata
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from client_sdk import exit_codes
from client_sdk.cli import command_line
from client_sdk.data import datasets
from client_sdk.errors import DataError
from client_sdk.task import joining, model_file, models
from client_sdk.task.joining import adapt
from tests.support.plain_http import create
from tests.support.some import needs_names


def party(folder, *words, dark=0):
    """Pictures whose grey says their class: 40, 80, 120 ... in the order of the words given."""
    for place, word in enumerate(words):
        for n in range(6):
            file = folder / "train" / word / f"{n}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.full((16, 16), 40 * (place + 1) - dark, np.uint8)
            pixels[n, n] = 0
            Image.fromarray(pixels).save(file)
    return datasets.load(str(folder), folder)


def about(dataset):
    spec = models.spec_for("auto", dataset.shape, len(dataset.classes))
    data = model_file.to_bytes(models.build(spec, 0), model_file.describe(dataset, spec))
    return joining.description_of(data)


def means(dataset):
    """By the grey of each picture: the class that its label stands for."""
    pairs = [(dataset.train_x, dataset.train_y), (dataset.test_x, dataset.test_y)]
    return {
        (int(image.flatten().median()), dataset.classes[int(label)])
        for images, labels in pairs
        for image, label in zip(images, labels, strict=True)
    }


def test_the_same_classes_are_taken_and_pixels_are_scaled_as_the_experiments(tmp_path):
    first = party(tmp_path / "a", "healthy", "ill")
    second = party(tmp_path / "b", "healthy", "ill", dark=20)
    assert first.mean != second.mean
    found = adapt(second, about(first), map_classes=False)
    assert (found.mean, found.std) == (first.mean, first.std)
    assert torch.equal(found.train_y, second.train_y)
    image = second.train_x[:1]
    assert torch.equal(found.normalise(image), first.normalise(image))
    assert not torch.equal(found.normalise(image), second.normalise(image))


@pytest.mark.parametrize(
    ("theirs", "own"),
    [
        (("healthy", "ill"), ("enferma", "sana")),
        (("horizontal", "vertical"), ("horizontal", "Vertical")),
        (("cat", "dog"), ("cat", "dog", "emu")),
        (("cat", "dog", "emu"), ("cat", "dog")),
        (("cat", "dog"), ("cat", "dog ")),
    ],
    ids="-".join,
)
def test_other_classes_are_refused_and_both_lists_are_shown(tmp_path, theirs, own):
    experiment, mine = party(tmp_path / "a", *theirs), party(tmp_path / "b", *own)
    with pytest.raises(DataError) as caught:
        adapt(mine, about(experiment), map_classes=False)
    said = str(caught.value)
    assert f"[{', '.join(experiment.classes)}] there" in said
    assert f"[{', '.join(c.strip() for c in mine.classes)}] here" in said or own[-1] == "dog "
    assert "--map-classes" in said


def test_another_order_is_refused_too(tmp_path):
    first = party(tmp_path / "a", "cat", "dog")
    other = replace(first, classes=("dog", "cat"))
    with pytest.raises(DataError, match="the experiment's, but in another order"):
        adapt(other, about(first), map_classes=False)


@pytest.mark.parametrize(
    ("theirs", "own"),
    [
        (("horizontal", "vertical"), ("horizontal", "Vertical")),
        (("cat", "dog", "emu"), ("dog", "EMU")),
        (("Straße", "Weg"), ("STRASSE", "weg")),
        (("a cat", "a dog"), ("a  DOG", "A cat")),
        (("A", "a", "b"), ("b", "a", "A")),
    ],
    ids="-".join,
)
def test_classes_are_matched_by_name_when_asked(tmp_path, theirs, own):
    needs_names("".join((*theirs, *own)))
    experiment, mine = party(tmp_path / "a", *theirs), party(tmp_path / "b", *own)
    found = adapt(mine, about(experiment), map_classes=True)
    assert found.classes == experiment.classes
    wanted = {name.casefold().replace("  ", " "): name for name in theirs}
    exact = {name: name for name in theirs}
    expected = {
        (40 * (place + 1), exact.get(name) or wanted[name.casefold().replace("  ", " ")])
        for place, name in enumerate(own)
    }
    assert means(found) == expected


@pytest.mark.parametrize(
    ("theirs", "own", "said"),
    [
        (("cat", "dog"), ("cat", "wolf"), "finds no class of the experiment for 'wolf'"),
        (("Cat", "cAt", "dog"), ("cat", "dog"), "finds more than one class of the experiment"),
        (("cat", "dog"), ("Cat", "cAt"), r"would make one class of \[Cat, cAt\]"),
    ],
    ids=["unknown", "which", "two in one"],
)
def test_what_names_leave_open_is_refused(tmp_path, theirs, own, said):
    experiment, mine = party(tmp_path / "a", *theirs), party(tmp_path / "b", *own)
    with pytest.raises(DataError, match=said):
        adapt(mine, about(experiment), map_classes=True)


def test_a_name_is_the_same_however_a_file_system_composes_it(tmp_path):
    needs_names("Zürich")
    first = party(tmp_path / "a", "Zürich", "Bern")
    apart = tuple(unicodedata.normalize("NFD", name) for name in first.classes)
    assert apart != first.classes
    found = adapt(replace(first, classes=apart), about(first), map_classes=False)
    assert torch.equal(found.train_y, first.train_y)


def test_names_of_a_stranger_do_not_reach_the_terminal_as_they_are(tmp_path):
    first = party(tmp_path / "a", "cat", "dog")
    hostile = replace(about(first), classes=("\x1b[2Jcat", "dog\nall is well"))
    with pytest.raises(DataError) as caught:
        adapt(first, hostile, map_classes=False)
    assert str(caught.value).isprintable()


def test_a_list_has_an_end():
    names = [f"class {n}" for n in range(1000)]
    assert joining._listed(names).endswith("class 29 and 970 more]")


def test_a_model_of_earlier_says_too_little_and_is_taken(tmp_path):
    first = party(tmp_path / "a", "cat", "dog")
    spec = models.spec_for("auto", first.shape, 2)
    said = model_file.describe(first, spec)
    for missing in ("classes", "mean", "std"):
        less = {name: value for name, value in said.items() if name != missing}
        assert joining.description_of(model_file.to_bytes(models.build(spec, 0), less)) is None
    wrong = said | {"mean": json.dumps([1e400])}
    with pytest.raises(DataError):
        joining.description_of(model_file.to_bytes(models.build(spec, 0), wrong))


def experiment_of(http, dataset, **without):
    """One for two parties, of which this set is the first one's; no client is enrolled."""
    spec = models.spec_for("auto", dataset.shape, len(dataset.classes))
    said = {k: v for k, v in model_file.describe(dataset, spec).items() if k not in without}
    return create(
        http,
        "parties",
        model_file.to_bytes(models.build(spec, 0), said),
        **{"dataset": dataset.name, "dataset_size": len(dataset.train_y), "model": spec.name},
        **{"clients": 1, "clients_per_round": 1, "rounds": 1, "local_epochs": 1},
    )


def join(server, made, folder: Path, *more):
    experiment, key = made
    return command_line.run(
        [
            *("join", "--server", server.url, "--experiment", experiment, "--enrol-key", key),
            *("--dataset", str(folder), "--key-file", str(folder / "client.key"), *more),
        ]
    )


def test_join_refuses_other_classes_before_it_takes_a_slot(server, http, tmp_path, capsys):
    made = experiment_of(http, party(tmp_path / "a", "horizontal", "vertical"))
    party(tmp_path / "b", "horizontal", "Vertical")
    assert join(server, made, tmp_path / "b") == exit_codes.USAGE
    said = capsys.readouterr().err
    assert "[horizontal, vertical] there, [Vertical, horizontal] here" in said
    assert http.get(f"/experiments/{made[0]}").json()["enrolled"] == 0
    assert join(server, made, tmp_path / "b", "--map-classes") == 0
    assert http.get(f"/experiments/{made[0]}").json()["state"] == "completed"


def test_join_goes_on_with_a_warning_where_the_model_says_too_little(
    server, http, tmp_path, capsys
):
    made = experiment_of(http, party(tmp_path / "a", "cat", "dog"), mean=True)
    assert join(server, made, tmp_path / "a") == 0
    shown = capsys.readouterr()
    assert joining.UNDESCRIBED in " ".join((shown.out + shown.err).split())
