"""Any metric that updates report can end an experiment, and says which model is the best."""

from dataclasses import replace

import pytest

from client_sdk.errors import RequestRefused
from client_sdk.simulation.outcome import Row, best_of
from serverless_fl.domain.errors import InvalidConfig
from serverless_fl.domain.experiment import Best, Config
from serverless_fl.domain.goal import ACCURACY, Goal
from serverless_fl.domain.provenance import config_digest
from serverless_fl.domain.stopping import decide, mean, out_of_reach
from tests.audit.stopping import round_, settings, update


def reporting(slot, examples=100, **metrics):
    return replace(update(slot, None, examples), metrics=metrics)


def row(number, **metrics):
    return Row(number, metrics, 1.0, 0, 0, 2, 1, "0" * 64, {})


def aimed(**changes):
    return settings(target_accuracy=None, **changes)


def test_the_words_of_a_name_say_which_values_are_better():
    assert aimed(target_metric="val_auc").goal == Goal("val_auc", higher=True)
    assert aimed(target_metric="log_loss").goal == Goal("log_loss", higher=False)
    assert aimed(target_metric="mae", target_better="lower").goal == Goal("mae", higher=False)
    assert settings().goal == ACCURACY


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target_metric": "mae"}, "target_metric (mae) is neither a rate nor a loss"),
        ({"target_value": 0.5}, "target_value (0.5) needs a target_metric"),
        ({"target_better": "lower"}, "target_better (lower) needs a target_metric"),
        ({"target_metric": "auc", "target_value": 1.5}, "a rate lies between 0 and 1"),
        ({"target_metric": "loss", "target_value": -1.0}, "a loss is not negative"),
        ({"target_metric": "auc", "target_accuracy": 0.9}, "are two goals: leave one of them out"),
    ],
)
def test_settings_that_contradict_each_other_are_told(changes, message):
    with pytest.raises(InvalidConfig) as caught:
        settings(**{"target_accuracy": None, **changes})
    assert message in caught.value.message


def test_a_target_of_a_loss_is_met_by_the_mean_of_each_round_of_the_patience():
    config = aimed(target_metric="loss", target_value=0.25, patience=2)
    good = [reporting(0, 300, loss_before=0.125), reporting(1, 100, loss_before=0.5)]
    assert mean(config.goal, good) == 0.21875
    assert decide(config, 0, round_(3), good).streak == 1
    found = decide(config, 1, round_(4), good)
    assert found.reason == (
        "The target of at most 0.25 for loss was reached: the mean over the examples of round 4 "
        "is 0.21875, and each of the last 2 rounds met it."
    )
    bad = [reporting(0, 300, loss_before=0.25), reporting(1, 100, loss_before=0.5)]
    assert decide(config, 1, round_(4), bad).streak == 0
    assert out_of_reach(config) == ""


def test_a_metric_that_half_of_the_examples_lack_decides_nothing():
    config = aimed(target_metric="loss", target_value=0.5)
    found = [reporting(0, 100, loss=0.1), reporting(1, 100)]
    assert decide(config, 5, round_(1), found).streak == 0
    found = [reporting(0, 101, loss=0.1), reporting(1, 100)]
    assert decide(config, 0, round_(1), found).reason is not None


def test_a_target_of_a_rate_needs_evidence_as_the_accuracy_does():
    config = aimed(target_metric="auc", target_value=0.9, dataset_size=1000)
    same = settings(target_accuracy=0.9, dataset_size=1000)  # five held-out examples a client
    few = [reporting(slot, 45, auc_before=0.99) for slot in range(2)]
    many = [reporting(slot, 45, auc_before=0.99) for slot in range(20)]
    for updates in (few, many):
        renamed = [
            replace(u, metrics={"accuracy_before": u.metrics["auc_before"]}) for u in updates
        ]
        ours, theirs = decide(config, 0, round_(1), updates), decide(same, 0, round_(1), renamed)
        assert (ours.streak, bool(ours.reason)) == (theirs.streak, bool(theirs.reason))
    assert decide(config, 0, round_(1), few).reason is None
    assert "is their auc, which shows at least 9" in decide(config, 0, round_(1), many).reason


def test_settings_of_stored_experiments_keep_their_digest():
    of_release_1 = "2dc12c5c"  # of these settings, by the release before there were goals
    plain = Config(dataset="d", dataset_size=100, model="m", target_accuracy=0.9, patience=2)
    assert config_digest(plain).startswith(of_release_1)


def test_the_best_row_follows_the_goal():
    rows = [
        row(1, accuracy=0.5, loss=1.0, mae=3.0),
        row(2, accuracy=0.9, loss=0.8, mae=2.0),
        row(3, accuracy=0.7, loss=0.2, mae=2.5),
    ]
    assert best_of(rows).round == 2
    assert best_of(rows, Goal("loss_before", higher=False)).round == 3
    assert best_of(rows, Goal("mae", higher=False)).round == 2
    assert best_of(rows, Goal("unknown")).round == 3  # then the lower loss
    assert best_of([row(1, x=1.0), row(2, x=2.0)]).round == 2  # no better and worse


async def test_a_loss_ends_an_experiment_and_keeps_its_best_model(federation):
    experiment, members = await federation.start(
        rounds=9, keep_models=1, target_metric="loss", target_value=0.25, patience=2
    )
    losses = [0.9, 0.1, 0.5, 0.4, 0.2, 0.25]  # round 2 measures model 1
    for number, loss in enumerate(losses, start=1):
        for client in await federation.cohort(experiment):
            await members[client].upload(number, 1.0, loss_before=loss, accuracy_before=0.1)
    shown = await federation.admin.experiment(experiment)
    assert (shown.state, shown.model_version) == ("completed", 6)
    assert "target of at most 0.25 for loss was reached" in shown.reason
    stored = await federation.coordinator().context.repo.experiment(experiment)
    assert stored.best_held_out == Best(version=1, value=0.1)
    assert [m.version for m in await federation.admin.models(experiment) if m.kept] == [0, 1, 6]


async def test_the_end_says_that_the_target_was_not_reached(federation):
    experiment, members = await federation.start(rounds=1, target_metric="loss", target_value=0.5)
    for client in await federation.cohort(experiment):
        await members[client].upload(1, 1.0, loss_before=0.75)
    shown = await federation.admin.experiment(experiment)
    assert shown.reason == (
        "All 1 rounds are closed. The target of at most 0.5 for loss was not reached."
    )


async def test_the_api_refuses_a_goal_without_a_direction(federation):
    with pytest.raises(RequestRefused, match="say with target_better"):
        await federation.create(target_metric="mae", target_value=3.0)
