"""A client's shard: the examples of the common data set that are its own.

A coordinator lists the shard's indices, or gives the rule by which the client computes them. It may
be anybody's, so both are checked first.
"""

from __future__ import annotations

from itertools import pairwise

from client_sdk.errors import BadAnswer
from serverless_fl.domain import draws
from serverless_fl.wire.schema import Shard, ShardRule, Subscription

MAX_INDICES = 20_000_000  # of a shard that is computed here: a gigabyte of Python's numbers


def rule_of(subscription: Subscription) -> ShardRule | None:
    """The rule of the shard, where it is not listed and this version knows the rule."""
    rule = subscription.rule
    if subscription.shard is not None or rule is None or rule.version > draws.VERSION:
        return None
    return rule


def compute(rule: ShardRule, examples: int | None) -> list[int]:
    """The shard's indices; `examples` is the size of the data set here, if known.

    Raises BadAnswer as `require_rule` does. An index takes some ten microseconds.
    """
    require_rule(rule, examples)
    return draws.shard(rule.seed, rule.dataset_size, rule.clients, rule.slot, rule.version)


def require_rule(rule: ShardRule, examples: int | None) -> None:
    """Raise BadAnswer where the rule gives no shard, or one that is too large for this machine."""
    _require_size(rule.dataset_size, examples)
    if not rule.slot < rule.clients <= rule.dataset_size:
        raise BadAnswer("The coordinator's rule for this client's shard names none.")
    first, last = draws.shard_bounds(rule.dataset_size, rule.clients, rule.slot)
    if last - first > MAX_INDICES:
        raise BadAnswer(
            f"The shard has {last - first} examples; this version takes up to {MAX_INDICES}."
        )


def check(shard: Shard, client_id: str, examples: int | None) -> list[int]:
    """The indices of a shard that the coordinator lists.

    Raises BadAnswer unless they are ascending positions in the data set, of `examples` if known.
    """
    size = shard.dataset_size
    _require_size(size, examples)
    ascending = all(a < b for a, b in pairwise(shard.indices))
    if not ascending or shard.indices[0] < 0 or shard.indices[-1] >= size:
        raise BadAnswer(
            f"The shard that the coordinator gives {client_id} is none: its indices are not "
            f"ascending positions from 0 to {size - 1}."
        )
    return shard.indices


def _require_size(size: int, examples: int | None) -> None:
    if examples is not None and size != examples:
        raise BadAnswer(
            f"The coordinator shares out {size} examples, but the data set here has {examples}."
        )
