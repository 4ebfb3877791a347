"""The command `identity`: makes a party's identity, certifies one, and shows one."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path

from client_sdk.cli.joining_trust import IDENTITY
from client_sdk.errors import UsageError
from client_sdk.results.console import Output
from client_sdk.results.files import write_output
from client_sdk.trust import identities
from serverless_fl.privacy.secure import authority
from serverless_fl.privacy.secure.identity import FINGERPRINT, Pins

AUTHORITY = Path("authority.key")


async def execute(arguments: argparse.Namespace, console: Output) -> int:
    """Do what the word after `identity` says."""
    doing = {"new": _make, "sign": _sign, "revoke": _revoke, "show": _show}
    doing[arguments.action](arguments, console)
    return 0


def _make(arguments: argparse.Namespace, console: Output) -> None:
    name, path = arguments.name, arguments.file
    if not arguments.authority:
        path = path or IDENTITY
        made = identities.write_identity(path)
        console.say(f"The key is in {path}: keep it. Give all parties this line for their pins:")
        print(f"{made.fingerprint} {name}".rstrip())
        return
    if not name:
        raise UsageError("An authority needs a --name.")
    path = path or AUTHORITY
    made = identities.write_identity(path)
    pem = authority.found_authority(made.secret, name, datetime.now(UTC), arguments.days)
    beside = identities.certificate_of(path)
    write_output(beside, pem.encode())
    console.say(f"The authority's key is in {path}: keep it. Give all parties {beside} to pin.")


def _sign(arguments: argparse.Namespace, console: Output) -> None:
    if not FINGERPRINT.fullmatch(arguments.fingerprint):
        raise UsageError("A fingerprint has 64 hexadecimal digits.")
    key = arguments.authority
    secret = identities.read_identity(key).secret
    try:
        pem = authority.certify(
            identities.read_authority(identities.certificate_of(key)),
            secret,
            bytes.fromhex(arguments.fingerprint),
            arguments.name,
            datetime.now(UTC),
            arguments.days,
        )
    except ValueError as error:
        raise UsageError(str(error)) from error
    issued = identities.issued_by(key)
    write_output(issued, (identities.text_of(issued) + pem).encode())
    write_output(arguments.out, pem.encode())
    console.say(
        f"The certificate is in {arguments.out}. The party keeps it beside its key, as the same "
        "name with .pem."
    )


def _revoke(arguments: argparse.Namespace, console: Output) -> None:
    key, fingerprint = arguments.authority, arguments.fingerprint
    found = identities.read_authority(identities.certificate_of(key))
    secret = identities.read_identity(key).secret
    issued = identities.issued_by(key)
    serials = [
        authority.serial_of(pem)
        for pem in identities.certificates_in(issued)
        if authority.described(pem)[2] == fingerprint
    ]
    if not serials:
        raise UsageError(f"{issued} has no certificate of the identity {fingerprint[:64]}.")
    listed = identities.revoked_by(key)
    try:
        if before := identities.text_of(listed):
            found = found.with_revoked(before)
        pem = authority.revoke(found, secret, serials, datetime.now(UTC))
    except ValueError as error:
        raise UsageError(f"The list of revoked certificates in {listed} {error}.") from error
    write_output(listed, pem.encode())
    console.say(
        f"{len(serials)} certificates of this identity are revoked. Give all parties {listed}: "
        "they put it into their file of pins, behind the authority's certificate."
    )


def _show(arguments: argparse.Namespace, console: Output) -> None:
    path = arguments.file or IDENTITY
    if not path.exists():
        raise UsageError(f"{path} is not there. `identity new` makes an identity.")
    try:
        found = identities.read_identity(path)
    except UsageError:
        _show_pins(path, identities.read_pins(path), console)
        return
    print(found.fingerprint)
    if found.certificate:
        _show_certificate(found.certificate, console)


def _show_pins(path: Path, pins: Pins, console: Output) -> None:
    for fingerprint, name in pins.names.items():
        print(f"{fingerprint} {name}")
    for each in pins.authorities:
        without = f", but for {len(each.revoked)} that it has revoked" if each.revoked else ""
        console.say(f"{path} pins whom the authority {each.name} certifies{without}.")
    for fingerprint, name in pins.helpers.items():
        console.say(f"{path} pins the helper {fingerprint} {name}")


def _show_certificate(pem: str, console: Output) -> None:
    try:
        holder, issuer, identity, until = authority.described(pem)
    except ValueError as error:
        raise UsageError(f"The certificate beside the key {error}.") from error
    console.say(f"Certified by {issuer} as {holder} until {until:%Y-%m-%d}: {identity}")
