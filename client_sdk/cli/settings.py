"""The experiment's settings on the command line: their flags, and what a run makes of them.

Flags and checks are made from `ExperimentConfig`, where each setting is declared.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from client_sdk.cli import values
from client_sdk.errors import UsageError
from serverless_fl.domain.errors import InvalidConfig
from serverless_fl.wire.config import ExperimentConfig
from serverless_fl.wire.settings import GROUPS, Setting, fault, settings_of

FROM_DATA = frozenset({"dataset", "dataset_size", "model"})  # a run takes them from its data
OF_PARTIES = frozenset(  # a run shares out a common data set
    {"data", "max_examples_per_client", "normalisation"}
)
_OTHER_FLAGS = {"deadline_seconds": "--deadline"}  # where the flag is not the setting's name
_SMALL_SHARD = 200  # examples; in a smaller one an epoch of batches of 50 has few steps
DERIVED = {  # defaults that a run derives from its data
    "clients_per_round": "10, or all where there are fewer",
    "batch_size": f"50; 10 where shards are under {_SMALL_SHARD} examples",
}
TITLES = {
    "data": "data and clients",
    "training": "local training",
    "strategy": "strategy",
    "schedule": "rounds",
    "privacy": "bounds on updates",
    "encoding": "encoding of weights",
    "keeping": "what the coordinator keeps",
    "stopping": "when to stop",
}


@dataclass(frozen=True)
class Given:
    """What somebody set, by flags or in `file`; a flag wins over the file."""

    flags: Mapping[str, Any]
    in_file: Mapping[str, Any]
    file: Path | None = None
    declared: type[ExperimentConfig] = ExperimentConfig  # the settings that there are

    @property
    def values(self) -> dict[str, Any]:
        return {**self.in_file, **self.flags}

    def name(self, setting: str) -> str:
        """What its user calls a setting: the flag, or the key and the file."""
        if setting in self.in_file and setting not in self.flags:
            return f"{setting} in {self.file}"
        return flag_of(setting)

    def in_own_words(self, message: str) -> str:
        """A sentence of the domain, with flags or keys of the file in place of settings' names.

        The domain writes a setting as `name (value)`. Other words of its sentences stay.
        """
        names = "|".join(self.declared.model_fields)
        return re.sub(rf"\b({names})(?= \()", lambda match: self.name(match[1]), message)


def flag_of(setting: str) -> str:
    """The flag of a setting."""
    return _OTHER_FLAGS.get(setting, "--" + setting.replace("_", "-"))


def shown_settings(model: type[ExperimentConfig]) -> list[Setting]:
    """The settings that have a flag, group by group."""
    found = [s for s in settings_of(model).values() if s.name not in FROM_DATA | OF_PARTIES]
    return sorted(found, key=lambda setting: GROUPS.index(setting.group))


def default_text(setting: Setting) -> str:
    """The default for people, as a run has it; empty where there is none."""
    return DERIVED.get(setting.name, setting.default_text)


def help_text(setting: Setting) -> str:
    """A setting's description with its bounds and its default."""
    text = setting.description
    if text[1:2].islower():
        text = text[0].lower() + text[1:]
    notes = [] if setting.choices else [setting.bounds]
    if default := default_text(setting):
        notes.append(f"default: {default}")
    note = "; ".join(filter(None, notes))
    return (f"{text} ({note})" if note else text).replace("%", "%%")


class _Store(argparse.Action):
    """Collects the given settings as `arguments.settings`, by name."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        given = {**(getattr(namespace, "settings", None) or {}), self.dest: values}
        namespace.settings = given


def add_flag(
    group: argparse._ArgumentGroup, setting: Setting, model: type[ExperimentConfig]
) -> None:
    """Add a setting's flag to the group."""
    metavar = {"integer": "N", "number": "X"}.get(setting.kind, "TEXT")
    if setting.choices:
        metavar = "{" + ",".join(setting.choices) + "}"
    elif setting.kind == "boolean":
        metavar = "{true,false}"
    group.add_argument(
        flag_of(setting.name),
        dest=setting.name,
        action=_Store,
        default=argparse.SUPPRESS,
        type=_reader(setting, model),
        metavar=metavar,
        help=help_text(setting),
    )


def _reader(setting: Setting, model: type[ExperimentConfig]) -> Callable[[str], Any]:
    """Reads a flag's word. It raises argparse.ArgumentTypeError with the setting's bounds."""

    def read(text: str) -> Any:
        if setting.nullable and text == "none":
            return None
        value: Any = text
        try:
            if setting.kind == "integer":
                value = int(text)
            elif setting.kind == "number":
                value = float(text)
            elif setting.kind == "boolean":
                value = {"true": True, "false": False}[text]
        except (ValueError, KeyError):
            pass  # the word itself is no value: the next line says what is one
        if (wrong := fault(model, setting, value)) is not None:
            raise argparse.ArgumentTypeError(wrong + values.suggestion(text, setting.choices))
        return value

    return read


def effective(
    given: Given,
    *,
    dataset: str,
    dataset_size: int,
    model: str,
) -> ExperimentConfig:
    """The settings of a run: those given, then those derived from its data, then the defaults.

    Raises UsageError where two contradict each other, in the words of who gave them.
    """
    found, declared = given.values, given.declared
    clients = found.get("clients", declared.model_fields["clients"].default)
    per_round = declared.model_fields["clients_per_round"].default
    batch = declared.model_fields["batch_size"].default
    derived = {
        "clients_per_round": min(per_round, clients),
        "batch_size": 10 if dataset_size // clients < _SMALL_SHARD else batch,
    }
    own = {"dataset": dataset, "dataset_size": dataset_size, "model": model}
    config = declared(**(derived | found | own))
    try:
        config.to_config()
    except InvalidConfig as error:
        raise UsageError(given.in_own_words(error.message)) from error
    return config
