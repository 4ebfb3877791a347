"""The consent step of `join`: who says yes, and how."""

from __future__ import annotations

import argparse
import os
import sys

import pytest

from client_sdk.cli.consent import require_consent
from client_sdk.errors import UsageError
from client_sdk.results.console import Output
from client_sdk.trust.limits import Limits
from client_sdk.trust.offer import Offer
from tests.support.federation import config


@pytest.fixture
async def offer(federation):
    from client_sdk.trust.offer import read_offer

    experiment_id, _ = await federation.create()
    return await read_offer(federation.admin, experiment_id)


def decide(offer, kept, accept=None, limits=None):
    arguments = argparse.Namespace(accept=accept)
    console = Output(to_stderr=False)
    require_consent(arguments, console, offer, limits or Limits(), kept)


@pytest.fixture
def terminal(monkeypatch):
    """Gives a function that makes this process's terminal, in which somebody types a text."""
    if os.name == "nt":
        pytest.skip("there are no pseudo-terminals")
    opened = []

    def types(text):
        outer, inner = os.openpty()
        opened.extend([os.fdopen(inner, encoding="utf-8"), os.fdopen(os.dup(inner), "w")])
        # In the test itself: pytest takes both streams back between a fixture and its test.
        monkeypatch.setattr(sys, "stdin", opened[-2])
        monkeypatch.setattr(sys, "stdout", opened[-1])
        os.write(outer, text.encode())
        opened.append(os.fdopen(outer, "wb", 0))

    yield types
    for stream in opened:
        stream.close()


async def test_without_a_terminal_the_offer_is_shown_and_the_command_goes_on(
    offer, tmp_path, capsys
):
    decide(offer, tmp_path / "kept")
    assert f"Digest of this offer: {offer.digest}" in capsys.readouterr().out
    assert not (tmp_path / "kept").exists()


async def test_in_a_terminal_somebody_says_yes_and_is_not_asked_again(offer, tmp_path, terminal):
    terminal("y\n")
    decide(offer, tmp_path / "kept")
    assert (tmp_path / "kept").read_text().strip() == offer.digest
    decide(offer, tmp_path / "kept")


@pytest.mark.parametrize("answer", ["n\n", "\n", "\x04"], ids=["no", "nothing", "the end"])
async def test_in_a_terminal_anything_else_is_a_no(offer, tmp_path, terminal, answer):
    terminal(answer)
    with pytest.raises(UsageError, match="Not accepted"):
        decide(offer, tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


async def test_a_flag_and_a_file_with_the_digest_say_yes(offer, tmp_path, terminal):
    terminal("n\n")
    decide(offer, tmp_path / "kept", accept=True)
    file = tmp_path / "accepted.txt"
    file.write_text(f"{'0' * 64} another\n{offer.digest} agreed on by the board\n")
    decide(offer, tmp_path / "kept", accept=file)
    assert not (tmp_path / "kept").exists()


async def test_a_file_without_the_digest_says_no(offer, tmp_path):
    file = tmp_path / "accepted.txt"
    file.write_text("0" * 64)
    with pytest.raises(UsageError, match=f"does not have the digest of this offer, {offer.digest}"):
        decide(offer, tmp_path / "kept", accept=file)
    with pytest.raises(UsageError, match="No such file"):
        decide(offer, tmp_path / "kept", accept=tmp_path / "nothing")


async def test_a_yes_does_not_lift_the_limits(offer, tmp_path):
    with pytest.raises(UsageError, match="secure aggregation alone"):
        decide(offer, tmp_path / "kept", accept=True, limits=Limits(require_secure=True))


async def test_a_yes_to_other_settings_is_none(offer, tmp_path, terminal):
    (tmp_path / "kept").write_text(offer.digest)
    other = Offer(offer.view, config(local_epochs=7).to_config(), offer.initial, offer.parties)
    terminal("n\n")
    with pytest.raises(UsageError, match="Not accepted"):
        decide(other, tmp_path / "kept")
