"""Figures of model versions from an experiment's records, with numbers to check by hand."""

from datetime import UTC, datetime

import pytest

from client_sdk.results.version_figures import Federated, figures
from serverless_fl.wire.views import EvaluationView, ModelView, RoundSummary

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def a_round(number, state="closed", **metrics):
    return RoundSummary(
        number=number,
        attempt=1,
        state=state,
        accepted=2,
        contributors=["client-00", "client-01"],
        opened_at=NOW,
        closed_at=NOW,
        num_examples=90,
        update_bytes=1,
        metrics=metrics,
    )


def a_model(version, *evaluations):
    return ModelView(
        version=version,
        sha256="0" * 64,
        size=1,
        parent_sha256=None,
        config_sha256="0" * 64,
        updates_sha256=None,
        created_at=NOW,
        evaluations=[
            EvaluationView(source=source, num_examples=count, metrics=metrics)
            for source, count, metrics in evaluations
        ],
    )


def test_a_versions_federated_figure_is_the_next_cohorts_before_it_trained():
    history = [
        a_round(1, accuracy_before=0.1, loss_before=2.0, accuracy_after=0.9),
        a_round(2, accuracy_before=0.6, accuracy_after=0.9),
        a_round(3, "collecting"),
    ]
    versions = [
        a_model(0),
        a_model(1, ("central", 100, {"accuracy": 0.5, "loss": 1.0})),
        a_model(2, ("central", 100, {"accuracy": 0.7, "loss": 0.8})),
    ]
    first, second, last = figures(history, versions)
    assert first.central is None
    assert first.federated == Federated(
        {"accuracy": 0.1, "loss": 2.0}, clients=2, examples=90, weights="examples trained on"
    )
    assert second.central == {"accuracy": 0.5, "loss": 1.0}
    assert second.federated.metrics == {"accuracy": 0.6}
    assert last.central["accuracy"] == 0.7
    assert last.federated is None


def test_clients_reports_are_weighted_by_their_examples():
    model = a_model(
        1,
        ("central", 100, {"accuracy": 0.2}),
        ("client-00", 10, {"accuracy": 1.0, "loss": 0.5}),
        ("client-01", 30, {"accuracy": 0.6}),  # its loss was no number
        ("client-02", 50, {"other": 1.0}),
    )
    (found,) = figures([], [model])
    assert found.clients == Federated(
        {"accuracy": pytest.approx(0.7), "loss": 0.5},  # (10 * 1 + 30 * 0.6) / 40
        clients=2,
        examples=40,
        weights="examples held out",
    )
    assert found.federated is found.clients
