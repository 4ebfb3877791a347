"""The options of `python -m client_sdk`: of all its commands, and of run, split, create, join."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from client_sdk import exit_codes, hints
from client_sdk.cli import settings, tool_arguments, values
from client_sdk.cli.parser import Group, Parser, add_admin_key, add_where
from client_sdk.cli.run_settings import RunSettings
from client_sdk.results.trackers import TRACKERS
from serverless_fl import __version__
from serverless_fl.wire.config import ExperimentConfig


def make_parser(declared: type[ExperimentConfig] = RunSettings) -> argparse.ArgumentParser:
    """The parser of all commands; `declared` are the settings that `run` and `split` take."""
    parser = Parser(
        prog=hints.command(),
        description="Federated learning: run an experiment, join one, or use its model."
        f"\nThe default command is run; `{hints.command('run', '--help')}` lists its settings.",
        epilog=exit_codes.TEXT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", **_version())
    add = parser.add_subparsers(dest="command", required=True, metavar="COMMAND").add_parser
    run: Parser = add(
        "run",
        usage="%(prog)s [OPTION ...]",
        **_help("create an experiment and run all its clients"),
    )
    run.declared = declared
    _add_run(run)
    split: Parser = add(
        "split",
        usage="%(prog)s [OPTION ...]",
        **_help("show which examples each client of a run would have"),
    )
    split.declared = declared
    _add_split(split)
    create: Parser = add(
        "create",
        usage="%(prog)s --server URL --clients N [OPTION ...]",
        **_help("create an experiment whose parties bring data of their own"),
    )
    _add_create(create)
    _add_join(add("join", **_help("take part in an experiment as one client")))
    tool_arguments.add_compare(
        add("compare", **_help("lay runs side by side: a table and a figure"))
    )
    tool_arguments.add_predict(
        add("predict", **_help("classify pictures, or rows of a table, with a global model"))
    )
    tool_arguments.add_export(
        add("export", **_help("write a global model for other programs to read"))
    )
    tool_arguments.add_verify(
        add("verify", **_help("recompute models from a coordinator's records"))
    )
    tool_arguments.add_delete(
        add("delete", **_help("delete an experiment: models, clients, records"))
    )
    tool_arguments.add_open(add("open", **_help("show the page of a run that has ended")))
    tool_arguments.add_new(
        add("new", **_help("write a small project of your own: task, data, tests"))
    )
    tool_arguments.add_identity(
        add("identity", **_help("make, certify or show what a party signs its keys with")), _help
    )
    tool_arguments.add_completion(
        add("completion", **_help("print a script that completes this command's words in a shell"))
    )
    return parser


def _help(text: str) -> dict[str, Any]:
    return {
        "help": text,
        "description": text.capitalize() + ".",
        "epilog": exit_codes.TEXT,
        "formatter_class": argparse.RawDescriptionHelpFormatter,
    }


def _version() -> dict[str, Any]:
    return {
        "action": "version",
        "version": f"serverless-fl {__version__}",
        "help": "print the version and exit",
    }


def _add_data(data: Group, machine: Group, default: str | None, of: str) -> None:
    data.add_argument(
        "--dataset",
        type=values.text,
        default=default,
        help="mnist, cifar10, digits, auto, a folder of images, an .npz file or a table "
        f"(default: {of})",
    )
    data.add_argument(
        "--data-dir",
        type=values.path,
        default=Path("data"),
        help="where mnist and cifar10 lie or are downloaded to (default: data)",
    )
    machine.add_argument(
        "--workers",
        metavar="N",
        type=values.positive,
        help="training processes (default: cores, or a round's clients if these are fewer)",
    )
    machine.add_argument(
        "--kernel",
        type=values.one_of("auto", "native", "torch"),
        metavar="{auto,native,torch}",
        default="auto",
        help="the training loop: machine code compiled here, on the CPU (native), or PyTorch's "
        "operators, on a GPU where there is one (torch); auto: native where there is no GPU "
        "(default: auto)",
    )


def _add_settings(parser: Parser) -> Group:
    """Add all settings of a run, and its machine's; gives the group for what is left."""
    groups = settings.add_groups(parser, parser.declared)
    machine = parser.add_argument_group("this machine")
    data = groups["data", ()]
    _add_data(data, machine, "auto", "auto: mnist where it can be had, else digits")
    data.add_argument(
        "--label",
        metavar="COLUMN",
        type=values.text,
        help="of a table (.csv, .parquet ...): the column to predict",
    )
    _add_kinds(data)
    data.add_argument(
        "--image-size",
        metavar="WxH",
        type=values.size,
        help="of pictures of your own, such as 64 or 64x48 (default: the most common size, "
        "scaled to 64 where it is over 128)",
    )
    data.add_argument(
        "--fit",
        type=values.one_of("letterbox", "crop"),
        metavar="{letterbox,crop}",
        help="other proportions: the whole picture between bars, or its middle (default: letterbox "
        "for folders, crop for .npz)",
    )
    machine.add_argument(
        "--engine",
        type=values.one_of("auto", "processes", "batched", "ray"),
        metavar="{auto,processes,batched,ray}",
        default="auto",
        help="where clients train: in processes, one a core; a round's clients as one model "
        "(batched), which pays on a GPU; or on the Ray cluster of RAY_ADDRESS (ray); auto: batched "
        "where there is a GPU and the model is small (default: auto)",
    )
    groups["training", ()].add_argument(
        "--model",
        type=values.text,
        default="auto",
        help="mnist-cnn, cifar10-cnn, digits-cnn, auto (default: auto)",
    )
    _add_task(groups["training", ()])
    settings.add_flags(groups, parser.declared)
    run = parser.add_argument_group("this run")
    run.add_argument(
        "--config",
        type=values.path,
        metavar="FILE",
        help="read settings from a TOML file, such as a run's own config.toml; flags win over it",
    )
    run.add_argument("--name", type=values.name, default="", help="a name for people")
    return run


def _add_run(parser: Parser) -> None:
    run = _add_settings(parser)
    run.add_argument(
        "--server", type=values.server, help="a coordinator's URL (default: start one here)"
    )
    add_admin_key(run)
    run.add_argument("--out", type=values.path, help="results go here (default: runs/TIME)")
    run.add_argument(
        "--track",
        type=values.one_of(*TRACKERS),
        metavar="{" + ",".join(TRACKERS) + "}",
        action="append",
        default=[],
        help="record the run there, too; may be repeated (needs "
        f"{hints.install('serverless-fl[TRACK]')})",
    )
    run.add_argument(
        "--resume",
        action="store_true",
        help="go on with the run in --out; with more --rounds also after its last one",
    )
    run.add_argument(
        "--keep-serving",
        action="store_true",
        help="keep the page and the coordinator after the end, until Ctrl-C",
    )
    begin = run.add_mutually_exclusive_group()
    begin.add_argument(
        "--initial-model",
        type=values.path,
        metavar="FILE",
        help="begin from this model instead of random weights",
    )
    begin.add_argument(
        "--from-experiment",
        type=values.experiment_place,
        metavar="ID[:VERSION]",
        help="begin from a model of an experiment at --server (default: its newest)",
    )
    begin.add_argument(
        "--from-run",
        type=values.run_place,
        metavar="FOLDER[:VERSION]",
        help="begin from a model of the run in that folder (default: its newest)",
    )
    run.add_argument("--json", action="store_true", help="print the report to standard output")
    run.add_argument("--version", **_version())


def _add_split(parser: Parser) -> None:
    figure = _add_settings(parser)
    figure.add_argument(
        "--out",
        type=values.path,
        default=Path("split.png"),
        metavar="FILE",
        help="the figure, a PNG or an SVG by its name (default: split.png in this folder)",
    )
    figure.add_argument("--json", action="store_true", help="print JSON to standard output")


def _add_kinds(group: Group) -> None:
    group.add_argument(
        "--kinds",
        metavar="NAME=KIND,...",
        help="of a table: what columns are, where the guess is wrong; a KIND is number, boolean, "
        "category or ignore",
    )


def _add_create(parser: Parser) -> None:
    parser.add_argument("--server", type=values.server, required=True, help="the coordinator's URL")
    add_admin_key(parser)
    parser.add_argument("--name", type=values.name, default="", help="a name for people")
    look = parser.add_argument_group("what every party's data look like")
    look.add_argument(
        "--like",
        type=values.path,
        metavar="PATH",
        help="a table or a folder of pictures like those of the parties; none of it leaves here "
        "but its name, columns, kinds, categories, classes, and (given) means and deviations",
    )
    look.add_argument(
        "--initial-model",
        type=values.path,
        metavar="FILE",
        help="begin from this model, for parties like those that it was trained by (with --task: "
        "a model of that task)",
    )
    look.add_argument(
        "--label", metavar="COLUMN", type=values.text, help="of a table: the column to predict"
    )
    _add_kinds(look)
    look.add_argument(
        "--column",
        action="append",
        default=[],
        dest="columns",
        metavar="NAME=KIND",
        help="instead of --like: a column to learn from, as age=number, smokes=boolean, "
        "sex=category:f,m; may be repeated",
    )
    look.add_argument(
        "--classes", metavar="A,B", help="the classes in order, instead of those of --like"
    )
    look.add_argument(
        "--image-size",
        metavar="WxH",
        type=values.size,
        help="of pictures, such as 64 or 64x48 (default: --like's)",
    )
    look.add_argument(
        "--grey", action="store_true", help="with --classes and --image-size: pictures are grey"
    )
    look.add_argument(
        "--model",
        type=values.text,
        default="auto",
        help="of tables: linear, or mlp with one hidden layer (auto: linear); of pictures: "
        "mnist-cnn, cifar10-cnn, digits-cnn, auto",
    )
    look.add_argument(
        "--task",
        metavar="MODULE:NAME",
        help="a task of your own instead: its place in Python, as my_package.my_module:task",
    )
    groups = settings.add_groups(parser, parser.declared, own_data=True)
    settings.add_flags(groups, parser.declared, own_data=True)
    parser.add_argument("--json", action="store_true", help="print JSON to standard output")
    parser.set_defaults(config=None)  # so that `settings` is what was given, as for run


def _add_join(parser: argparse.ArgumentParser) -> None:
    add_where(parser)
    own = parser.add_argument_group("data of your own, if the experiment is of such")
    own.add_argument(
        "--data",
        type=values.path,
        metavar="PATH",
        help="a table (.csv, .tsv, .npz, .parquet), a folder with CLASS/*.png, or pictures in .npz",
    )
    own.add_argument(
        "--label",
        metavar="COLUMN",
        type=values.text,
        help="of a table: the column to predict (default: the experiment's)",
    )
    own.add_argument(
        "--out", type=values.path, metavar="FILE", help="write the last model here, with its scales"
    )
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
        type=values.path,
        help="this client's secret; a restart with the same file goes on as the same client "
        "(default: one in .serverless-fl/ for this coordinator, experiment and name)",
    )
    parser.add_argument(
        "--client-certificate",
        type=values.path,
        metavar="FILE",
        help="this party's certificate (PEM), for a coordinator whose proxy asks for one",
    )
    parser.add_argument(
        "--client-key",
        type=values.path,
        metavar="FILE",
        help="the key of that certificate, without a password (default: in the same file)",
    )
    parser.add_argument(
        "--once",
        action="store_true",
        help="take one turn and end, for cron, timers and functions: the same command goes on, and "
        "is worth while after the seconds that it prints",
    )
    parser.add_argument(
        "--wake-url",
        type=values.text,
        metavar="URL",
        help="with --once: where the coordinator calls when a round waits for this client, if its "
        "operator allows it; http(s)://, or the ARN of a topic of SNS",
    )
    parser.add_argument(
        "--min-participants",
        type=values.positive,
        metavar="N",
        help="take part under secure aggregation alone, and help to open no sum of fewer clients' "
        "updates",
    )
    parser.add_argument(
        "--require-secure",
        action="store_true",
        help="take part under secure aggregation alone",
    )
    parser.add_argument(
        "--max-epsilon",
        type=values.positive_number,
        metavar="X",
        help="take part under differential privacy alone, and in no round after which a client may "
        "have spent more than this epsilon",
    )
    parser.add_argument(
        "--accept",
        type=values.path,
        nargs="?",
        const=True,
        metavar="FILE",
        help="say yes to the experiment without a question; with FILE: if the digest that join "
        "shows of it stands there",
    )
    parser.add_argument(
        "--share-labels",
        action="store_true",
        help="tell how many of this client's examples have each label, if the experiment asks for "
        "it (label_counts): everybody who sees its clients sees that",
    )
    parser.add_argument(
        "--identity",
        type=values.path,
        metavar="FILE",
        help="sign this client's keys of secure aggregation with the identity in this file, as "
        "`identity new` makes it (default: .serverless-fl/identity.key, if it is there)",
    )
    parser.add_argument(
        "--pin",
        type=values.path,
        metavar="FILE",
        help="take part under secure aggregation alone, with no others than the parties in this "
        "file: a fingerprint and a name in each line, or the certificate of their authority",
    )
    parser.add_argument(
        "--map-classes",
        action="store_true",
        help="match classes by name, where yours stand in another order or lack some",
    )
    _add_task(parser)
    _add_data(parser, parser, None, "the experiment's")


def _add_task(group: Group) -> None:
    group.add_argument(
        "--task",
        metavar="MODULE:NAME",
        help="a task of your own: its place in Python, as my_package.my_module:task; --dataset (or "
        "--data) may then be such a place, too, of (x, y), of such a pair to train and to test, or "
        "(--dataset) of dicts of these by site",
    )
