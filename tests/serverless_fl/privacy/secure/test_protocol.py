"""Parties and a coordinator without a network: every pattern of dropouts, and every refusal."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from serverless_fl.privacy.secure import graph, party, recovery, streams
from serverless_fl.privacy.secure.context import AttemptContext, Member, Refused
from serverless_fl.privacy.secure.party import Notes, Party
from serverless_fl.privacy.secure.shamir import BadShares
from serverless_fl.privacy.secure.terms import Terms

TERMS = Terms(
    bits=16, max_weight_change=1.0, parties=4, most_examples=10, metrics=("accuracy", "loss")
)
WORDS, COUNTS = 40, 3
NEVER, SHARING, MASKING, ANSWERING = 3, 0, 1, 2  # the phase in which a party is lost


def context_of(notes: dict[int, Notes], **changes) -> AttemptContext:
    roster = [party.advertised(found, slot) for slot, found in sorted(notes.items())]
    facts = {"experiment": "e", "round": 1, "attempt": 1, "terms": TERMS}
    digests = {"model_sha256": "m", "config_sha256": "c"}
    return AttemptContext(**{**facts, **digests, "roster": roster, **changes})


class Run:
    """An attempt with one party in each slot; `lost` says in which phase each is lost."""

    def __init__(self, slots, lost=None, dtype=np.uint16):
        self.lost = dict.fromkeys(slots, NEVER) | (lost or {})
        self.notes = {slot: party.begin("e", 1, 1) for slot in slots}
        self.context = context_of(self.notes)
        self.parties = {s: Party(s, n, self.context) for s, n in self.notes.items()}
        draw = np.random.default_rng(7)
        self.plain = {s: draw.integers(0, 2**16, WORDS).astype(dtype) for s in slots}
        self.counts = {s: draw.integers(0, 99, COUNTS).astype(np.uint64) for s in slots}

    def again(self, pattern):
        """The same parties, which have shared, with another pattern of losses."""
        self.lost = dict(enumerate(pattern))
        for slot, one in self.parties.items():
            one.notes = self.notes[slot] = replace(self.notes[slot], shared="", summed="")
            if not one.notes.boxes:
                one.notes = self.notes[slot] = one.share()
        return self

    def still(self, phase):
        return [slot for slot, when in self.lost.items() if when > phase]

    def play(self):
        """Give the sums, unmasked; raises Refused and BadShares as the parties and shares do."""
        sharers = self.still(SHARING)
        masked, counts = {}, {}
        for slot in self.still(MASKING):
            one = self.parties[slot]
            one.notes = one.settle_sharers(sharers)
            masked[slot], counts[slot] = self.plain[slot].copy(), self.counts[slot].copy()
            one.mask(masked[slot], counts[slot], sharers)
        if not masked:
            raise Refused("there is nothing to sum")
        answers = {}
        for slot in self.still(ANSWERING):
            one = self.parties[slot]
            one.notes = one.settle_summed(sharers, sorted(masked))
            answers[slot] = one.answer(self.boxes_for(slot), sharers, sorted(masked))
        sums = sum(masked.values(), np.zeros_like(self.plain[0]))
        tail = sum(counts.values(), np.zeros(COUNTS, np.uint64))
        assert recovery.suffices(self.context, sharers, sorted(masked), sorted(answers)) == (
            len(answers) >= graph.parameters(len(self.notes)).threshold
        )
        left = list(recovery.left_over(self.context, sharers, sorted(masked), answers))
        streams.apply_streams(sums, left)
        streams.apply_streams(tail, left, sequence=streams.COUNTS)
        return sums, tail

    def boxes_for(self, slot):
        return {
            other: bytes.fromhex(one.notes.boxes[slot])
            for other, one in self.parties.items()
            if slot in one.notes.boxes
        }

    def expected(self):
        slots = self.still(MASKING)
        return (
            sum((self.plain[s] for s in slots), np.zeros_like(self.plain[0])),
            sum((self.counts[s] for s in slots), np.zeros(COUNTS, np.uint64)),
        )


def test_every_pattern_of_dropouts_of_four():
    """The sum is exact wherever three of four answer, and no other pattern gives any sum."""
    exact = ended = 0
    run = Run(range(4))
    for pattern in itertools.product(range(4), repeat=4):
        try:
            found = run.again(pattern).play()
        except (Refused, BadShares):
            ended += 1
            assert len(run.still(ANSWERING)) < 3
        else:
            exact += 1
            assert all((a == b).all() for a, b in zip(found, run.expected(), strict=True))
    assert (exact, ended) == (13, 243)


def test_a_cohort_above_the_complete_graph():
    """Seventy parties, each with fewer neighbours; some are lost in each phase."""
    lost = {3: SHARING, 8: MASKING, 9: MASKING, 20: MASKING, 33: ANSWERING, 65: ANSWERING}
    run = Run(range(70), lost, dtype := np.uint32)
    assert len(run.parties[0].neighbours) < 69
    sharers, summed = run.still(SHARING), run.still(MASKING)
    answered = run.still(ANSWERING)
    for slot in sharers:
        run.parties[slot].notes = run.parties[slot].share()
    total, answers = np.zeros(WORDS, dtype), {}
    for slot in summed:
        words = run.plain[slot].copy()
        run.parties[slot].mask(words, run.counts[slot].copy(), sharers)
        total += words
    for slot in answered:
        answers[slot] = run.parties[slot].answer(run.boxes_for(slot), sharers, summed)
    assert recovery.suffices(run.context, sharers, summed, answered)
    streams.apply_streams(total, recovery.left_over(run.context, sharers, summed, answers))
    assert (total == run.expected()[0]).all()


def shared() -> tuple[Run, Party]:
    """Four parties that have shared, of which the first has masked."""
    run = Run(range(4))
    for one in run.parties.values():
        one.notes = one.share()
    first = run.parties[0]
    first.notes = first.settle_sharers(range(4))
    return run, first


def test_a_party_hands_in_the_seed_or_the_key_and_never_both():
    run, first = shared()
    found = first.answer(run.boxes_for(0), range(4), [0, 1, 2])
    assert sorted(found.seeds) == [0, 1, 2]
    assert sorted(found.keys) == [3]


def test_notes_survive_the_disk_and_the_party_does_the_same_again():
    run, first = shared()
    again = Party(0, Notes.from_json(first.notes.to_json()), run.context)
    assert again.notes == first.notes == again.share()
    words = [run.plain[0].copy(), run.plain[0].copy()]
    for one, values in zip((first, again), words, strict=True):
        one.mask(values, run.counts[0].copy(), range(4))
    assert (words[0] == words[1]).all()
    assert (words[0] != run.plain[0]).any()


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b'{"round": 1}', b"null"])
def test_damaged_notes_are_an_error(data):
    with pytest.raises(ValueError):
        Notes.from_json(data)


def test_a_new_attempt_has_new_keys_and_an_older_one_is_refused():
    first = party.begin("e", 2, 1)
    assert party.begin("e", 2, 1, first) is first
    second = party.begin("e", 2, 2, first)
    assert not {first.box_secret, first.mask_secret, first.seed} & {
        *(second.box_secret, second.mask_secret, second.seed)
    }
    for round_, attempt in ((2, 1), (1, 5)):
        with pytest.raises(Refused, match="is over"):
            party.begin("e", round_, attempt, second)


def test_rosters_that_a_party_refuses():
    notes = {slot: party.begin("e", 1, 1) for slot in range(4)}
    context = context_of(notes)
    one, two, three, four = context.roster
    twice, copied = [one, two, two, three], [one, two, three, replace(three, slot=3)]
    for roster, message in (
        (twice, "twice"),
        (copied, "twice"),
        ([two, one, three], "twice"),
        ([one, two], "has 2 parties"),
        ([two, three, four], "does not have the keys"),
        ([replace(one, mask_key=bytes(32)), two, three], "does not have the keys"),
    ):
        with pytest.raises(Refused, match=message):
            Party(0, notes[0], replace(context, roster=roster))
    with pytest.raises(Refused, match="has 4 parties; this client wants 5"):
        Party(0, notes[0], context, fewest=5)
    weak = replace(context, roster=[one, two, three, Member(3, bytes(32), four.mask_key)])
    with pytest.raises(Refused, match="gives no secret"):
        Party(0, notes[0], weak).share()


@pytest.mark.parametrize(
    "change",
    [
        {"model_sha256": "other"},
        {"config_sha256": "other"},
        {"terms": replace(TERMS, max_weight_change=2.0)},
    ],
)
def test_a_party_that_has_shared_refuses_another_model_roster_or_settings(change):
    run, first = shared()
    with pytest.raises(Refused, match="another roster, model or settings"):
        Party(0, first.notes, replace(run.context, **change))
    other = party.advertised(party.begin("e", 1, 1), 3)
    with pytest.raises(Refused, match="another roster, model or settings"):
        Party(0, first.notes, replace(run.context, roster=[*run.context.roster[:3], other]))


def test_sets_of_parties_that_a_party_refuses():
    _, first = shared()
    for sharers, message in (
        ([0, 1, 2], "other parties than before"),
        ([0, 1], "Only 2 parties have shared"),
        ([0, 1, 2, 9], "have shared and cannot"),
        ([0, 0, 1, 2], "have shared and cannot"),
        ([1, 2, 3], "has not shared"),
    ):
        with pytest.raises(Refused, match=message):
            first.settle_sharers(sharers)
    first.notes = first.settle_summed(range(4), [0, 1, 2])
    assert first.settle_summed(range(4), [2, 1, 0]) == first.notes
    for sharers, summed, message in (
        (range(4), range(4), "other parties than before"),
        (range(4), [0, 1, 3], "other parties than before"),
        (range(4), [0, 1], "Only 2 parties are in the sum"),
        (range(4), [0, 1, 2, 9], "are in the sum and cannot"),
        ([0, 1, 2], [0, 1, 2], "other parties than before"),
    ):
        with pytest.raises(Refused, match=message):
            first.settle_summed(sharers, summed)


def test_a_party_sends_one_file_under_its_masks():
    _, first = shared()
    first.notes = first.settle_sent("a" * 64)
    assert first.settle_sent("a" * 64) == first.notes
    with pytest.raises(Refused, match="another update"):
        first.settle_sent("b" * 64)


def test_another_model_at_one_party_makes_the_sum_noise():
    run = Run(range(4))
    context = replace(run.context, model_sha256="other")
    run.parties[2] = Party(2, run.notes[2], context)
    sharers, total, answers = range(4), np.zeros(WORDS, np.uint16), {}
    for one in run.parties.values():
        one.notes = one.share()
    for slot, one in run.parties.items():
        words = run.plain[slot].copy()
        one.mask(words, run.counts[slot].copy(), sharers)
        total += words
    for slot, one in run.parties.items():
        answers[slot] = one.answer(run.boxes_for(slot), sharers, sharers)
    with pytest.raises(BadShares):  # the boxes of the one do not open for the others either
        list(recovery.left_over(run.context, sharers, sharers, answers))


def test_a_false_share_of_a_key_is_noticed():
    run, _ = shared()
    summed = [0, 1, 2]
    answers = {s: run.parties[s].answer(run.boxes_for(s), range(4), summed) for s in summed}
    wrong = party.Answer(answers[1].seeds, {3: bytes(66)})
    with pytest.raises(BadShares):
        list(recovery.left_over(run.context, range(4), summed, answers | {1: wrong}))


def test_a_party_lost_before_it_shared_needs_nothing_and_one_lost_after_is_recovered():
    run = Run(range(5))
    needed = recovery.holders(run.context, [0, 1, 2, 3], [0, 1, 2])
    assert needed == {slot: {0, 1, 2} for slot in range(4)}
