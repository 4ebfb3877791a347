"""Which examples each client has: the laws, in many seeds, and that a seed fixes them."""

import hashlib

import numpy as np
import pytest
from scipy import stats

from client_sdk.data import datasets
from client_sdk.data.splits import SPLITS, looking
from client_sdk.data.splits.dirichlet_classes import DirichletClasses
from client_sdk.data.splits.drawing import draw, split_of
from client_sdk.data.splits.split import Examples
from client_sdk.errors import DataError
from serverless_fl.domain import draws

LABELS = np.arange(1200) * 7 % 1200 // 120  # ten classes of 120, mixed
SITES = np.array(["rome", "oslo", "bern", "oslo"] * 300)
EXAMPLES = Examples(1200, LABELS, {"site": SITES})
DRAWN = [
    name for name in (s.model_fields["name"].default for s in SPLITS) if name != "own-function"
]
RANDOM = [name for name in DRAWN if name != "by-column"]


def thirds(examples, clients, seed):
    return [range(n, examples.count, clients) for n in range(clients)]


def drawn(law, seed=1, clients=20, examples=EXAMPLES):
    return draw(law, examples, 3 if law == "by-column" else clients, seed)


def counts(found):
    """Examples of each class, [clients, classes]."""
    return np.array([np.bincount(LABELS[places], minlength=10) for places in found.parts])


GOLDEN = {
    "equal": "dcc7b8c62554a96c",
    "dirichlet-classes": "d161eea44be18672",
    "dirichlet-clients": "3766a2aa734f25e3",
    "label-shards": "e15571f746d0f144",
    "quantity": "f5463f8d0e7c71dc",
    "by-column": "54b9b685da32928f",
}


@pytest.mark.parametrize("name", DRAWN)
def test_a_seed_gives_the_same_split_for_ever(name):
    text = ";".join(",".join(map(str, places.tolist())) for places in drawn(name).parts)
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == GOLDEN[name]


@pytest.mark.parametrize("name", RANDOM)
def test_another_seed_gives_another_split(name):
    one, other = drawn(name, 1), drawn(name, 2)
    assert [p.tolist() for p in one.parts] != [p.tolist() for p in other.parts]


@pytest.mark.parametrize("name", DRAWN)
def test_each_example_has_one_client(name):
    for seed in range(5):
        found = drawn(name, seed)
        assert sorted(np.concatenate(found.parts).tolist()) == list(range(1200))
        assert all((np.diff(places) > 0).all() for places in found.parts)
        assert found.numbers == tuple(sorted(found.numbers))


def test_equal_shares_are_those_of_the_coordinator():
    found = drawn("equal", seed=9)
    wanted = [draws.shard(9, 1200, 20, slot) for slot in range(20)]
    assert [places.tolist() for places in found.parts] == wanted


@pytest.mark.parametrize("alpha", [0.1, 0.5, 5.0])
def test_dirichlet_classes_shares_each_class_with_the_variance_of_its_alpha(alpha):
    law = {"name": "dirichlet-classes", "alpha": alpha}
    shares = []
    for seed in range(150):
        found = drawn(law, seed, clients=5)
        whole = np.zeros((5, 10))
        whole[list(found.numbers)] = counts(found)
        shares.append(whole / 120)
    shares = np.array(shares)  # [seeds, clients, classes]
    assert shares.mean((0, 2)) == pytest.approx(np.full(5, 0.2), abs=0.02)
    # Dir(alpha, ... of 5): (1/5)(4/5) / (5 alpha + 1); rounding to examples adds next to nothing.
    assert shares.var() == pytest.approx(0.16 / (5 * alpha + 1), rel=0.1)
    sizes = shares.sum(2) * 12  # percent
    assert sizes.std() > 1  # sizes differ, too


@pytest.mark.parametrize("alpha", [0.5, 2.0, 50.0])
def test_dirichlet_clients_has_equal_sizes_and_the_variance_of_its_alpha(alpha):
    law = {"name": "dirichlet-clients", "alpha": alpha}
    # So many clients that the classes run out together, in the last turns.
    big = Examples(24_000, np.repeat(np.arange(4), 6000))
    shares = []
    for seed in range(4):
        found = draw(law, big, 400, seed)
        assert {len(places) for places in found.parts} == {60}
        shares += [np.bincount(big.labels[p], minlength=4) / 60 for p in found.parts]
    first = np.array(shares)
    assert first.mean(0) == pytest.approx(np.full(4, 0.25), abs=0.01)
    # Dir(alpha / 4, ...): (1/4)(3/4) / (alpha + 1); drawing 60 examples adds its own variance.
    own = 0.1875 / (alpha + 1)
    assert first.var(0).mean() == pytest.approx(own + (0.1875 - own) / 60, rel=0.15)


def test_the_two_dirichlet_splits_do_not_mean_the_same_alpha():
    by_class = drawn({"name": "dirichlet-classes", "alpha": 1.0})
    by_client = drawn({"name": "dirichlet-clients", "alpha": 1.0})
    sizes = [{len(p) for p in found.parts} for found in (by_class, by_client)]
    assert len(sizes[0]) > 10
    assert sizes[1] == {60}


def test_label_shards_have_few_classes_a_client():
    for seed in range(20):
        found = drawn("label-shards", seed)
        assert {len(places) for places in found.parts} == {60}
        # 40 shards of 30 examples, four of each class: two classes at most.
        assert (counts(found) > 0).sum(1).max() <= 2
    more = drawn({"name": "label-shards", "shards_per_client": 4})
    assert (counts(more) > 0).sum(1).max() <= 4


def test_label_shards_are_dealt_at_random():
    together = sum(
        (counts(drawn("label-shards", seed)) > 0).sum(1).tolist().count(1) for seed in range(200)
    )
    # Of the 39 other shards, 3 are of the same class as a client's first one.
    assert together == pytest.approx(200 * 20 * 3 / 39, rel=0.2)


def test_quantity_has_log_normal_sizes_and_even_classes():
    ratios = []
    big = Examples(20_000, np.arange(20_000) % 10)
    for seed in range(60):
        found = draw({"name": "quantity", "sigma": 1.0}, big, 10, seed)
        sizes = np.log([len(places) for places in found.parts])
        ratios += (sizes - sizes.mean()).tolist()
    assert np.std(ratios) == pytest.approx(np.sqrt(0.9), rel=0.1)  # of ten, about their mean
    assert stats.kstest(np.array(ratios) / np.sqrt(0.9), "norm").pvalue > 1e-3
    largest = max(found.parts, key=len)
    assert stats.chisquare(np.bincount(largest % 10)).pvalue > 1e-3
    equal = draw({"name": "quantity", "sigma": 0.0}, big, 7, 1)
    assert max(map(len, equal.parts)) - min(map(len, equal.parts)) <= 1


def test_a_site_is_a_client():
    found = drawn("by-column")
    assert [SITES[places[0]] for places in found.parts] == ["bern", "oslo", "rome"]
    assert [len(places) for places in found.parts] == [300, 600, 300]
    assert split_of("by-column").clients_in(EXAMPLES) == 3
    assert found.names == ("bern", "oslo", "rome")


def test_a_function_of_ones_own_is_a_split(tmp_path, monkeypatch):
    found = drawn(thirds, clients=3)
    assert [len(places) for places in found.parts] == [400, 400, 400]
    (tmp_path / "my_own_split.py").write_text(
        "def thirds(examples, clients, seed):\n"
        "    return [range(n, examples.count, clients) for n in range(clients)]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    named = drawn({"name": "own-function", "split_function": "my_own_split:thirds"}, clients=3)
    assert [p.tolist() for p in named.parts] == [p.tolist() for p in found.parts]


def test_clients_without_examples_are_left_out_with_a_note():
    found = drawn({"name": "dirichlet-classes", "alpha": 0.001}, clients=100)
    assert all(map(len, found.parts))
    assert len(found.parts) == len(found.numbers) < 100
    assert f"{100 - len(found.parts)} of 100 clients have no examples" in found.note
    assert drawn("equal").note == ""


def test_a_small_class_goes_to_somebody():
    few = Examples(11, np.array([0] * 10 + [1]))
    found = draw("dirichlet-classes", few, 3, 1)
    assert sorted(np.concatenate(found.parts).tolist()) == list(range(11))


WRONG = {
    "twice": (lambda e, c, s: [[0], [0]], "the example 0 to more than one client"),
    "beyond": (lambda e, c, s: [[0], [1200]], "places from 0 to 1199"),
    "negative": (lambda e, c, s: [[0], [-1]], "places from 0 to 1199"),
    "too few clients": (lambda e, c, s: [[0]], "a list of places for each of 2 clients"),
    "none": (lambda e, c, s: [[], []], "gives no client any example"),
}


@pytest.mark.parametrize(("function", "words"), WRONG.values(), ids=WRONG)
def test_what_a_function_gives_is_checked(function, words):
    with pytest.raises(DataError, match=words):
        draw(function, EXAMPLES, 2, 1)


def test_a_note_counts_examples_of_nobody():
    assert draw(lambda e, c, s: [[0], [1]], EXAMPLES, 2, 1).note == (
        "1198 of 1200 examples are no client's."
    )


MISTAKES = {
    "a name": ("dirichlet-class", r"no split 'dirichlet-class' \(did you mean dirichlet-classes\?"),
    "a setting": ({"name": "equal", "alpha": 1.0}, "split equal has no alpha"),
    "a value": ({"name": "dirichlet-classes", "alpha": 0.0}, "refuses alpha"),
    "no name": ({"alpha": 0.0}, "an object with a name"),
    "shards": ({"name": "label-shards", "shards_per_client": 1000}, "too few for 20000 shards"),
    "no column": (
        {"name": "by-column", "site_column": "ward"},
        r"no column 'ward'; its .* \[site\]",
    ),
    "no function": ({"name": "own-function"}, "package.module:name"),
    "no module": ({"name": "own-function", "split_function": "no_such:f"}, "cannot be imported"),
    "no such name": ({"name": "own-function", "split_function": "math:f"}, "cannot be imported"),
    "a bad function": ({"name": "own-function", "split_function": "math:sqrt"}, "raised TypeError"),
}


@pytest.mark.parametrize(("law", "words"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_one_sentence(law, words):
    with pytest.raises(DataError, match=words):
        drawn(law)


def test_splits_by_class_need_classes():
    for name in ("dirichlet-classes", "dirichlet-clients", "label-shards"):
        with pytest.raises(DataError, match=f"The split {name} is by classes"):
            draw(name, Examples(100), 4, 1)
    assert len(draw("quantity", Examples(100), 4, 1).parts) == 4


def test_more_clients_than_examples_are_refused_where_all_need_some():
    for name in ("equal", "dirichlet-clients"):
        with pytest.raises(DataError, match="too few for 5 clients"):
            draw(name, Examples(4, np.arange(4) % 2), 5, 1)
    with pytest.raises(DataError, match="at least one client"):
        draw("quantity", Examples(4), 0, 1)


def test_every_split_has_a_paper_or_a_reason_and_settings_with_descriptions():
    for split in SPLITS:
        assert split.__doc__
        assert "choose" in split.__doc__.lower() or "own" in split.__doc__
        for name, field in split.model_fields.items():
            assert name == "name" or field.description
    assert DirichletClasses().alpha == 0.5


def test_labels_are_no_view_of_tensors_that_an_engine_moves():
    """`run` asks for them again after the engine has begun: what it frees held other numbers."""
    dataset = datasets.load("digits", None)
    labels = looking.of_dataset(dataset).labels
    assert not np.shares_memory(labels, dataset.train_y.numpy())
    dataset.train_y.share_memory_()
    assert labels.tolist() == dataset.train_y.tolist()
