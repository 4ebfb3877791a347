"""Signatures under keys, pins and certificates: what a party accepts, and each refusal."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from serverless_fl.privacy.secure import party
from serverless_fl.privacy.secure.authority import Authority, certify, found_authority
from serverless_fl.privacy.secure.context import AttemptContext, Member, Refused
from serverless_fl.privacy.secure.identity import (
    Identity,
    Pins,
    require_confirmed,
    require_signature,
)
from serverless_fl.privacy.secure.terms import Terms

NOW = datetime(2026, 5, 1, tzinfo=UTC)
TERMS = Terms(bits=16, max_weight_change=1.0, parties=4, most_examples=10, metrics=())
START = AttemptContext(
    experiment="e",
    round=1,
    attempt=1,
    model_sha256="m",
    config_sha256="c",
    terms=TERMS,
    roster=(),
)
IDENTITIES = [Identity.new() for _ in range(3)]
PINS = Pins({each.fingerprint: f"hospital {n}" for n, each in enumerate(IDENTITIES)})


def keys_of(slot, attempt=1):
    return party.advertised(party.begin("e", 1, attempt), slot)


def signed(slot, identity, start=START):
    own = keys_of(slot)
    return replace(own, proof=identity.sign(start, own))


ROSTER = [signed(slot, identity) for slot, identity in enumerate(IDENTITIES)]


def with_roster(roster, **changes):
    return replace(START, roster=tuple(roster), **changes)


def refusal(pins, roster, **changes):
    with pytest.raises(Refused) as refused:
        pins.require(with_roster(roster, **changes), NOW)
    return str(refused.value)


def test_a_roster_of_pinned_parties_is_accepted_whoever_is_lost():
    PINS.require(with_roster(ROSTER), NOW)
    PINS.require(with_roster(ROSTER[:2]), NOW)


def test_signatures_change_nothing_that_parties_without_identities_agree_on():
    bare = [Member(m.slot, m.box_key, m.mask_key) for m in ROSTER]
    assert with_roster(bare).digest == with_roster(ROSTER).digest
    assert bare == ROSTER


def test_a_swapped_key_is_refused():
    """What a coordinator does that puts itself between two parties."""
    other = keys_of(1)
    for change in ({"box_key": other.box_key}, {"mask_key": other.mask_key}, {"slot": 7}):
        forged = replace(ROSTER[1], **change)
        text = refusal(PINS, [ROSTER[0], forged, ROSTER[2]])
        assert "has not signed these keys for this attempt" in text
        assert "Missing of the pinned parties: hospital 1." in text


def test_a_missing_signature_is_refused():
    text = refusal(PINS, [ROSTER[0], keys_of(1), ROSTER[2]])
    assert text.startswith("client-01 has not signed its keys: it has no identity.")


@pytest.mark.parametrize(
    "changes",
    [
        {"attempt": 2},
        {"round": 2},
        {"experiment": "f"},
        {"model_sha256": "n"},
        {"config_sha256": "d"},
        {"terms": replace(TERMS, parties=5)},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_signature_of_another_attempt_model_or_setting_is_refused(changes):
    assert "for this attempt" in refusal(PINS, ROSTER, **changes)


def test_an_unknown_fingerprint_is_refused_and_named():
    stranger = Identity.new()
    text = refusal(PINS, [*ROSTER[:2], signed(2, stranger)])
    assert text == (
        f"client-02 has an identity that is not pinned: {stranger.fingerprint}. "
        "Missing of the pinned parties: hospital 2."
    )


def test_a_party_that_stands_twice_is_refused():
    text = refusal(PINS, [*ROSTER, signed(3, IDENTITIES[0])])
    assert text == "client-03 is the same party as client-00."


def test_a_signature_of_another_identity_is_refused():
    own = keys_of(0)
    proof = replace(IDENTITIES[0].sign(START, own), identity=ROSTER[1].proof.identity)
    with pytest.raises(Refused, match="has not signed"):
        require_signature(START, replace(own, proof=proof))


def test_an_identity_that_is_no_key_is_refused():
    proof = replace(ROSTER[0].proof, identity=b"short")
    with pytest.raises(Refused, match="has not signed"):
        require_signature(START, replace(ROSTER[0], proof=proof))


# Certificates


def authority_of(name="Consortium", days=30):
    secret = Identity.new().secret
    return secret, Authority.read(found_authority(secret, name, NOW, days))


SECRET, AUTHORITY = authority_of()
CONSORTIUM = Pins({}, (AUTHORITY,))


def certified(slot, name, *, secret=SECRET, by=AUTHORITY, now=NOW, holder=None):
    identity = Identity.new()
    key = bytes.fromhex((holder or identity).fingerprint)
    return signed(slot, replace(identity, certificate=certify(by, secret, key, name, now, 30)))


def test_holders_of_certificates_are_accepted():
    CONSORTIUM.require(with_roster([certified(n, f"hospital {n}") for n in range(3)]), NOW)


def test_fingerprints_and_an_authority_may_be_pinned_together():
    both = replace(PINS, authorities=(AUTHORITY,))
    both.require(with_roster([*ROSTER, certified(3, "hospital 3")]), NOW)


def test_a_certificate_of_another_authority_is_refused():
    """Its name may be the same: the signature counts."""
    secret, other = authority_of()
    text = refusal(CONSORTIUM, [certified(0, "hospital 0", secret=secret, by=other)])
    assert text == "The certificate of client-00 is of another authority."
    other_name = authority_of("Somebody")[1]
    assert "another authority" in refusal(Pins({}, (other_name,)), [certified(0, "hospital 0")])


def test_a_certificate_for_another_identity_is_refused():
    text = refusal(CONSORTIUM, [certified(0, "hospital 0", holder=IDENTITIES[0])])
    assert text == "The certificate of client-00 is for another identity."


@pytest.mark.parametrize("days", [-60, 60])
def test_a_certificate_holds_for_its_time(days):
    text = refusal(CONSORTIUM, [certified(0, "hospital 0", now=NOW + timedelta(days=days))])
    assert "holds from" in text


def test_two_certificates_with_one_name_are_one_party():
    text = refusal(CONSORTIUM, [certified(0, "hospital"), certified(1, "hospital")])
    assert text == "client-01 is the same party as client-00."


def test_no_certificate_and_bytes_that_are_none_are_refused():
    assert refusal(CONSORTIUM, ROSTER[:1]) == (
        "client-00 has no certificate of the pinned authority."
    )
    for text in ("nonsense", "x" * 5000):
        member = signed(0, replace(IDENTITIES[0], certificate=text))
        assert "The certificate of client-00" in refusal(CONSORTIUM, [member])


def test_a_party_is_no_authority():
    """The holder of a certificate cannot certify others."""
    pem = certified(0, "hospital 0").proof.certificate
    with pytest.raises(ValueError, match="is not that of an authority"):
        Authority.read(pem)
    with pytest.raises(ValueError, match="not that of the authority"):
        certify(AUTHORITY, IDENTITIES[0].secret, ROSTER[0].proof.identity, "x", NOW, 1)


def test_a_list_needs_the_signatures_of_more_than_two_thirds_of_the_roster():
    """All three of three; each is of this list, this attempt and this party."""
    context = with_roster(ROSTER)
    good = {slot: each.confirm(context, [0, 1, 2]) for slot, each in enumerate(IDENTITIES)}
    require_confirmed(context, [2, 1, 0], good)
    for changed in (
        {1: IDENTITIES[1].confirm(context, [0, 1])},
        {1: IDENTITIES[1].confirm(with_roster(ROSTER, attempt=2), [0, 1, 2])},
        {1: IDENTITIES[0].confirm(context, [0, 1, 2])},
        {1: b""},
    ):
        with pytest.raises(Refused, match="2 parties have signed the list of those in the sum"):
            require_confirmed(context, [0, 1, 2], good | changed)
    strangers = dict.fromkeys(range(3, 9), good[0])
    with pytest.raises(Refused, match="1 parties have signed"):
        require_confirmed(context, [0, 1, 2], {0: good[0], **strangers})
    bare = with_roster([replace(m, proof=None) for m in ROSTER])
    with pytest.raises(Refused, match="0 parties have signed"):
        require_confirmed(bare, [0, 1, 2], good)
