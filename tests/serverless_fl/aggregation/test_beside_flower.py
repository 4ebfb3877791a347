"""The strategies that Flower has, too, give its models where its rules are the papers'.

`python -m benchmarks.peers.strategies` makes Flower's environment and compares them in any case.
"""

import pytest

from benchmarks.peers import peers, strategies

pytestmark = pytest.mark.skipif(
    not (peers.VENVS / "flower" / "ready").exists(),
    reason="Flower has no environment here: python -m benchmarks.peers.strategies makes one",
)


@pytest.fixture(scope="module")
def compared():
    return {found.name: found for found in strategies.compare(seed=1)}


@pytest.mark.parametrize("name", [strategy.name for strategy in strategies.strategies()])
def test_ten_random_rounds_give_flowers_models(compared, name):
    assert compared[name].apart < strategies.APART


def test_flowers_fedadam_is_another(compared):
    assert compared[strategies.FEDADAM_AS_IT_IS].apart > 0.01
