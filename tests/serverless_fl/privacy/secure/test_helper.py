"""The mode `helper`: by-hand vectors, every pattern of losses, and what the helper refuses."""

from __future__ import annotations

import hashlib
import hmac
import itertools
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from serverless_fl.privacy.secure import agreement, helper
from serverless_fl.privacy.secure.context import AttemptContext, Refused
from serverless_fl.privacy.secure.helper import Helper, Seal, Sealed
from serverless_fl.privacy.secure.identity import Identity, Pins
from serverless_fl.privacy.secure.streams import COUNTS, WEIGHTS, apply_streams
from serverless_fl.privacy.secure.terms import Terms

NOW = datetime(2026, 11, 28, tzinfo=UTC)
CONTEXT = AttemptContext(
    experiment="e",
    round=3,
    attempt=1,
    model_sha256="a" * 64,
    config_sha256="b" * 64,
    terms=Terms(bits=32, max_weight_change=1.0, parties=5, most_examples=9, metrics=("loss",)),
    roster=(),
)
# RFC 7748, section 6.1: a client's secret, the helper's secret, and what they have in common.
ALICE = bytes.fromhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")
BOB = bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
COMMON = bytes.fromhex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742")
ALICE_PUBLIC = agreement.public_key(ALICE)


def sealed(count=3, context=CONTEXT, bob=BOB, **options):
    """Seals and streams of clients 0, 1, ... for the helper whose secret is `bob`."""
    key = agreement.public_key(bob)
    return [helper.seal(context, slot, key, **options) for slot in range(count)]


def asked(found, slots=None, context=CONTEXT):
    slots = range(len(found)) if slots is None else slots
    return Sealed.of(context, {slot: found[slot][0].text for slot in slots})


def masked(found, values, sequence=WEIGHTS, dtype="<u4"):
    """The sum of the clients' values, each under its mask."""
    total = np.zeros(len(values[0]), dtype)
    for (_, stream), value in zip(found, values, strict=True):
        words = np.array(value, dtype)
        apply_streams(words, [stream], sequence=sequence)
        total += words
    return total


def test_a_mask_is_what_the_standards_say(monkeypatch):
    """HKDF (RFC 5869) by hmac alone, of the secret of RFC 7748, and AES-256-CTR of zeros."""
    monkeypatch.setattr(agreement, "new_secret", lambda: ALICE)
    bob = agreement.public_key(BOB)
    made, stream = helper.seal(CONTEXT, 7, bob, fewest=4, pinned=True)
    assert made == Seal(ALICE_PUBLIC, 4, True)
    assert made.text == f"{ALICE_PUBLIC.hex()} 4 1"
    info = b"serverless-fl mask that the helper knows " + CONTEXT.start_digest
    info += bob + ALICE_PUBLIC + b" 7 4 1"
    extracted = hmac.digest(bytes(32), COMMON, "sha256")
    key = hmac.digest(extracted, info + b"\x01", "sha256")
    assert (stream.key, stream.sign) == (key, 1)
    cipher = Cipher(algorithms.AES256(key), modes.CTR(bytes(16))).encryptor()
    first = np.frombuffer(cipher.update(bytes(12)), "<u4")
    taken = Helper(secret=BOB).words(Sealed.of(CONTEXT, {7: made.text}), WEIGHTS, 0, 3)
    assert (first + taken == 0).all()


def test_the_helpers_words_leave_the_sum():
    found = sealed()
    total = masked(found, [[1, 2], [3, 4], [5, 4_294_967_295]])
    words = Helper(secret=BOB).words(asked(found), WEIGHTS, 0, 2)
    assert (total + words).tolist() == [9, 5]
    assert (total[1:] + Helper(secret=BOB).words(asked(found), WEIGHTS, 1, 1)).tolist() == [5]
    counts = masked(found, [[1, 10], [2, 20], [3, 2**64 - 1]], COUNTS, "<u8")
    words = Helper(secret=BOB).words(asked(found), COUNTS, 0, 2)
    assert (counts + words).tolist() == [6, 29]


def test_every_pattern_of_losses_of_five_gives_its_own_sum():
    """16 patterns have three clients or more; of the 16 others the helper opens none."""
    found, values = sealed(5), [[10**slot] for slot in range(5)]
    one, opened = Helper(secret=BOB), 0
    for pattern in itertools.product([True, False], repeat=5):
        slots = [slot for slot in range(5) if pattern[slot]]
        if len(slots) < 3:
            with pytest.raises(Refused, match="want 3"):
                one.require(asked(found, slots), NOW)
            continue
        one.require(asked(found, slots), NOW)
        total = masked([found[s] for s in slots], [values[s] for s in slots])
        words = one.words(asked(found, slots), WEIGHTS, 0, 1)
        assert (total + words).tolist() == [sum(10**slot for slot in slots)]
        opened += 1
    assert opened == 16


@pytest.mark.parametrize(
    "changed",
    [
        {"experiment": "f"},
        {"round": 4},
        {"attempt": 2},
        {"model_sha256": "c" * 64},
        {"config_sha256": "c" * 64},
        {"terms": replace(CONTEXT.terms, max_weight_change=2.0)},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_what_the_parties_do_not_agree_on_makes_noise(changed):
    found = sealed()
    total = masked(found, [[1], [2], [3]])
    other = asked(found, context=replace(CONTEXT, **changed))
    assert (total + Helper(secret=BOB).words(other, WEIGHTS, 0, 1)).tolist() != [6]
    assert other.digest != asked(found).digest


def test_who_lowers_a_clients_minimum_gets_noise():
    found = sealed(3, fewest=4)
    with pytest.raises(Refused, match="The sum has 3 updates; its clients and the helper want 4"):
        Helper(secret=BOB).require(asked(found), NOW)
    lower = [(replace(seal, fewest=3), stream) for seal, stream in found]
    Helper(secret=BOB).require(asked(lower), NOW)
    total = masked(found, [[1], [2], [3]])
    assert (total + Helper(secret=BOB).words(asked(lower), WEIGHTS, 0, 1)).tolist() != [6]


def test_a_helper_has_a_minimum_of_its_own_and_a_most():
    found = sealed(6)
    with pytest.raises(Refused, match="The sum has 5 updates; its clients and the helper want 6"):
        Helper(secret=BOB, fewest=6).require(asked(found, range(5)), NOW)
    with pytest.raises(Refused, match="The sum has 6 updates, more than its settings allow"):
        Helper(secret=BOB).require(asked(found), NOW)


def test_a_key_that_stands_twice_or_gives_no_secret_is_refused():
    found = sealed()
    with pytest.raises(Refused, match="Two updates have the same key"):
        Helper(secret=BOB).require(asked([found[0], found[0], found[1]]), NOW)
    bad = Seal(bytes(32))
    with pytest.raises(Refused, match="The key of client-01 gives no secret"):
        bad.require_sound(CONTEXT, 1, agreement.public_key(BOB))
    with pytest.raises(Refused, match="The key of client-01 gives no secret"):
        Helper(secret=BOB).words(Sealed.of(CONTEXT, {1: bad.text}), WEIGHTS, 0, 1)
    with pytest.raises(Refused, match="The helper's key gives no secret"):
        helper.seal(CONTEXT, 0, bytes(32))


def identified(count=3, **options):
    identities = [Identity.new() for _ in range(count)]
    key = agreement.public_key(BOB)
    found = [
        helper.seal(CONTEXT, slot, key, identity=each, **options)
        for slot, each in enumerate(identities)
    ]
    return found, Pins({each.fingerprint: f"hospital {n}" for n, each in enumerate(identities)})


def test_a_pinned_client_has_the_helper_look_at_all_others():
    found, pins = identified(pinned=True)
    one = Helper(secret=BOB, pins=pins)
    one.require(asked(found), NOW)
    with pytest.raises(Refused, match="client-00 takes part with pinned parties alone, and this"):
        Helper(secret=BOB).require(asked(found), NOW)
    (stranger,) = sealed(1)
    with pytest.raises(Refused, match="client-03 has not signed its keys: it has no identity"):
        one.require(asked([*found, stranger]), NOW)
    other, _ = identified(4)
    with pytest.raises(Refused, match="client-03 has an identity that is not pinned"):
        one.require(asked([*found, other[3]]), NOW)


@pytest.mark.parametrize(
    ("changes", "bob"),
    [({"fewest": 9}, BOB), ({"pinned": True}, BOB), ({}, ALICE)],
    ids=["fewest", "pinned", "the helper"],
)
def test_an_identity_signs_all_that_its_seal_says(changes, bob):
    found, _ = identified()
    seal = found[1][0]
    seal.require_sound(CONTEXT, 1, agreement.public_key(BOB))
    with pytest.raises(Refused, match="has not signed these keys for this attempt"):
        replace(seal, **changes).require_sound(CONTEXT, 1, agreement.public_key(bob))
    with pytest.raises(Refused, match="has not signed these keys for this attempt"):
        seal.require_sound(CONTEXT, 2, agreement.public_key(BOB))


def test_a_seals_text_is_read_as_it_was_written_and_no_other_text_is():
    found, _ = identified(1)
    seal = replace(found[0][0], fewest=12, pinned=True)
    proof = replace(seal.proof, certificate="-----BEGIN CERTIFICATE-----\nx\n")
    for each in (seal, replace(seal, proof=None), replace(seal, proof=proof)):
        assert Seal.from_text(each.text) == each
        assert len(each.text) <= helper.LONGEST
    key = "a" * 64
    for text in (
        "",
        key,
        f"{key} 0 0",
        f"{key} 3 2",
        f"{key} 03 0",
        f"{key} 3 0 {key}",
        f"{key} 3 0 ",
    ):
        with pytest.raises(ValueError, match="no seal"):
            Seal.from_text(text)
    with_certificate = replace(seal, proof=proof).text
    with pytest.raises(ValueError, match=r"seal|padding|decode"):
        Seal.from_text(with_certificate[:-1])


def test_of_many_updates_an_answer_has_fewer_words(monkeypatch):
    monkeypatch.setattr(helper, "WORK", 12)
    assert Helper(secret=BOB).words(asked(sealed(3)), WEIGHTS, 0, 100).size == 4


def test_the_digest_of_a_sum_is_of_the_attempt_and_all_seals():
    seals = {2: f"{'a' * 64} 3 0", 1: f"{'b' * 64} 4 1"}
    text = f'["{CONTEXT.start_digest.hex()}",[[1,"{"b" * 64} 4 1"],[2,"{"a" * 64} 3 0"]]]'
    expected = hashlib.sha256(text.encode()).hexdigest()
    assert Sealed.of(CONTEXT, seals).digest == expected
    assert Sealed.of(replace(CONTEXT, attempt=2), seals).digest != expected
