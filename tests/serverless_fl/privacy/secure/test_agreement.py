"""Keys and boxes, against the vectors of RFC 7748 and RFC 5869."""

from __future__ import annotations

import pytest

from serverless_fl.privacy.secure import agreement
from serverless_fl.privacy.secure.agreement import BadKey

ALICE = bytes.fromhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")
BOB = bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")


def test_key_agreement_is_that_of_rfc_7748():
    alice, bob = agreement.public_key(ALICE), agreement.public_key(BOB)
    assert alice.hex() == "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"
    assert bob.hex() == "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"
    shared = "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"
    assert agreement.agree(ALICE, bob).hex() == agreement.agree(BOB, alice).hex() == shared


def test_derived_keys_are_those_of_rfc_5869():
    """Test case 3 has neither salt nor info; its first 32 bytes."""
    found = agreement.derive(b"\x0b" * 22, b"")
    assert found.hex() == "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d"


@pytest.mark.parametrize("theirs", [bytes(32), b"\x01" + bytes(31), bytes(31), b""])
def test_a_public_key_that_gives_no_secret_is_refused(theirs):
    with pytest.raises(BadKey):
        agreement.agree(ALICE, theirs)


def test_a_box_opens_with_its_key_alone_and_only_if_it_is_whole():
    key, other = agreement.derive(ALICE, b"one"), agreement.derive(ALICE, b"two")
    box = agreement.seal(key, b"shares")
    assert len(box) == len(b"shares") + agreement.TAG_BYTES
    assert agreement.unseal(key, box) == b"shares"
    for wrong, damaged in ((other, box), (key, box[:-1]), (key, b""), (key, b"x" + box[1:])):
        with pytest.raises(BadKey):
            agreement.unseal(wrong, damaged)
