"""The options of `python -m client_sdk`: what each command takes, and its help."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any, NoReturn

from client_sdk import exits, hints
from client_sdk.cli import values
from client_sdk.results.trackers import TRACKERS

COMMANDS = ("run", "join", "predict", "export", "verify", "delete")


class _Parser(argparse.ArgumentParser):
    """Reports a mistake in one sentence; argparse prints the list of all options before it."""

    def error(self, message: str) -> NoReturn:
        self.exit(exits.USAGE, f"error: {message} (see {self.prog} --help)\n")


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = _Parser(
        prog=hints.command(),
        description="Federated learning: run an experiment, join one, or use its model."
        f"\nThe default command is run; `{hints.command('run', '--help')}` lists its settings.",
        epilog=exits.TEXT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_subparsers(dest="command", required=True, metavar="COMMAND").add_parser
    _add_run(add("run", **_help("create an experiment and run all its clients")))
    _add_join(add("join", **_help("take part in an experiment as one client")))
    _add_predict(add("predict", **_help("classify pictures with a global model")))
    _add_export(add("export", **_help("write a global model for other programs to read")))
    _add_verify(add("verify", **_help("recompute models from a coordinator's records")))
    _add_delete(add("delete", **_help("delete an experiment: models, clients, records")))
    return parser


def _help(text: str) -> dict[str, Any]:
    return {
        "help": text,
        "description": text.capitalize() + ".",
        "epilog": exits.TEXT,
        "formatter_class": argparse.RawDescriptionHelpFormatter,
    }


def _add_data(parser: argparse.ArgumentParser, default: str | None, of: str) -> None:
    parser.add_argument(
        "--dataset",
        default=default,
        help=f"mnist, cifar10, digits, auto, a folder of images or an .npz file (default: {of})",
    )
    parser.add_argument(
        "--data-dir",
        type=Path,
        default=Path("data"),
        help="where mnist and cifar10 lie or are downloaded to (default: data)",
    )
    parser.add_argument(
        "--workers", type=values.positive, help="training processes (default: cores)"
    )
    parser.add_argument(
        "--kernel",
        choices=["auto", "native", "torch"],
        default="auto",
        help="the training loop: machine code compiled here, on the CPU (native), or PyTorch's "
        "operators, on a GPU where there is one (torch); auto: native where there is no GPU "
        "(default: auto)",
    )


def _add_run(parser: argparse.ArgumentParser) -> None:
    setting = parser.add_argument_group("settings of the experiment").add_argument
    setting("--clients", type=int, default=20, help="default: 20")
    setting("--clients-per-round", type=int, help="default: 10, or all where there are fewer")
    setting("--min-clients", type=int, help="start with so many (default: all)")
    setting("--rounds", type=int, default=10, help="default: 10")
    setting("--local-epochs", type=int, default=10, help="default: 10")
    setting("--batch-size", type=int, help="default: 50; 10 where shards are under 200 examples")
    setting("--learning-rate", type=float, default=0.05, help="default: 0.05")
    setting("--momentum", type=float, default=0.5, help="default: 0.5")
    setting("--weight-decay", type=float, default=0.0, help="L2 regularisation (default: 0)")
    setting(
        "--learning-rate-factor",
        type=float,
        default=1.0,
        help="multiplies the learning rate from round to round (default: 1)",
    )
    setting("--seed", type=int, default=0, help="everything random is a function of it")
    setting("--deadline", type=float, default=600.0, help="seconds for a round (default: 600)")
    setting("--quorum", type=int, help="updates that suffice at the deadline (default: half)")
    setting("--max-attempts", type=int, default=3, help="attempts at a round (default: 3)")
    setting("--target-accuracy", type=float, help="stop once the clients' held-out data show it")
    setting(
        "--patience",
        type=int,
        default=1,
        help="... in so many rounds in a row, whose examples are pooled (default: 1)",
    )
    setting("--max-update-norm", type=float, help="bound an update's distance from its base model")
    setting("--norm-action", choices=["clip", "reject"], default="clip", help="... default: clip")
    setting("--keep-updates", type=int, default=0, help="rounds to keep for verify (default: 0)")
    setting("--keep-models", type=int, help="newest models to keep, beside the best (default: all)")
    setting("--budget-usd", type=float, help="pause once Lambda would have cost so much (estimate)")
    setting(
        "--update-encoding",
        choices=["weights", "delta-float32", "delta-float16", "delta-int8"],
        default="weights",
        help="how updates travel (default: weights); delta-int8 takes a quarter of the bytes",
    )
    setting(
        "--download-encoding",
        choices=["weights", "float16", "int8"],
        default="weights",
        help="how models travel to the clients (default: weights)",
    )
    setting("--model", default="auto", help="mnist-cnn, cifar10-cnn, digits-cnn, auto")
    setting("--name", type=values.name, default="", help="a name for people")
    _add_data(parser, "auto", "auto: mnist where it can be had, else digits")
    parser.add_argument(
        "--image-size",
        metavar="WxH",
        help="of pictures of your own, such as 64 or 64x48 (default: the most common size, "
        "scaled to 64 where it is over 128)",
    )
    parser.add_argument(
        "--fit",
        choices=["letterbox", "crop"],
        help="other proportions: the whole picture between bars, or its middle (default: letterbox "
        "for folders, crop for .npz)",
    )
    parser.add_argument(
        "--server", type=values.server, help="a coordinator's URL (default: start one here)"
    )
    _add_admin_key(parser)
    parser.add_argument("--out", type=Path, help="results go here (default: runs/TIME)")
    parser.add_argument(
        "--track",
        choices=list(TRACKERS),
        action="append",
        default=[],
        help="record the run there, too; may be repeated (needs "
        f"{hints.install('serverless-fl[TRACK]')})",
    )
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out")
    parser.add_argument("--json", action="store_true", help="print the report to standard output")


def _add_join(parser: argparse.ArgumentParser) -> None:
    _add_where(parser)
    parser.add_argument(
        "--enrol-key",
        type=values.key,
        default=os.environ.get("FL_ENROL_KEY"),
        help="the experiment's enrolment key; better set as FL_ENROL_KEY",
    )
    parser.add_argument(
        "--name", type=values.name, default="", help="how the coordinator shows this client"
    )
    parser.add_argument(
        "--key-file",
        type=Path,
        help="this client's secret; a restart with the same file goes on as the same client "
        "(default: one in .serverless-fl/ for this coordinator, experiment and name)",
    )
    parser.add_argument(
        "--map-classes",
        action="store_true",
        help="match classes by name, where yours stand in another order or lack some",
    )
    _add_data(parser, None, "the experiment's")


def _add_where(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--server", type=values.server, required=True, help="the coordinator's URL")
    parser.add_argument("--experiment", required=True, metavar="ID", type=values.identifier)


def _add_verify(parser: argparse.ArgumentParser) -> None:
    _add_where(parser)
    parser.add_argument(
        "--round",
        type=values.positive,
        action="append",
        dest="rounds",
        help="recompute this round's model; may be repeated (default: every round that is kept)",
    )
    _add_admin_key(parser)
    parser.add_argument("--json", action="store_true", help="print JSON to standard output")


def _add_delete(parser: argparse.ArgumentParser) -> None:
    _add_where(parser)
    parser.add_argument("--stop", action="store_true", help="stop it first, where it goes on")
    _add_admin_key(parser)


def _add_admin_key(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--admin-key",
        type=values.key,
        default=os.environ.get("FL_ADMIN_KEY"),
        help="of the coordinator at --server; better set as FL_ADMIN_KEY",
    )


def _add_predict(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="PNG or JPEG")
    parser.add_argument("--model", type=Path, default=Path("global.safetensors"))
    parser.add_argument(
        "--top", type=values.positive, default=3, help="classes to show (default: 3)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON to standard output")


def _add_export(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--model", type=Path, default=Path("global.safetensors"))
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
        choices=["onnx", "torchscript", "safetensors"],
        help="default: by the name of --out (.onnx, .pt, .safetensors)",
    )
    parser.add_argument(
        "--normalise",
        action="store_true",
        help="put the scaling into the graph: pixels in [0, 1] go in, as they are",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
