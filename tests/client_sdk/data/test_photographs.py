"""Digits on paper as a telephone takes them: uneven light, lines, specks, the edge of a table."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from client_sdk.data import datasets, digit_finder
from client_sdk.tools.predict import Classifier
from tests.support.datasets import SHARED, needs_mnist
from tests.support.sample import sample
from tests.support.trained import trained_on

HEIGHT, WIDTH, SIZE = 400, 300, 140
COUNT = 20


def paper(pixels, dark=40.0):
    page = np.full((HEIGHT, WIDTH), 225.0)
    strokes = Image.fromarray(pixels).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    page[130 : 130 + SIZE, 80 : 80 + SIZE] -= np.asarray(strokes, float) / 255 * (225 - dark)
    return page


def light_from_the_left(page):
    return page * np.linspace(1, 0.5, WIDTH)[None, :]


def light_from_below(page):
    return page * np.linspace(0.6, 1, HEIGHT)[:, None]


def light_in_the_middle(page):
    y, x = np.mgrid[-1 : 1 : HEIGHT * 1j, -1 : 1 : WIDTH * 1j]
    return page * (1 - 0.2 * (x**2 + y**2))


def ruled_faintly(page):
    page[::30] = np.minimum(page[::30], 170)
    return page


def ruled_darkly(page):
    page[7::30] = np.minimum(page[7::30], 100)
    return page


def squared(page):
    return ruled_faintly(ruled_faintly(page).T).T


def a_margin(page):
    page[:, 40:42] = 110
    return page


def a_speck(page):
    page[350:353, 280:283] = 40
    return page


def specks(page):
    for n in range(9):
        page[30 + 40 * n :, 20 + 250 * (n % 2) :][:4, :4] = 40
    return page


def a_dark_edge_on_two_sides(page):
    page[:4] = page[:, :4] = 60
    return page


def a_dark_frame(page):
    page[:4] = page[-4:] = page[:, :4] = page[:, -4:] = 60
    return page


def a_table_beside_it(page):
    page[:, -30:] = 50
    return page


def all_at_once(page):
    return light_from_below(a_speck(a_dark_edge_on_two_sides(ruled_faintly(page))))


def chalk(page):
    return 255 - page


FAULTS = [
    *(light_from_the_left, light_from_below, light_in_the_middle, ruled_faintly, ruled_darkly),
    *(squared, a_margin, a_speck, specks, a_dark_edge_on_two_sides, a_dark_frame),
    *(a_table_beside_it, all_at_once, chalk),
]


def right(classifier, dataset, change, dark=40.0):
    """How many of COUNT photographs of test digits are read."""
    rng = np.random.default_rng(1)
    found = 0
    for n in rng.choice(len(dataset.test_y), COUNT, replace=False).tolist():
        page = change(paper(dataset.test_x[n, 0].numpy(), dark))
        page = page + rng.normal(0, 1.5, page.shape)
        picture = Image.fromarray(page.clip(0, 255).astype(np.uint8))
        found += classifier.predict(picture, 1)[0][0] == str(int(dataset.test_y[n]))
    return found


def classifier_of(dataset, examples, epochs):
    return Classifier.parse(trained_on(dataset, examples, epochs), "it")


@pytest.fixture(scope="module")
def digits():
    dataset = datasets.load("digits", Path("nowhere"))
    return classifier_of(dataset, 1438, 12), dataset


# Each kind of light, line, speck and edge; the others are weaker forms, or parts of all_at_once.
KINDS = [light_in_the_middle, ruled_darkly, squared, a_margin, specks, a_dark_frame]
KINDS += [a_table_beside_it, all_at_once, chalk]


@pytest.mark.parametrize("fault", sample(FAULTS, KINDS))
def test_photographs_of_small_digits(digits, fault):
    assert right(*digits, fault) >= 17


def test_a_pale_pencil(digits):
    assert right(*digits, light_from_the_left, dark=170) >= 17


@pytest.fixture(scope="module")
def mnist():
    dataset = datasets.load("mnist", SHARED, download=False)
    return classifier_of(dataset, 12_000, 2), dataset


@needs_mnist
@pytest.mark.parametrize("fault", sample(FAULTS, [squared, all_at_once]))
def test_photographs_in_mnists_style(mnist, fault):
    assert right(*mnist, fault) >= 18


@pytest.mark.parametrize("value", [0, 255, 117])
@pytest.mark.parametrize("size", [(5, 5), (1, 1), (300, 200), (64, 64), (1000, 3)])
def test_a_blank_page_holds_no_ink(size, value):
    assert not digit_finder.find_digit(
        np.full(size, value, np.float32), 28, 28, 20 / 28, True
    ).any()


def test_a_page_of_lines_alone_is_a_picture_too(digits):
    page = ruled_darkly(np.full((HEIGHT, WIDTH), 225.0))
    assert digits[0].predict(Image.fromarray(page.astype(np.uint8)))


def test_ink_is_framed_by_its_mass():
    page = np.full((200, 300), 230, np.float32)
    page[20:120, 200:220] = 30
    found = digit_finder.find_digit(page, 28, 28, 20 / 28, True)
    rows, columns = np.flatnonzero(found.any(1)), np.flatnonzero(found.any(0))
    assert (rows[0], rows[-1], columns[0], columns[-1]) == (4, 23, 12, 15)
    assert found[10, 13] == found.max() == 255
