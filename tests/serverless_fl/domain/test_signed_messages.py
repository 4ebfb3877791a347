"""Signatures of short messages: what another implementation makes, and what is refused."""

from __future__ import annotations

import pytest

from serverless_fl.domain.signed_messages import TOLERANCE, NotGenuine, require_signed, sign

KEY, BODY, NOW = bytes(range(32)), b'{"type": "x"}', 1_700_000_000.9


def test_a_signed_message_is_taken():
    require_signed(KEY, sign(KEY, "a/1", BODY, NOW), BODY, NOW + TOLERANCE - 1)


def test_one_of_several_signatures_is_enough():
    headers = sign(KEY, "a/1", BODY, NOW)
    headers["webhook-signature"] = f"v1,AAAA v2,x v1,*** {headers['webhook-signature']}"
    require_signed(KEY, headers, BODY, NOW)


@pytest.mark.parametrize(
    ("changed", "body", "late", "said"),
    [
        ({}, b'{"type": "y"}', 0, "another key"),
        ({"webhook-id": "a/2"}, BODY, 0, "another key"),
        ({"webhook-timestamp": "1700000001"}, BODY, 0, "another key"),
        ({"webhook-signature": "v1,AAAA"}, BODY, 0, "another key"),
        ({"webhook-signature": ""}, BODY, 0, "not signed"),
        ({"webhook-timestamp": "now"}, BODY, 0, "not signed"),
        ({"webhook-timestamp": "1" * 5000}, BODY, 0, "older, or newer"),
        ({}, BODY, TOLERANCE + 2, "older, or newer"),
        ({}, BODY, -TOLERANCE - 2, "older, or newer"),
    ],
)
def test_what_is_not_signed_so_is_refused(changed, body, late, said):
    headers = sign(KEY, "a/1", BODY, NOW) | changed
    with pytest.raises(NotGenuine, match=said):
        require_signed(KEY, headers, body, NOW + late)


def test_another_key_is_refused():
    with pytest.raises(NotGenuine, match="another key"):
        require_signed(bytes(32), sign(KEY, "a/1", BODY, NOW), BODY, NOW)
