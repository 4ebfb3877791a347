"""Wake-up addresses of clients: which ones an operator allows, and the key that signs a wake-up.

The coordinator calls addresses that clients name, so the operator lists whom it may call. A rule is
one of:

- a host, perhaps with a port: `party.example.org`, `party.example.org:8443`, `*.example.org`;
- a network, or one address of it: `10.20.0.0/16`. Names may lead to it, and `http://` may;
- a topic of SNS: `arn:aws:sns:eu-central-1:123456789012:party`, or all with a `*` at the end.

An address outside the listed networks must be a public one, and needs `https://`.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
from collections.abc import Sequence
from urllib.parse import SplitResult

from serverless_fl.domain.addresses import http_address, is_one_word

MOST_CHARACTERS = 500  # of an address
DUE = "client.due"  # the type of the message

IP = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_TOPIC = re.compile(r"arn:aws[a-z-]*:sns:[a-z0-9-]{1,30}:[0-9]{12}:[A-Za-z0-9_-]{1,256}")
_TOPICS = re.compile(r"arn:aws[a-z-]*:sns:[a-z0-9-]{1,30}:[0-9]{12}:[A-Za-z0-9_-]{0,256}\*?")
_HOST = re.compile(r"(\*\.)?([a-z0-9_]([a-z0-9_-]{0,62})\.)*[a-z]([a-z0-9-]{0,62})(:[0-9]{1,5})?")
_TRANSLATED = ipaddress.ip_network("64:ff9b::/96")  # leads to any IPv4 address


def wake_key(client_key: str, experiment_id: str) -> bytes:
    """Give the 32 bytes that sign the wake-ups of a client of an experiment.

    The client derives them from its secret and tells the coordinator, so a client that knows its
    settings alone can check a wake-up.
    """
    return hmac.digest(client_key.encode(), f"wake-up/{experiment_id}".encode(), "sha256")


def is_topic(address: str) -> bool:
    """Say whether this is the ARN of a topic of SNS."""
    return _TOPIC.fullmatch(address) is not None


def _parts(address: str) -> SplitResult | None:
    """The parts of an address that may be called, whoever allows it; None of others."""
    if len(address) > MOST_CHARACTERS or not is_one_word(address):
        return None
    parts = http_address(address)
    return parts if parts is not None and not parts.fragment else None


class WakeRules:
    """The rules of an operator. Raises ValueError for a text that is no rule."""

    def __init__(self, rules: Sequence[str]) -> None:
        self._topics, self._hosts = list[str](), list[str]()
        self._networks: dict[_Network, str] = {}
        for rule in rules:
            if _TOPICS.fullmatch(rule):
                self._topics.append(rule)
            elif network := _network(rule):
                self._networks[network] = rule
            elif _HOST.fullmatch(rule.lower()):
                self._hosts.append(rule.lower())
            else:
                raise ValueError(
                    "each must be a host, such as *.example.org, a network, such as 10.20.0.0/16, "
                    "or the ARN of a topic of SNS"
                )

    def rule_for(self, address: str) -> str | None:
        """Give the rule that allows an address; None if none does.

        What its name leads to is not known yet: `may_connect` says whether that is allowed.
        """
        if is_topic(address):
            fits = (rule for rule in self._topics if _begins(rule, address))
            return next(fits, None)
        parts = _parts(address)
        if parts is None or parts.hostname is None:
            return None
        is_plain = parts.scheme == "http"
        number = _ip(parts.hostname)
        if number is not None:
            return self._network_of(number)
        if is_plain and not self._networks:
            return None
        port = parts.port or (80 if is_plain else 443)
        given = {parts.hostname, f"{parts.hostname}:{port}"}
        if port not in (80, 443):
            given.remove(parts.hostname)
        return next((rule for rule in self._hosts if any(_is_of(rule, one) for one in given)), None)

    def may_connect(self, number: str, *, encrypted: bool) -> bool:
        """Say whether a call may go to this IP address, to which a name has led."""
        found = _ip(number)
        if found is None:
            return False
        return self._network_of(found) is not None or (encrypted and _is_public(found))

    def _network_of(self, number: IP) -> str | None:
        return next((rule for net, rule in self._networks.items() if number in net), None)


def _network(rule: str) -> _Network | None:
    try:
        return ipaddress.ip_network(rule)
    except ValueError:
        return None


def _ip(text: str) -> IP | None:
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found


def _is_public(found: IP) -> bool:
    if isinstance(found, ipaddress.IPv6Address) and (
        found.sixtofour is not None or found.teredo is not None or found in _TRANSLATED
    ):
        return False  # each holds an IPv4 address, which may be any
    return found.is_global and not found.is_multicast


def _begins(rule: str, address: str) -> bool:
    return address.startswith(rule[:-1]) if rule.endswith("*") else address == rule


def _is_of(rule: str, host: str) -> bool:
    return host.endswith(rule[1:]) if rule.startswith("*.") else host == rule
