"""The list of experiments says of each what it trains, on what, how well and at which cost."""

from __future__ import annotations

import pytest


async def listed(federation):
    answer = await federation.http.get("/v1/experiments")
    return answer.raise_for_status().json()[-1]


async def play(federation, experiment, members, number, **metrics):
    for name in await federation.cohort(experiment):
        await members[name].upload(number, float(number), **metrics)


async def test_a_line_has_the_best_model_by_the_cohorts_and_the_cost(federation):
    experiment, members = await federation.start(rounds=3)
    line = await listed(federation)
    assert (line["best"], line["goal"]["metric"], line["goal"]["better"]) == (
        None,
        "accuracy",
        "higher",
    )
    for number, accuracy in enumerate((0.1, 0.9, 0.5), start=1):
        await play(federation, experiment, members, number, accuracy_before=accuracy)
    line = await listed(federation)
    # The cohort of round 2 measured model 1.
    assert line["best"] == {"version": 1, "value": 0.9}
    settings = (await federation.http.get(f"/v1/experiments/{experiment}")).json()["config"]
    assert [line["model"], line["dataset"], line["strategy"], line["data"]] == [
        *(settings["model"], settings["dataset"], "fedavg", "common"),
    ]
    assert line["cost_usd"] > 0


@pytest.mark.parametrize(("better", "best"), [("lower", 2), ("higher", 0)])
async def test_the_best_is_the_best_by_the_experiments_own_metric(federation, better, best):
    experiment, members = await federation.start(
        rounds=3, target_metric="mae", target_better=better
    )
    for number, error in enumerate((3.0, 2.0, 1.0), start=1):
        await play(federation, experiment, members, number, mae_before=error)
    line = await listed(federation)
    assert line["goal"] == {"metric": "mae", "better": better, "target": None}
    assert line["best"]["version"] == best
    shown = (await federation.http.get(f"/v1/experiments/{experiment}")).json()
    assert shown["goal"] == line["goal"]
