"""A client's part in an attempt at a round, and what it refuses.

A party makes new keys and a new seed for each attempt. What it must remember is a value, `Notes`:
the caller makes it durable before anything that follows from it leaves the machine. So a party that
dies and comes back never answers otherwise than before.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np

from serverless_fl.domain.experiment import secure_quorum
from serverless_fl.privacy.secure import agreement, graph, shamir, streams
from serverless_fl.privacy.secure.agreement import BadKey
from serverless_fl.privacy.secure.context import AttemptContext, Member, Refused, slots_digest

BOX_BYTES = 2 * shamir.SHARE_BYTES + agreement.TAG_BYTES


@dataclass(frozen=True, kw_only=True)
class Notes:
    """What a party remembers of its newest attempt. Bytes are hexadecimal.

    Its two secret keys and its seed; the roster's digest, the boxes that it has made, and its own
    share of its seed; then the digests of those that shared, of the file that it has sent, and of
    those whose updates are in the sum. An empty one is not settled yet. `opened`: it has answered
    with shares, or is about to.
    """

    experiment: str
    round: int
    attempt: int
    box_secret: str
    mask_secret: str
    seed: str
    context: str = ""
    boxes: Mapping[int, str] = field(default_factory=dict)
    own_share: str = ""
    shared: str = ""
    sent: str = ""
    summed: str = ""
    opened: bool = False

    def to_json(self) -> bytes:
        return json.dumps(asdict(self), separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Notes:
        """Raises ValueError for other bytes than those of `to_json`."""
        try:
            found: dict[str, Any] = json.loads(data)
            boxes = {int(slot): box for slot, box in found.pop("boxes").items()}
            return cls(**found, boxes=boxes)
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError("these are not the notes of a party") from error


def begin(
    experiment: str,
    round_: int,
    attempt: int,
    before: Notes | None = None,
    *,
    once: bool = False,
) -> Notes:
    """Give the notes of an attempt: those from before if it is the same, else with new keys.

    `once`: the party helps to open one sum of a round. A coordinator that pretends not to have got
    it could otherwise repeat the round without one client, whose update is the difference.

    Raises Refused for an attempt that is older than the newest one known.
    """
    if before is not None and before.experiment == experiment:
        if (before.round, before.attempt) == (round_, attempt):
            return before
        if (before.round, before.attempt) > (round_, attempt):
            raise Refused(
                f"Attempt {attempt} at round {round_} is over: this client has taken part in "
                f"attempt {before.attempt} at round {before.round}."
            )
        if once and before.round == round_ and before.opened:
            raise Refused(
                f"This client has helped to open a sum of round {round_}, and helps to open no "
                "second one: two sums tell the updates in which they differ."
            )
    drawn = [agreement.new_secret().hex() for _ in range(3)]
    return Notes(
        experiment=experiment,
        round=round_,
        attempt=attempt,
        box_secret=drawn[0],
        mask_secret=drawn[1],
        seed=drawn[2],
    )


def advertised(notes: Notes, slot: int) -> Member:
    """Give the entry of the roster with which a party takes part."""
    box, mask = bytes.fromhex(notes.box_secret), bytes.fromhex(notes.mask_secret)
    return Member(slot, agreement.public_key(box), agreement.public_key(mask))


@dataclass(frozen=True)
class Answer:
    """Shares (66 bytes each) that a party hands in: of the seeds of those whose updates are in the
    sum, and of the mask keys of those whose updates are not. No party stands in both.
    """

    seeds: Mapping[int, bytes]
    keys: Mapping[int, bytes]


class Party:
    """A client in an attempt whose roster is complete.

    `fewest` is the client's own minimum: it takes part with no fewer parties, and hands in shares
    for no sum of fewer updates. Raises Refused for a roster that it does not accept.
    """

    def __init__(
        self, slot: int, notes: Notes, context: AttemptContext, fewest: int = graph.FEWEST
    ) -> None:
        self.slot, self.notes, self.context, self.fewest = slot, notes, context, fewest
        slots, keys = context.slots, {m.box_key for m in context.roster}
        keys |= {m.mask_key for m in context.roster}
        if list(slots) != sorted(set(slots)) or len(keys) != 2 * len(slots):
            raise Refused("The roster has a party, or a key, twice.")
        if len(slots) < max(fewest, graph.FEWEST):
            raise Refused(f"The roster has {len(slots)} parties; this client wants {fewest}.")
        if advertised(notes, slot) not in context.roster:
            raise Refused("The roster does not have the keys that this client has made.")
        if notes.context not in ("", context.digest.hex()):
            raise Refused("The coordinator shows another roster, model or settings than before.")
        self.neighbours = graph.neighbours(slots, context.digest)[slot]
        self.threshold = graph.parameters(len(slots)).threshold

    def share(self) -> Notes:
        """Give the notes with a box for each neighbour; make them durable, then send the boxes.

        Raises Refused for a key that gives no secret.
        """
        if self.notes.boxes:
            return self.notes
        places = [place_of(slot) for slot in (self.slot, *self.neighbours)]
        seeds = shamir.split(bytes.fromhex(self.notes.seed), self.threshold, places)
        secrets = shamir.split(bytes.fromhex(self.notes.mask_secret), self.threshold, places)
        boxes = {}
        for slot in self.neighbours:
            place = place_of(slot)
            box = agreement.seal(self._box_key(self.slot, slot), seeds[place] + secrets[place])
            boxes[slot] = box.hex()
        return replace(
            self.notes,
            context=self.context.digest.hex(),
            boxes=boxes,
            own_share=seeds[place_of(self.slot)].hex(),
        )

    def settle_sharers(self, sharers: Collection[int]) -> Notes:
        """Give the notes with those that have shared; make them durable before you mask.

        Raises Refused for others than before, for fewer than the minimum or the threshold, or for
        some that are not in the roster.
        """
        self._require(sharers, self.context.slots, "have shared")
        if self.slot not in sharers:
            raise Refused("The coordinator says that this client has not shared.")
        return self._settled("shared", sharers)

    def mask(self, words: np.ndarray, counts: np.ndarray, sharers: Collection[int]) -> None:
        """Mask the words of the weights, and those of the counts, in place."""
        found = list(self._streams(sharers))
        streams.apply_streams(words, found)
        streams.apply_streams(counts, found, sequence=streams.COUNTS)

    def settle_sent(self, sha256: str) -> Notes:
        """Give the notes with the masked file's SHA-256; make them durable before you send it.

        Two files under the same masks would tell their difference. Raises Refused for another one.
        """
        if self.notes.sent not in ("", sha256):
            raise Refused("This client has begun to send another update in this attempt.")
        return replace(self.notes, sent=sha256)

    def settle_summed(self, sharers: Collection[int], summed: Collection[int]) -> Notes:
        """Give the notes with those whose updates are in the sum; make them durable, then answer.

        Raises Refused for others than before, for fewer than the minimum or the threshold, or for
        some that have not shared.
        """
        self._settled("shared", sharers)
        self._require(summed, sharers, "are in the sum")
        return self._settled("summed", summed)

    def settle_opened(self) -> Notes:
        """Give the notes of a party that answers; make them durable before."""
        return replace(self.notes, opened=True)

    def answer(
        self, boxes: Mapping[int, bytes], sharers: Collection[int], summed: Collection[int]
    ) -> Answer:
        """Give this party's shares, out of the boxes of its neighbours by their slots.

        For each party it is the share of the seed or that of the key, never both. A box that does
        not open is left out: the shares of others suffice.
        """
        seeds, keys, within = {}, {}, set(summed)
        for slot in self.neighbours:
            if slot not in boxes or slot not in sharers:
                continue
            try:
                shares = agreement.unseal(self._box_key(slot, self.slot), boxes[slot])
            except BadKey:
                continue
            if len(shares) != 2 * shamir.SHARE_BYTES:
                continue
            if slot in within:
                seeds[slot] = shares[: shamir.SHARE_BYTES]
            else:
                keys[slot] = shares[shamir.SHARE_BYTES :]
        if self.slot in within:
            seeds[self.slot] = bytes.fromhex(self.notes.own_share)
        return Answer(seeds, keys)

    def _require(self, slots: Collection[int], among: Collection[int], what: str) -> None:
        needed = max(self.fewest, graph.FEWEST, secure_quorum(len(self.context.roster)))
        if not set(slots) <= set(among) or len(set(slots)) != len(slots):
            raise Refused(f"The coordinator names parties that {what} and cannot.")
        if len(slots) < needed:
            raise Refused(f"Only {len(slots)} parties {what}; this client wants {needed}.")

    def _settled(self, name: Literal["shared", "summed"], slots: Collection[int]) -> Notes:
        digest = slots_digest(slots)
        if getattr(self.notes, name) not in ("", digest):
            raise Refused("The coordinator names other parties than before.")
        changed: dict[str, Any] = {name: digest}
        return replace(self.notes, **changed)

    def _streams(self, sharers: Collection[int]) -> Iterator[streams.Stream]:
        within = set(sharers)
        yield streams.Stream(self_mask_key(bytes.fromhex(self.notes.seed), self.context), 1)
        secret = bytes.fromhex(self.notes.mask_secret)
        for slot in self.neighbours:
            if slot in within:
                try:
                    key = pair_mask_key(secret, self.context.member(slot).mask_key, self.context)
                except BadKey as error:
                    raise Refused(str(error)) from error
                yield streams.Stream(key, pair_sign(self.slot, slot))

    def _box_key(self, sender: int, receiver: int) -> bytes:
        other = receiver if sender == self.slot else sender
        secret, theirs = bytes.fromhex(self.notes.box_secret), self.context.member(other).box_key
        info = b"serverless-fl box %d %d " % (sender, receiver) + self.context.digest
        try:
            return agreement.derive(agreement.agree(secret, theirs), info)
        except BadKey as error:
            raise Refused(str(error)) from error


def place_of(slot: int) -> int:
    """Give the place of a slot's shares; place 0 is the secret itself."""
    return slot + 1


def slot_of(place: int) -> int:
    """Give the slot that a place is of."""
    return place - 1


def pair_sign(slot: int, other: int) -> int:
    """Give the sign with which a party adds the mask that it shares with another."""
    return 1 if slot < other else -1


def pair_mask_key(secret: bytes, theirs: bytes, context: AttemptContext) -> bytes:
    """Give the stream's key of the mask that two parties share. Raises BadKey."""
    info = b"serverless-fl mask of two " + context.digest
    return agreement.derive(agreement.agree(secret, theirs), info)


def self_mask_key(seed: bytes, context: AttemptContext) -> bytes:
    """Give the stream's key of the mask that a party makes alone."""
    return agreement.derive(seed, b"serverless-fl mask of one " + context.digest)
