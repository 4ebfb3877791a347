"""Settings that contradict secure aggregation, and those that counts of labels contradict.

Each is refused by its name, when an experiment is created.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from serverless_fl.aggregation.strategy import Strategy
from serverless_fl.domain.experiment import (
    FEWEST_IN_A_SUM,
    NO_MECHANISM,
    OFF,
    WEIGHTS,
    Config,
    secure_quorum,
)
from serverless_fl.schedule.selection import Reads

if TYPE_CHECKING:
    from serverless_fl.wire.config import ExperimentConfig

MOST = 1000  # clients of a round; with a helper, who makes so many masks within a call's time, too
MOST_OF_16_BITS = 100  # clients; beyond, the steps of 16 bits are coarser than many a change


def masking_fault(declared: ExperimentConfig, config: Config) -> str | None:
    """Say which setting contradicts secure aggregation, and why; None if none does.

    Without secure aggregation, its own settings contradict it unless they are at their defaults.
    """
    if not config.secure:
        for name in ("mask_words", "max_weight_change", "masked_metrics", "phase_seconds"):
            if getattr(config, name) != getattr(Config, name):
                return (
                    f"{name} ({getattr(config, name)}) is about masked updates: set "
                    f"secure_aggregation to pairs or helper, or leave {name} out."
                )
        if config.helper_key:
            return "helper_key names a helper: set secure_aggregation to helper, or leave it out."
        return None
    if fault := _helper_fault(config):
        return fault
    strategy, cohort = declared.strategy, config.clients_per_round
    if not needs_sums_alone(strategy):
        what = "needs more than the sum of the updates"
        return _said(config, "strategy", strategy.name, what, "take fedavg")
    if declared.schedule.max_age is not None or declared.schedule.size(config) != cohort:
        what, remedy = "mixes or leaves out updates one by one", "take synchronous without more"
        return _said(config, "schedule", declared.schedule.name, what, remedy)
    if Reads.UPDATES in declared.selection.reads:
        what = "reads what single updates say"
        return _said(config, "selection", declared.selection.name, what, "take another one")
    for name, otherwise, what in (
        ("update_encoding", WEIGHTS, "is no form of masked words"),
        ("max_update_norm", None, "is measured of single updates"),
        ("target_accuracy", None, "is judged by single updates"),
        ("target_metric", None, "is judged by single updates"),
    ):
        if (value := getattr(config, name)) != otherwise:
            return _said(config, name, value, what, "leave it out")
    if config.privacy != NO_MECHANISM and declared.privacy.example_noise is None:
        what = "changes single updates, or the step that is taken with them"
        return _said(config, "privacy", config.privacy.name, what, "leave it out")
    return _size_fault(config)


def _helper_fault(config: Config) -> str | None:
    """The contradiction of the settings that belong to one of the two modes."""
    if not config.helped:
        if config.helper_key:
            what = "names a helper, whom the clients do not need"
            return _said(config, "helper_key", config.helper_key, what, "leave it out")
        return None
    if not config.helper_key:
        return (
            "secure_aggregation (helper) needs helper_key, the fingerprint of the helper, which "
            "its operator gives to the parties."
        )
    if config.phase_seconds != Config.phase_seconds:
        what = "is about steps that clients do not have with a helper"
        return _said(config, "phase_seconds", config.phase_seconds, what, "leave it out")
    return None


def _size_fault(config: Config) -> str | None:
    """The contradiction of the numbers of clients."""
    cohort = config.clients_per_round
    if not FEWEST_IN_A_SUM <= cohort <= MOST:
        what = f"must lie between {FEWEST_IN_A_SUM} and {MOST}"
        return _said(config, "clients_per_round", cohort, what, "change it")
    if config.mask_words == "uint16" and cohort > MOST_OF_16_BITS:
        what = f"is too coarse for more than {MOST_OF_16_BITS} clients a round"
        return _said(config, "mask_words", config.mask_words, what, "take uint32")
    if config.mask_words == "uint16" and config.own_data:
        name = "max_examples_per_client"
        if (most := getattr(config, name)) == getattr(Config, name):
            what = f"is counted against {most} examples, so the steps of 16 bits are too coarse"
            remedy = f"set {name} to what the largest party has, or take uint32"
            return _said(config, "mask_words", config.mask_words, what, remedy)
    needed = FEWEST_IN_A_SUM if config.helped else secure_quorum(cohort)
    if config.quorum is not None and config.quorum < needed:
        what = f"is below the {needed} of {cohort} clients of which a sum may be opened"
        remedy = f"raise it to {needed}, or leave it out"
        return _said(config, "quorum", config.quorum, what, remedy)
    return None


def label_counts_fault(config: Config) -> str | None:
    """Say which setting the counts of labels contradict, and why; None if none does."""
    if config.label_counts == OFF:
        return None
    for name, is_set, what in (
        ("secure_aggregation", config.secure, "hides what a single client's data are like"),
        ("selection", config.secret_cohorts, "hides who takes part"),
        (
            "privacy",
            config.privacy != NO_MECHANISM,
            "promises a bound on what becomes known of a client's data",
        ),
    ):
        if is_set:
            value = getattr(config, name)
            return (
                f"label_counts ({config.label_counts}) contradicts {name} "
                f"({getattr(value, 'name', value)}), because the latter {what}, and counts of "
                f"labels are exact and of each client: set label_counts to off, or leave {name} "
                "out."
            )
    return None


def needs_sums_alone(strategy: Strategy) -> bool:
    """Say whether a strategy takes the mean by examples, and nothing else of the updates."""
    own = type(strategy)
    return (
        strategy.averages_alone
        and own.weight is Strategy.weight
        and own.update_fault is Strategy.update_fault
    )


def _said(config: Config, name: str, value: object, why: str, remedy: str) -> str:
    return (
        f"{name} ({value}) contradicts secure_aggregation ({config.secure_aggregation}), because "
        f"it {why}: {remedy}, or set secure_aggregation to off."
    )
