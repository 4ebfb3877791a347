"""The parser of the commands' words: one sentence for a mistake, and the file of `--config`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, cast

from client_sdk import errors, exit_codes
from client_sdk.cli import config_file, settings, values
from client_sdk.results.console import MAX_LINE
from serverless_fl.wire.config import ExperimentConfig
from serverless_fl.wire.text import clean

Group = argparse._ActionsContainer  # a parser, or a group of its options
COMMANDS = (
    *("run", "split", "create", "join", "compare", "predict", "export", "verify", "delete", "new"),
    *("open", "identity", "completion"),
)


class Parser(argparse.ArgumentParser):
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


def add_where(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--server", type=values.server, required=True, help="the coordinator's URL")
    parser.add_argument("--experiment", required=True, metavar="ID", type=values.identifier)


def add_admin_key(parser: Group) -> None:
    parser.add_argument(
        "--admin-key",
        type=values.key,
        default=os.environ.get("FL_ADMIN_KEY"),
        help="of the coordinator at --server; better set as FL_ADMIN_KEY",
    )
