"""What `join` says, and how a run's headline names clients that took part for nothing."""

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from client_sdk import exit_codes
from client_sdk.participant import Event
from client_sdk.results.console import Output
from client_sdk.results.join_progress import JoinProgress
from client_sdk.results.progress import LiveProgress
from client_sdk.results.summary import headline
from serverless_fl.domain.experiment import ExperimentState


@pytest.fixture
def said():
    return []


@pytest.fixture
def narration(said):
    return JoinProgress(said.append, rounds=12)


def test_it_says_what_a_client_waits_for_and_each_thing_once(narration, said):
    for message in ("2 of 3 enrolled.", "2 of 3 enrolled.", "3 of 3 enrolled."):
        narration(Event("waiting", "client-01", 0, message))
    narration(Event("training", "client-01", 3))
    narration(Event("uploaded", "client-01", 3, "accuracy 81.00%"))
    narration(Event("waiting", "client-01", 3, "Paused: by its admin"))
    assert said == [
        "client-01: waiting. 2 of 3 enrolled.",
        "client-01: waiting. 3 of 3 enrolled.",
        "client-01: round 3 of 12: training",
        "client-01: round 3 of 12: uploaded (accuracy 81.00%)",
        "client-01: round 3 of 12: waiting. Paused: by its admin",
    ]


def test_a_client_whose_every_update_is_refused_is_told_so(narration):
    assert not narration.ignored
    narration(Event("refused", "client-01", 1, "Tensor 'a' holds NaN."))
    assert narration.ignored.endswith("The last time: Tensor 'a' holds NaN.")
    narration(Event("uploaded", "client-01", 2))
    assert not narration.ignored


@pytest.mark.parametrize(
    ("state", "ignored", "code"),
    [
        (ExperimentState.COMPLETED, False, 0),
        (ExperimentState.COMPLETED, True, 9),
        (ExperimentState.FAILED, True, 1),
        (ExperimentState.STOPPED, True, 5),
        (ExperimentState.PAUSED, True, 8),
    ],
)
def test_the_code_says_that_a_client_took_part_for_nothing(state, ignored, code):
    assert exit_codes.of_end(state, ignored=ignored) == code


def test_the_headline_names_who_took_part_for_nothing():
    refused = [{"client": "client-03", "code": "bad-weights", "reason": "It holds NaN."}]
    result = {"state": "completed", "reason": "All rounds are closed.", "always_refused": refused}
    first, second = headline(result)
    assert first == "completed: All rounds are closed."
    assert second.startswith("client-03 took part for nothing")
    assert "It holds NaN." in second


def test_what_others_wrote_is_no_markup(monkeypatch, capsys):
    Output(to_stderr=False).say("client-01: [/red] [bold]x")
    assert capsys.readouterr().out == "client-01: [/red] [bold]x\n"


def shown(cohort, reported):
    current = SimpleNamespace(cohort=cohort, number=2, reported=reported)
    return SimpleNamespace(
        progress=f"Round 2 of 3: {len(reported)} of {len(cohort)} updates; " + "x" * 100 + " END",
        current_round=current,
    )


def test_the_picture_counts_uploads_as_the_coordinator_does_and_cuts_nothing():
    text = io.StringIO()
    console = Console(file=text, width=80, force_terminal=True, color_system=None)
    view = LiveProgress(console, rounds=3)
    cohort = ["client-01", "client-02", "client-03"]
    view.watchers.on_experiment(shown(cohort, ["client-01"]))
    for client in cohort[:2]:  # the coordinator was not asked since
        view.watchers.on_event(Event("uploaded", client, 2))
    console.print(view._draw())
    drawn = text.getvalue()
    assert "(1 training, 1 uploaded)" in drawn
    assert "1 of 3 updates" in drawn
    assert "END" in drawn


def test_updates_that_came_late_are_counted_at_the_end(narration):
    assert narration.left_out == ""
    narration(Event("uploaded", "client-01", 1))
    narration(Event("late", "client-01", 2, "Round 2 is closed."))
    assert narration.left_out.startswith("1 of 2 updates of this client came when their round was")
