"""The options of the commands that work with what a run left: its files, models and records."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from client_sdk.cli import values
from client_sdk.cli.parser import Group, add_admin_key, add_where
from client_sdk.tools.exporters import EXPORTERS

SHELLS = ("bash", "zsh", "fish")


def add_compare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "runs", nargs="+", type=values.path, metavar="RUN", help="a run's folder, such as runs/TIME"
    )
    parser.add_argument(
        "--metric", help="what to compare (default: accuracy where all runs have it, else loss)"
    )
    parser.add_argument(
        "--out",
        type=values.path,
        default=Path("compare.png"),
        metavar="FILE",
        help="the figure, a PNG (default: compare.png in this folder)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON to standard output")


def add_predict(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "images",
        nargs="+",
        type=values.path,
        metavar="FILE",
        help="PNG or JPEG, a folder of them, a table; with --task, what it reads",
    )
    _add_model(parser)
    _add_own_task(parser)
    parser.add_argument(
        "--top", type=values.positive, default=3, help="classes to show (default: 3)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON to standard output")


def add_export(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group()
    _add_model(source)
    source.add_argument("--server", type=values.server, help="fetch it from a coordinator's URL")
    parser.add_argument(
        "--experiment", metavar="ID", type=values.identifier, help="... whose, with --server"
    )
    parser.add_argument("--version", type=values.natural, help="... which (default: the newest)")
    parser.add_argument(
        "--key",
        type=values.key,
        default=os.environ.get("FL_ADMIN_KEY") or os.environ.get("FL_ENROL_KEY"),
        help="... the admin's key, the enrolment key or a client's token; better set as "
        "FL_ADMIN_KEY or FL_ENROL_KEY",
    )
    parser.add_argument(
        "--format",
        type=values.one_of(*EXPORTERS),
        metavar="{" + ",".join(EXPORTERS) + "}",
        help="default: by the name of --out "
        f"({', '.join(exporter.suffix for exporter in EXPORTERS.values())})",
    )
    parser.add_argument(
        "--normalise",
        action="store_true",
        help="put the scaling into the graph: pixels in [0, 1], or a table's numbers, go in",
    )
    _add_own_task(parser)
    parser.add_argument(
        "--like",
        type=values.path,
        metavar="FILE",
        help="with --task: two inputs or more for its model, to see what goes in",
    )
    parser.add_argument("--out", type=values.path, required=True, metavar="FILE")


def _add_model(parser: Group) -> None:
    parser.add_argument(
        "--model",
        type=values.path,
        default=Path("global.safetensors"),
        metavar="FILE",
        help="the model that a run left (default: global.safetensors in this folder)",
    )


def _add_own_task(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--task",
        metavar="MODULE:NAME",
        help="the task of your own whose model it is: its place in Python, as my_package:task",
    )


def add_verify(parser: argparse.ArgumentParser) -> None:
    add_where(parser)
    parser.add_argument(
        "--round",
        type=values.positive,
        action="append",
        dest="rounds",
        help="recompute this round's model; may be repeated (default: every round that is kept)",
    )
    add_admin_key(parser)
    parser.add_argument("--json", action="store_true", help="print JSON to standard output")


def add_delete(parser: argparse.ArgumentParser) -> None:
    add_where(parser)
    parser.add_argument("--stop", action="store_true", help="stop it first, where it goes on")
    add_admin_key(parser)


def add_open(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "run",
        type=values.path,
        nargs="?",
        metavar="RUN",
        help="its folder (default: the last in runs/)",
    )


def add_new(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folder", type=values.path, metavar="FOLDER", help="where it goes; it must not be there yet"
    )


def add_identity(
    parser: argparse.ArgumentParser, describe: Callable[[str], dict[str, Any]]
) -> None:
    add = parser.add_subparsers(dest="action", required=True, metavar="ACTION").add_parser
    new = add("new", **describe("make an identity, or an authority that certifies identities"))
    new.add_argument(
        "file",
        type=values.path,
        nargs="?",
        metavar="FILE",
        help="a new file for the secret key (default: .serverless-fl/identity.key; of an "
        "authority: authority.key, with its certificate in authority.pem)",
    )
    new.add_argument("--name", type=values.name, default="", help="whose it is, for people")
    new.add_argument("--authority", action="store_true", help="make an authority of a consortium")
    _add_days(new, 3650, "of an authority's certificate")
    sign = add("sign", **describe("certify a party's identity, as an authority"))
    sign.add_argument("fingerprint", metavar="FINGERPRINT", help="as `identity new` printed it")
    sign.add_argument("--name", type=values.text, required=True, help="the party's name")
    _add_authority(sign)
    sign.add_argument(
        "--out",
        type=values.path,
        default=Path("identity.pem"),
        metavar="FILE",
        help="the party's certificate (default: identity.pem in this folder)",
    )
    _add_days(sign, 365, "of the certificate")
    revoke = add("revoke", **describe("revoke a party's certificates, as an authority"))
    revoke.add_argument("fingerprint", metavar="FINGERPRINT", help="of the party's identity")
    _add_authority(revoke)
    show = add("show", **describe("show an identity's fingerprint, or whom a file pins"))
    show.add_argument(
        "file",
        type=values.path,
        nargs="?",
        metavar="FILE",
        help="a key, or a file of pins (default: .serverless-fl/identity.key)",
    )


def _add_authority(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--authority",
        type=values.path,
        default=Path("authority.key"),
        metavar="FILE",
        help="the authority's key, with its certificate beside it (default: authority.key)",
    )


def _add_days(parser: argparse.ArgumentParser, default: int, of: str) -> None:
    parser.add_argument(
        "--days",
        type=values.positive,
        default=default,
        metavar="N",
        help=f"{of}: how long it holds (default: {default})",
    )


def add_completion(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "shell",
        type=values.one_of(*SHELLS),
        metavar="{" + ",".join(SHELLS) + "}",
        help="the script is of the command serverless-fl; docs/installing.md says where it goes",
    )
