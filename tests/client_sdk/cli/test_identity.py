"""`python -m client_sdk identity`, and the refusals of `join --pin` before it calls anybody."""

from __future__ import annotations

import os
import stat

import pytest

from client_sdk import exit_codes
from client_sdk.cli import command_line
from client_sdk.trust.identities import read_identity, read_pins, require_own


@pytest.fixture
def command(capsys, monkeypatch, tmp_path):
    """Runs a command line in an empty folder; gives its code, its output and its error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FL_ENROL_KEY", raising=False)

    def run(*arguments):
        try:
            code = command_line.run([str(argument) for argument in arguments])
        except SystemExit as end:  # argparse's way
            code = end.code
        return code, *capsys.readouterr()

    return run


JOIN = ("join", "--server", "http://127.0.0.1:9", "--experiment", "x", "--enrol-key", "k" * 20)


def test_a_new_identity_is_its_owners_alone_and_printed_for_the_pins(command, tmp_path):
    code, out, _ = command("identity", "new", "--name", "Hospital north")
    assert code == 0
    path = tmp_path / ".serverless-fl/identity.key"
    found = read_identity(path)
    line = out.strip().splitlines()[-1]
    assert line == f"{found.fingerprint} Hospital north"
    if os.name != "nt":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    (tmp_path / "pins.txt").write_text(f"# parties\n\n{line}\n{'a' * 64}\n")
    assert read_pins(tmp_path / "pins.txt").names == {
        found.fingerprint: "Hospital north",
        "a" * 64: "a" * 64,
    }
    assert command("identity", "show")[1].strip() == found.fingerprint
    assert line in command("identity", "show", "pins.txt")[1]
    code, _, error = command("identity", "new")
    assert code == exit_codes.USAGE
    assert "is there already" in error


def test_an_authority_certifies_a_party(command, tmp_path):
    assert command("identity", "new", "--authority", "--name", "Consortium")[0] == 0
    out = command("identity", "new", "party.key")[1]
    fingerprint = out.strip().splitlines()[-1]
    sign = ("identity", "sign", fingerprint, "--name", "Hospital north")
    assert command(*sign, "--out", "party.pem")[0] == 0
    shown = command("identity", "show", "party.key")[1]
    assert "Certified by Consortium as Hospital north until" in shown
    (authority,) = read_pins(tmp_path / "authority.pem").authorities
    assert authority.name == "Consortium"
    assert "the authority Consortium certifies" in command("identity", "show", "authority.pem")[1]
    require_own(read_pins(tmp_path / "authority.pem"), read_identity(tmp_path / "party.key"))
    command("identity", "new", "--authority", "--name", "Others", "others.key")
    code, _, error = command(*JOIN, "--identity", "party.key", "--pin", "others.pem")
    assert code == exit_codes.USAGE
    assert "is not pinned: its certificate is of another authority" in error


def test_an_authority_revokes_what_it_has_certified(command, tmp_path):
    """All certificates of the identity; the list goes behind the authority's in a file of pins."""
    command("identity", "new", "--authority", "--name", "Consortium")
    north, south = (
        command("identity", "new", f"{name}.key")[1].split()[-1] for name in ("north", "south")
    )
    for fingerprint, out in ((north, "old"), (north, "north"), (south, "south")):
        sign = ("identity", "sign", fingerprint, "--name", out, "--out", f"{out}.pem")
        assert command(*sign)[0] == 0
    code, _, error = command("identity", "revoke", "a" * 64)
    assert code == exit_codes.USAGE
    assert "authority.issued.pem has no certificate of the identity aaaa" in error
    for fingerprint, count in ((north, 2), (south, 1)):
        code, out, error = command("identity", "revoke", fingerprint)
        assert code == 0
        assert f"{count} certificates of this identity are revoked" in out + error
    pinned = (tmp_path / "authority.pem").read_text() + (tmp_path / "authority.crl").read_text()
    (tmp_path / "pins.txt").write_text(pinned)
    shown = command("identity", "show", "pins.txt")
    assert "Consortium certifies, but for 3 that it has revoked" in shown[1] + shown[2]
    for name in ("north", "south"):
        code, _, error = command(*JOIN, "--identity", f"{name}.key", "--pin", "pins.txt")
        assert code == exit_codes.USAGE
        assert "is not pinned: its certificate is revoked" in error
    require_own(read_pins(tmp_path / "authority.pem"), read_identity(tmp_path / "south.key"))
    (tmp_path / "pins.txt").write_text((tmp_path / "authority.crl").read_text() + "a" * 64)
    code, _, error = command("identity", "show", "pins.txt")
    assert code == exit_codes.USAGE
    assert "a list of revoked certificates is of no authority that stands there" in error


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("identity",), "ACTION"),
        (("identity", "new", "--authority"), "An authority needs a --name"),
        (("identity", "sign", "abc", "--name", "x"), "has 64 hexadecimal digits"),
        (("identity", "sign", "a" * 64, "--name", "x"), "authority.key: No such file"),
        (("identity", "show", "nothing.key"), "is not there"),
        ((*JOIN, "--pin", "pins.txt"), "--pin needs an identity of this party's own"),
        ((*JOIN, "--identity", "nothing.key"), "nothing.key: No such file"),
        ((*JOIN, "--identity", "pins.txt"), "holds no identity's key"),
    ],
    ids=lambda value: None if isinstance(value, str) else " ".join(value)[:40],
)
def test_what_is_wrong_is_one_sentence(command, tmp_path, arguments, says):
    (tmp_path / "pins.txt").write_text("a" * 64)
    code, _, error = command(*arguments)
    assert code == exit_codes.USAGE
    assert says in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "pins nobody"),
        ("abc Hospital", "line 1: a fingerprint has 64"),
        (f"{'a' * 64}\n{'a' * 64} again", "line 2: this fingerprint stands there twice"),
        ("a" * 64, "is not pinned"),
        ("-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----", "cannot be read"),
    ],
)
def test_pins_that_cannot_be_used(command, tmp_path, text, says):
    command("identity", "new")
    (tmp_path / "pins.txt").write_text(text)
    code, _, error = command(*JOIN, "--pin", "pins.txt")
    assert code == exit_codes.USAGE
    assert says in error
