"""The options of `python -m client_sdk`: what each command takes, and its help."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NoReturn, cast

from client_sdk import errors, exit_codes, hints
from client_sdk.cli import config_file, settings, values
from client_sdk.cli.run_settings import RunSettings
from client_sdk.results.console import MAX_LINE
from client_sdk.results.trackers import TRACKERS
from client_sdk.tools.exporters import EXPORTERS
from serverless_fl.wire.config import ExperimentConfig
from serverless_fl.wire.text import clean

Group = argparse._ActionsContainer  # a parser, or a group of its options
COMMANDS = (
    *("run", "split", "create", "join", "compare", "predict", "export", "verify", "delete", "new"),
    "open",
)


class _Parser(argparse.ArgumentParser):
    """Reports a mistake in one sentence, and reads the file of `--config`.

    Argparse prints the list of all options before a mistake.
    """

    declared: type[ExperimentConfig] = ExperimentConfig

    def error(self, message: str) -> NoReturn:
        # A file's keys may be a stranger's: `clean` removes what moves a terminal's cursor.
        message = clean(message.removesuffix("."), MAX_LINE)
        self.exit(exit_codes.USAGE, f"error: {message} (see {self.prog} --help)\n")

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        """As argparse, but a word that belongs to no option is called so."""
        found, others = self.parse_known_args(args, namespace)
        if others:
            self.error(f"{others[0][:40]!r} belongs to no option")
        return found

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """As argparse. Of `run`, `settings` is what was given, as `cli.settings.Given`."""
        words = sys.argv[1:] if args is None else list(args)
        if self._subparsers is not None:  # the parser of a command is asked, too
            return super().parse_known_args(words, namespace)
        self._refuse_misspelt(words)
        found, others = super().parse_known_args(words, namespace)
        if "config" not in found:
            return found, others
        in_file: Mapping[str, Any] = {}
        if found.config is not None:
            file = self._read_file(found.config)
            in_file = file.settings
            self.set_defaults(**file.run)  # so that flags win, wherever they stand
            found, others = super().parse_known_args(words, namespace)
        flags = getattr(found, "settings", {})
        found.settings = settings.Given(flags, in_file, found.config, self.declared)
        try:
            found.settings.nested()
        except errors.UsageError as error:
            self.error(str(error))
        return found, others

    def _refuse_misspelt(self, words: list[str]) -> None:
        takes_words = any(not action.option_strings for action in self._actions)
        if words and not words[0].startswith("-") and not takes_words:
            hint = values.suggestion(words[0], COMMANDS)
            self.error(f"{words[0][:40]!r} is no command and no option{hint}")
        options = [o for o in self._option_string_actions if o.startswith("--")]
        for word in words:
            if word == "--":
                break
            name = word.partition("=")[0]
            if name.startswith("--") and not any(o.startswith(name) for o in options):
                self.error(f"there is no option {name[:40]}{values.option_like(name, options)}")
            # With one dash it may be a value: only a word that is like an option is a mistake.
            one_dash = name[:1] == "-" and len(name) > 2 and name[1:3].isalpha()
            if one_dash and (hint := values.option_like(name, options)):
                self.error(f"there is no option {name[:40]}{hint}")

    def _read_file(self, path: Path) -> config_file.ConfigFile:
        try:
            file = config_file.read(path, self.declared)
            for (
                action
            ) in self._actions:  # argparse checks it too, but names the flag and not the file
                if action.dest in file.run and action.type is not None:
                    cast("Callable[[str], object]", action.type)(file.run[action.dest])
        except errors.UsageError as error:
            self.error(str(error))
        except argparse.ArgumentTypeError as error:
            table = config_file.RUN_KEYS[action.dest]
            self.error(f"{path}: {table}.{action.dest} {error}")
        return file


def make_parser(declared: type[ExperimentConfig] = RunSettings) -> argparse.ArgumentParser:
    """The parser of all commands; `declared` are the settings that `run` and `split` take."""
    parser = _Parser(
        prog=hints.command(),
        description="Federated learning: run an experiment, join one, or use its model."
        f"\nThe default command is run; `{hints.command('run', '--help')}` lists its settings.",
        epilog=exit_codes.TEXT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", **_version())
    add = parser.add_subparsers(dest="command", required=True, metavar="COMMAND").add_parser
    run: _Parser = add(
        "run",
        usage="%(prog)s [OPTION ...]",
        **_help("create an experiment and run all its clients"),
    )
    run.declared = declared
    _add_run(run)
    split: _Parser = add(
        "split",
        usage="%(prog)s [OPTION ...]",
        **_help("show which examples each client of a run would have"),
    )
    split.declared = declared
    _add_split(split)
    create: _Parser = add(
        "create",
        usage="%(prog)s --server URL --clients N [OPTION ...]",
        **_help("create an experiment whose parties bring data of their own"),
    )
    _add_create(create)
    _add_join(add("join", **_help("take part in an experiment as one client")))
    _add_compare(add("compare", **_help("lay runs side by side: a table and a figure")))
    _add_predict(
        add("predict", **_help("classify pictures, or rows of a table, with a global model"))
    )
    _add_export(add("export", **_help("write a global model for other programs to read")))
    _add_verify(add("verify", **_help("recompute models from a coordinator's records")))
    _add_delete(add("delete", **_help("delete an experiment: models, clients, records")))
    _add_open(add("open", **_help("show the page of a run that has ended")))
    _add_new(add("new", **_help("write a small project of your own: task, data, tests")))
    return parser


def _help(text: str) -> dict[str, Any]:
    return {
        "help": text,
        "description": text.capitalize() + ".",
        "epilog": exit_codes.TEXT,
        "formatter_class": argparse.RawDescriptionHelpFormatter,
    }


@cache  # two parsers show it
def _version() -> dict[str, Any]:
    try:
        found = version("serverless-fl")
    except PackageNotFoundError:
        found = "(a copy of the source, not installed)"
    return {
        "action": "version",
        "version": f"serverless-fl {found}",
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


def _add_settings(parser: _Parser) -> Group:
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


def _add_run(parser: _Parser) -> None:
    run = _add_settings(parser)
    run.add_argument(
        "--server", type=values.server, help="a coordinator's URL (default: start one here)"
    )
    _add_admin_key(run)
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


def _add_split(parser: _Parser) -> None:
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


def _add_create(parser: _Parser) -> None:
    parser.add_argument("--server", type=values.server, required=True, help="the coordinator's URL")
    _add_admin_key(parser)
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
    _add_where(parser)
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
        "--min-participants",
        type=values.positive,
        metavar="N",
        help="take part under secure aggregation alone, and help to open no sum of fewer clients' "
        "updates",
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
        "--data) may then be such a place, too, of (x, y), or of such a pair to train and to test",
    )


def _add_own_task(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--task",
        metavar="MODULE:NAME",
        help="the task of your own whose model it is: its place in Python, as my_package:task",
    )


def _add_new(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folder", type=values.path, metavar="FOLDER", help="where it goes; it must not be there yet"
    )


def _add_compare(parser: argparse.ArgumentParser) -> None:
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


def _add_open(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "run",
        type=values.path,
        nargs="?",
        metavar="RUN",
        help="its folder (default: the last in runs/)",
    )


def _add_delete(parser: argparse.ArgumentParser) -> None:
    _add_where(parser)
    parser.add_argument("--stop", action="store_true", help="stop it first, where it goes on")
    _add_admin_key(parser)


def _add_admin_key(parser: Group) -> None:
    parser.add_argument(
        "--admin-key",
        type=values.key,
        default=os.environ.get("FL_ADMIN_KEY"),
        help="of the coordinator at --server; better set as FL_ADMIN_KEY",
    )


def _add_model(parser: Group) -> None:
    parser.add_argument(
        "--model",
        type=values.path,
        default=Path("global.safetensors"),
        metavar="FILE",
        help="the model that a run left (default: global.safetensors in this folder)",
    )


def _add_predict(parser: argparse.ArgumentParser) -> None:
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


def _add_export(parser: argparse.ArgumentParser) -> None:
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
