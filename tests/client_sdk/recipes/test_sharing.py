"""Who has what in a simulation: sites with data of their own, splits by name and by function."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from client_sdk.data.data import Arrays, Items
from client_sdk.data.joined import join
from client_sdk.errors import BadSettings, DataError
from client_sdk.recipes.sharing import share_out
from client_sdk.recipes.simulate import simulate
from client_sdk.task.sklearn_task import SklearnTask
from tests.support import toy

SITES = {"oslo": (np.arange(10.0), np.zeros(10)), "rome": (np.arange(30.0), np.ones(30))}


def test_each_site_is_a_client_with_its_own_examples_and_its_own_figure():
    result = simulate(toy.Line(), SITES, SITES, rounds=1, local_epochs=1)
    assert [(s.site, s.examples) for s in result.sites.sites] == [("oslo", 10), ("rome", 30)]
    assert result.outcome.experiment.config.clients == 2
    losses = [toy.Line().evaluate(result.weights, Arrays(*s))["loss"] for s in SITES.values()]
    tested = result.test_sites
    assert [(s.site, s.held_out) for s in tested.sites] == [("oslo", 10), ("rome", 30)]
    assert [s.value for s in tested.sites] == pytest.approx(losses)
    assert (tested.mean, tested.worst.value) == (pytest.approx(np.mean(losses)), max(losses))


def test_without_a_test_set_each_site_holds_a_fifth_out():
    found = share_out(SITES, None, None, "equal", seed=0)
    assert [len(part) for part in found.drawn.parts] == [8, 24]
    assert found.test.y.tolist() == [0.0] * 2 + [1.0] * 6
    assert found.train.subset(found.drawn.parts[1].tolist()).y.tolist() == [1.0] * 24
    again = share_out(SITES, None, None, "equal", seed=0)
    assert again.test.x.tolist() == found.test.x.tolist()
    assert share_out(SITES, None, None, "equal", seed=1).test.x.tolist() != found.test.x.tolist()


def test_the_test_sets_of_several_sites_are_one():
    found = share_out(SITES, SITES, None, "equal", seed=0)
    assert len(found.test) == len(found.train) == 40


@pytest.mark.parametrize(
    ("split", "sizes"),
    [
        ({"name": "label-shards", "shards_per_client": 1}, [10, 10, 10, 10]),
        (lambda examples, clients, seed: [[0], [1, 2], [], range(3, 40)], [1, 2, 37]),
    ],
)
def test_a_split_by_name_or_function_says_who_has_what(split, sizes):
    data = (np.arange(40.0), np.repeat([0, 1, 2, 3], 10))
    found = share_out(data, data, 4, split, seed=0)
    assert [len(part) for part in found.drawn.parts] == sizes
    assert found.clients == len(sizes)


def test_a_split_trains_like_any_other_run():
    x = np.random.default_rng(0).normal(size=(60, 3))
    data = (x, (x[:, 0] > 0).astype(int))
    task = SklearnTask(LogisticRegression())
    result = simulate(task, data, data, clients=3, split="quantity", rounds=2)
    assert sum(site.examples for site in result.sites.sites) == 60
    assert result.metrics["accuracy"] > 0.9
    assert result.test_sites is None
    assert simulate(task, data, data, clients=3, rounds=1).sites is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"train": SITES, "clients": 3}, "2 sites are 2 clients: leave out clients=3"),
        ({"train": SITES, "split": "quantity"}, "nothing to split"),
        ({"train": {"oslo": (np.zeros(0), np.zeros(0))}}, "The site oslo has no examples"),
        ({"train": {"x": np.zeros(4), "y": np.zeros(4)}}, "A dict is no data set"),
        ({"train": {"a": (np.zeros((4, 2)),), "b": (np.zeros((4, 3)),)}}, r"not \[2\] and \[3\]"),
        ({"train": {"a": (np.zeros(4),), "b": (np.zeros(4), np.zeros(4))}}, "Some sites have"),
        ({"train": {"a": (np.zeros(4),), "b": [1, 2, 3]}}, "Arrays, Items cannot be joined"),
        ({"train": (np.zeros(9), np.zeros(9)), "split": "euqal"}, "did you mean equal"),
        ({"train": (np.zeros(9), np.zeros(9)), "clients": -1}, "among -1 clients"),
    ],
)
def test_what_cannot_be_shared_out_is_said(arguments, message):
    given = {"test": None, "clients": None, "split": "equal", "seed": 0} | arguments
    with pytest.raises((BadSettings, DataError), match=message):
        share_out(**given)


def test_tensors_stay_tensors_and_lists_are_read_when_they_are_asked():
    tensors = join([Arrays(torch.zeros(2, 3)), Arrays(torch.ones(1, 3))])
    assert isinstance(tensors.x, torch.Tensor)
    assert tensors.x.shape == (3, 3)
    items = join([Items(["a", "b"]), Items([]), Items(["c"])])
    assert [items[n] for n in range(3)] == ["a", "b", "c"] == list(items)
    assert list(items.subset([2, 0])) == ["c", "a"]
