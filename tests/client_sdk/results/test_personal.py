"""What a report says of fine-tuning."""

from types import SimpleNamespace

import pytest

from client_sdk.results.personal import personal, sentence


def models(**reports):
    found = [SimpleNamespace(source=s, metrics=m) for s, m in reports.items()]
    return [SimpleNamespace(evaluations=[]), SimpleNamespace(evaluations=found)]


def test_each_client_counts_alike():
    found = personal(
        models(
            a={"accuracy": 0.5, "loss": 1.0, "accuracy_after": 0.75, "loss_after": 0.5},
            b={"accuracy": 0.75, "loss": 1.0, "accuracy_after": 0.75, "loss_after": 0.5},
            c={"accuracy": 0.25, "loss": 1.0},  # of an earlier release
            central={"accuracy": 0.1, "accuracy_after": 0.1},
        ),
        3,
    )
    assert found["metric"] == "accuracy"
    assert found["before"] == {"mean": 0.625, "worst": 0.5, "spread": 0.125}
    assert found["after"] == {"mean": 0.75, "worst": 0.75, "spread": 0.0}
    assert [one["client"] for one in found["clients"]] == ["a", "b"]
    assert sentence(found) == (
        "accuracy of 2 clients, of the last model and of the model that each made its own: mean "
        "62.50% and 75.00%, worst 50.00% and 75.00%, spread 12.50% and 0.00%"
    )


def test_the_worst_loss_is_the_largest():
    found = personal(
        models(a={"loss": 1.0, "loss_after": 0.5}, b={"loss": 3.0, "loss_after": 0.1}), 1
    )
    assert (found["before"]["worst"], found["after"]["worst"]) == (3.0, 0.5)
    assert found["before"]["mean"] == pytest.approx(2)


def test_without_fine_tuning_there_is_nothing_to_say():
    assert personal(models(a={"accuracy": 0.5}), 0) is None


def test_a_model_beside_the_global_one_counts_too():
    found = personal(models(a={"loss": 2.0, "personal_loss": 0.5}), 0)
    assert (found["before"]["mean"], found["after"]["mean"]) == (2.0, 0.5)
