"""The coordinator's part: which streams it has to take off the sum of masked updates.

The masks that two parties share cancel if both updates are in the sum. What is left are the masks
that each party made alone, and those that it shares with a party that was lost after it had shared.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial

from serverless_fl.privacy.secure import agreement, graph, shamir
from serverless_fl.privacy.secure.context import AttemptContext, Member
from serverless_fl.privacy.secure.party import (
    Answer,
    pair_mask_key,
    pair_sign,
    place_of,
    self_mask_key,
    slot_of,
)
from serverless_fl.privacy.secure.streams import Stream


def holders(
    context: AttemptContext, sharers: Collection[int], summed: Collection[int]
) -> Mapping[int, frozenset[int]]:
    """Give, for each party of which a secret is needed, the parties that may hand in its shares.

    Needed are the seeds of those in the sum, and the keys of those that have shared and are not,
    unless no neighbour of theirs is in the sum.
    """
    around, within = graph.neighbours(context.slots, context.digest), frozenset(summed)
    found = {}
    for slot in sharers:
        near = within.intersection(around[slot])
        if slot in within:
            found[slot] = near | {slot}
        elif near:
            found[slot] = near
    return found


def suffices(
    context: AttemptContext,
    sharers: Collection[int],
    summed: Collection[int],
    answered: Collection[int],
) -> bool:
    """Say whether those that answered hold enough shares of every secret that is needed."""
    threshold = graph.parameters(len(context.roster)).threshold
    if len(answered) < threshold:
        return False
    there = set(answered)
    needed = holders(context, sharers, summed)
    return all(len(near & there) >= threshold for near in needed.values())


def left_over(
    context: AttemptContext,
    sharers: Collection[int],
    summed: Collection[int],
    answers: Mapping[int, Answer],
    wrong: set[int] | None = None,
) -> Iterator[Stream]:
    """Yield the streams that take the masks off the sum of the updates of `summed`.

    `answers` come by the slots of those that gave them. A slot that gave a wrong share comes into
    `wrong`, if the others suffice without it. Raises `shamir.BadShares` if they do not give a
    secret back.
    """
    wrong = set() if wrong is None else wrong
    threshold = graph.parameters(len(context.roster)).threshold
    seeds: dict[int, dict[int, bytes]] = defaultdict(dict)
    keys: dict[int, dict[int, bytes]] = defaultdict(dict)
    for holder, answer in answers.items():
        for slot, share in answer.seeds.items():
            seeds[slot][place_of(holder)] = share
        for slot, share in answer.keys.items():
            keys[slot][place_of(holder)] = share
    for slot, near in sorted(holders(context, sharers, summed).items()):
        if slot in summed:
            seed = _secret(seeds[slot], threshold, wrong)
            yield Stream(self_mask_key(seed, context), -1)
            continue
        lost = context.member(slot)
        accept = partial(_is_key_of, lost)
        secret = _secret(keys[slot], threshold, wrong, accept)
        for other in sorted(near):
            key = pair_mask_key(secret, context.member(other).mask_key, context)
            yield Stream(key, -pair_sign(other, slot))


def _secret(
    shares: Mapping[int, bytes],
    threshold: int,
    wrong: set[int],
    accept: Callable[[bytes], bool] = lambda secret: True,
) -> bytes:
    """The secret of shares by place; adds the slots of wrong ones. Raises `shamir.BadShares`."""
    trusted = {place: share for place, share in shares.items() if slot_of(place) not in wrong}
    secret, out = shamir.combine_without_wrong(trusted, threshold, accept)
    wrong |= {slot_of(place) for place in out}
    return secret


def _is_key_of(member: Member, secret: bytes) -> bool:
    return agreement.public_key(secret) == member.mask_key
