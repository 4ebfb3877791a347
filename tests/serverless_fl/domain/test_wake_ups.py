"""Which wake-up addresses an operator's rules allow, and which IP addresses a call may go to."""

from __future__ import annotations

import pytest

from serverless_fl.domain.wake_ups import WakeRules, wake_key

TOPICS = "arn:aws:sns:eu-central-1:123456789012"
RULES = WakeRules(
    ["party.example.org", "*.lambda.example", "odd.example:8443", "10.20.0.0/16", f"{TOPICS}:fl-*"]
)


@pytest.mark.parametrize(
    ("address", "rule"),
    [
        ("https://party.example.org/wake?key=x", "party.example.org"),
        ("https://PARTY.example.org:443/", "party.example.org"),
        ("https://abc.lambda.example/", "*.lambda.example"),
        ("https://odd.example:8443/x", "odd.example:8443"),
        ("http://party.example.org/", "party.example.org"),  # where it leads is checked later
        ("http://10.20.3.4:9000/wake", "10.20.0.0/16"),
        ("http://[::ffff:10.20.3.4]/", "10.20.0.0/16"),
        (f"{TOPICS}:fl-north", f"{TOPICS}:fl-*"),
        (f"{TOPICS}:other", None),
        ("arn:aws:sns:eu-central-1:123456789013:fl-north", None),
        (f"{TOPICS}:fl-north:subscription", None),
        ("https://party.example.org.evil.example/", None),
        ("https://lambda.example/", None),
        ("https://party.example.org:22/", None),
        ("https://odd.example/", None),
        ("https://10.21.0.1/", None),
        ("https://8.8.8.8/", None),
        ("https://me@party.example.org/", None),
        ("https://party.example.org/#x", None),
        ("https://party.example.org/a b", None),
        ("https://party.example.org/" + "x" * 500, None),
        ("ftp://party.example.org/", None),
        ("https://[party/", None),
        ("", None),
    ],
)
def test_an_address_needs_a_rule(address, rule):
    assert RULES.rule_for(address) == rule


def test_without_a_network_all_must_be_encrypted():
    rules = WakeRules(["party.example.org"])
    assert rules.rule_for("https://party.example.org/")
    assert rules.rule_for("http://party.example.org/") is None


@pytest.mark.parametrize(
    ("number", "encrypted", "plain"),
    [
        ("8.8.8.8", True, False),
        ("2600::1", True, False),
        ("10.20.3.4", True, True),
        ("::ffff:10.20.3.4", True, True),
        *(
            (number, False, False)
            for number in (
                *("10.0.0.1", "127.0.0.1", "169.254.169.254", "192.168.1.1", "100.64.0.1"),
                *("0.0.0.0", "224.0.0.1", "::1", "fe80::1%eth0", "fd00::1", "ff02::1"),
                *("::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "no number"),
            )
        ),
    ],
)
def test_a_call_goes_to_public_addresses_and_to_listed_networks(number, encrypted, plain):
    assert RULES.may_connect(number, encrypted=True) is encrypted
    assert RULES.may_connect(number, encrypted=False) is plain


@pytest.mark.parametrize("rule", ["https://x.example", "*", "x.*", "a b", "10.20.0.1/16", "arn:x"])
def test_what_is_no_rule_is_said(rule):
    with pytest.raises(ValueError, match=r"each must be a host, such as \*\.example\.org"):
        WakeRules([rule])


def test_each_client_of_each_experiment_has_a_key_of_its_own():
    keys = {wake_key(client, experiment) for client in "ab" for experiment in "xy"}
    assert len(keys) == 4
    assert all(len(key) == 32 for key in keys)
