"""What a model is worth at each client: mean, worst, spread."""

from types import SimpleNamespace

import pytest

from client_sdk.results.by_site import by_site, sentence


def model(**reports):
    evaluations = [
        SimpleNamespace(source=source.replace("_", "-"), num_examples=n, metrics=metrics)
        for source, (n, metrics) in reports.items()
    ]
    return SimpleNamespace(evaluations=evaluations)


def test_each_client_counts_alike_and_the_worst_is_named():
    last = model(
        central=(100, {"accuracy": 0.1}),
        client_00=(9, {"accuracy": 0.9, "loss": 0.1}),
        client_02=(1, {"accuracy": 0.5, "loss": 2.0}),
    )
    found = by_site([model(), last], ["rome", "oslo", "bern"], [90, 20, 10])
    assert [(s.client, s.site, s.examples, s.held_out, s.value) for s in found.sites] == [
        ("client-00", "rome", 90, 9, 0.9),
        ("client-02", "bern", 10, 1, 0.5),
    ]
    assert (found.mean, found.worst.site) == (pytest.approx(0.7), "bern")
    assert found.spread == pytest.approx(0.2)
    assert sentence(found.as_json()) == (
        "accuracy by client, on the held-out data of 2: mean 70.00%, worst 50.00% (bern), "
        "spread 20.00%"
    )


def test_of_a_loss_the_highest_is_the_worst():
    found = by_site(
        [model(client_00=(9, {"loss": 0.1}), client_01=(9, {"loss": 0.4}))], ["a", "b"], [1, 1]
    )
    assert (found.metric, found.worst.site) == ("loss", "b")
    assert "mean 0.2500, worst 0.4000 (b)" in sentence(found.as_json())


def test_without_reports_there_is_nothing():
    assert by_site([], ["a"], [1]) is None
    assert by_site([model(central=(9, {"accuracy": 1.0}))], ["a"], [1]) is None
