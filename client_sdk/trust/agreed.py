"""What a party has accepted, compared with what the coordinator asks of it later."""

from __future__ import annotations

from serverless_fl.aggregation import strategy_of
from serverless_fl.domain.experiment import CONSTANT, Config
from serverless_fl.learning_rate import learning_rate_in
from serverless_fl.privacy import mechanism_of
from serverless_fl.wire.text import clean
from serverless_fl.wire.turns import Privacy, Train, Training

_SHOWN = 3  # settings that a sentence names


def task_fault(agreed: Config, task: Train) -> str | None:
    """Say how a task differs from the settings that were accepted; None if it does not.

    The number of rounds and the budgets may change during an experiment, and are not compared.
    """
    training = agreed.some(Training.model_fields)
    rate = learning_rate_in(agreed, task.round)
    if (
        agreed.learning_rate_schedule != CONSTANT
        and task.training.learning_rate <= agreed.learning_rate
    ):
        rate = task.training.learning_rate  # it may depend on the number of rounds
    expected = Training(**training | {"learning_rate": rate}).model_dump()
    asked = task.training.model_dump()
    expected |= {
        "update_encoding": agreed.sent_encoding,
        "download_encoding": agreed.download_encoding,
    }
    asked |= {
        "update_encoding": task.update_encoding,
        "download_encoding": task.download_encoding,
    }
    if task.privacy is not None:
        expected |= Privacy(**agreed.some(Privacy.model_fields)).model_dump()
        asked |= task.privacy.model_dump()
    elif mechanism_of(agreed).example_noise is not None:
        return (
            f"The task of round {task.round} does not ask for the noise of privacy "
            f"{agreed.privacy.name}, which this client has accepted."
        )
    if task.strategy is not None:
        expected["strategy"], asked["strategy"] = strategy_of(agreed), task.strategy
    differing = [name for name, value in asked.items() if value != expected[name]]
    if not differing:
        return None
    said = ", ".join(
        f"{name} is {clean(str(asked[name]), 60)} and not {clean(str(expected[name]), 60)}"
        for name in differing[:_SHOWN]
    )
    return f"The task of round {task.round} is not what this client has accepted: {said}."
