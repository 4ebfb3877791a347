"""The budget of privacy: whether an experiment may open another round."""

from __future__ import annotations

from serverless_fl.domain.experiment import Experiment
from serverless_fl.privacy import mechanism_of


def over_epsilon(experiment: Experiment) -> str | None:
    """Say why the experiment must not open its next round; None if it may.

    The client that has paid most may take part again.
    """
    budget, mechanism = experiment.config.budget_epsilon, mechanism_of(experiment.config)
    if budget is None or not mechanism.keeps_ledger:
        return None
    spent = experiment.ledger.epsilon if experiment.ledger else 0.0
    coming = mechanism.coming(experiment.ledger)
    if coming <= budget:
        return None
    return (
        f"Another round could raise epsilon from {spent:.4g} to {coming:.4g}, above the budget of "
        f"{budget:g}. Resume it with a higher budget_epsilon, or stop it."
    )
