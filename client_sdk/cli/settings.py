"""The experiment's settings on the command line: their flags, and what a run makes of them.

Flags and checks are made from `ExperimentConfig`, where each setting is declared.
"""

from __future__ import annotations

import argparse
import re
import shutil
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from client_sdk.cli import values
from client_sdk.errors import UsageError
from serverless_fl.alternatives import NAME
from serverless_fl.domain.errors import InvalidConfig
from serverless_fl.domain.experiment import OWN, SYNCHRONOUS
from serverless_fl.wire.config import ExperimentConfig, own_data_choices
from serverless_fl.wire.settings import GROUPS, Setting, fault, listed, settings_of

FROM_DATA = frozenset({"dataset", "dataset_size", "model"})  # a run takes them from its data
OF_PARTIES = frozenset(  # a run shares out a common data set
    {"data", "max_examples_per_client", "normalisation"}
)
BY_COLUMN = "by-column"  # the split of data that came as those of sites
_OTHER_FLAGS = {"deadline_seconds": "--deadline"}  # where the flag is not the setting's name
_SMALL_SHARD = 200  # examples; in a smaller one an epoch of batches of 50 has few steps
DERIVED = {  # defaults that a run derives from its data
    "clients_per_round": "10, or all where there are fewer",
    "batch_size": f"50; 10 where shards are under {_SMALL_SHARD} examples",
}
DERIVED_OF_OWN = {  # the same, where each party brings data of its own
    **DERIVED,
    "clients": "none",
    "batch_size": "10",
    "normalisation": "federated for tables, else given",
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
    own_data: bool = False  # parties bring data of their own, so some defaults are others
    of_sites: bool = False  # the data of a run came as those of sites

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
        names = "|".join(settings_of(self.declared))
        return re.sub(rf"\b({names})(?= \()", lambda match: self.name(match[1]), message)

    def chosen(self, choice: Setting) -> str:
        """The name of the alternative that was chosen, or that is the default."""
        usual = self._usual().get(choice.name, {NAME: choice.default})
        name: str = self.values.get(choice.name, usual[NAME])
        return name

    def _usual(self) -> Mapping[str, Mapping[str, Any]]:
        """The choices that are made where nobody says more, as far as the data decide them."""
        if self.of_sites:
            return {"split": {NAME: BY_COLUMN}}
        schedule = self.values.get("schedule", SYNCHRONOUS.name)
        if not self.own_data or schedule != SYNCHRONOUS.name:
            return {}
        deadline, secure = (
            self.values.get(name, self.declared.model_fields[name].default)
            for name in ("deadline_seconds", "secure_aggregation")
        )
        return own_data_choices(deadline, secure=secure != "off")

    def nested(self) -> dict[str, Any]:
        """What was set, with the settings of alternatives inside of their choices.

        A flag that chooses another alternative than the file leaves out what the file says of its
        own. Raises UsageError for a setting that the chosen alternative does not have.
        """
        declared = settings_of(self.declared)
        found = {name: value for name, value in self.values.items() if not declared[name].choice}
        for choice in (setting for setting in declared.values() if setting.alternatives):
            name = self.chosen(choice)
            replaced = choice.name in self.in_file and self.in_file[choice.name] != name
            given = {**({} if replaced else self.in_file), **self.flags}
            own = {k: v for k, v in given.items() if declared[k].choice == choice.name}
            for setting in own:
                if name not in (takers := declared[setting].taken_by):
                    raise UsageError(
                        f"{self.name(setting)} is a setting of {listed(takers)}; "
                        f"the {choice.name} is {name}."
                    )
            usual = self._usual().get(choice.name, {})
            own = {**usual, **own} if usual.get(NAME) == name else own
            if own or choice.name in found:
                found[choice.name] = {NAME: name, **own}
        return found


def flag_of(setting: str) -> str:
    """The flag of a setting."""
    return _OTHER_FLAGS.get(setting, "--" + setting.replace("_", "-"))


def shown_settings(model: type[ExperimentConfig], *, own_data: bool = False) -> list[Setting]:
    """The settings that have a flag, group by group; those of alternatives behind the choice.

    `own_data`: with those of an experiment whose parties bring data of their own.
    """
    hidden = FROM_DATA | ({"data"} if own_data else OF_PARTIES)
    found = [s for s in settings_of(model).values() if s.name not in hidden]
    return sorted(found, key=lambda setting: GROUPS.index(setting.group))


def default_text(setting: Setting, *, own_data: bool = False) -> str:
    """The default for people, as a run has it; empty where there is none."""
    derived = DERIVED_OF_OWN if own_data else DERIVED
    return derived.get(setting.name, setting.default_text)


def help_text(setting: Setting, *, own_data: bool = False) -> str:
    """A setting's description with its bounds and its default."""
    text = setting.description
    if text.split(" ", 1)[0][1:].islower() or text.startswith("A "):  # else a name: FedProx
        text = text[0].lower() + text[1:]
    notes = [] if setting.choices else [setting.bounds]
    if default := default_text(setting, own_data=own_data):
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


Groups = Mapping[tuple[str, tuple[str, ...]], argparse._ArgumentGroup]


def add_groups(
    parser: argparse.ArgumentParser, model: type[ExperimentConfig], *, own_data: bool = False
) -> Groups:
    """Add the groups of settings to a parser's help.

    A group's settings are by `(name, ())`. Those of alternatives follow, by the group's name and
    the alternatives that take them.
    """
    found: dict[tuple[str, tuple[str, ...]], argparse._ArgumentGroup] = {}
    for name, title in TITLES.items():
        shown = shown_settings(model, own_data=own_data)
        members = [setting for setting in shown if setting.group == name]
        about = [_alternatives_text(setting) for setting in members if setting.alternatives]
        found[name, ()] = parser.add_argument_group(title, "\n\n".join(about) or None)
        for takers in dict.fromkeys(tuple(setting.taken_by) for setting in members):
            if takers:
                title_of_takers = f"{title}: settings of {listed(takers)}"
                found[name, takers] = parser.add_argument_group(title_of_takers)
    return found


def _alternatives_text(choice: Setting) -> str:
    """A line for each alternative, as wide as the terminal."""
    width = max(len(alternative.name) for alternative in choice.alternatives) + 4
    lines = [
        textwrap.fill(
            alternative.summary,
            width=max(width + 20, shutil.get_terminal_size().columns - 4),
            initial_indent=f"  {alternative.name}".ljust(width),
            subsequent_indent=" " * width,
        )
        for alternative in choice.alternatives
    ]
    return "\n".join([f"The alternatives of {flag_of(choice.name)}:", *lines])


def add_flags(groups: Groups, model: type[ExperimentConfig], *, own_data: bool = False) -> None:
    """Add the flag of each setting to its group."""
    for setting in shown_settings(model, own_data=own_data):
        metavar = {"integer": "N", "number": "X"}.get(setting.kind, "TEXT")
        if setting.alternatives:
            metavar = "NAME"
        elif setting.choices:
            metavar = "{" + ",".join(setting.choices) + "}"
        elif setting.kind == "boolean":
            metavar = "{true,false}"
        groups[setting.group, tuple(setting.taken_by)].add_argument(
            flag_of(setting.name),
            dest=setting.name,
            action=_Store,
            default=argparse.SUPPRESS,
            type=_reader(setting, model),
            metavar=metavar,
            help=help_text(setting, own_data=own_data),
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
    dataset_size: int | None,
    model: str,
    clients: int | None = None,
) -> ExperimentConfig:
    """The settings of a run: those given, then those derived from its data, then the defaults.

    `clients` is their number where the data say it. Without a `dataset_size` each party brings
    data of its own. Raises UsageError where two contradict each other, in the words of who gave
    them.
    """
    declared = given.declared
    found = given.nested()
    wanted = found.get("clients", clients or declared.model_fields["clients"].default)
    if clients is not None and wanted != clients:
        raise UsageError(
            f"{given.name('clients')} ({wanted}) is not the number of sites, which is {clients}."
        )
    clients = wanted
    per_round = declared.model_fields["clients_per_round"].default
    batch = declared.model_fields["batch_size"].default
    derived = {
        "clients": clients,
        "clients_per_round": min(per_round, clients),
        "batch_size": 10 if (dataset_size or 0) // clients < _SMALL_SHARD else batch,
    }
    own = {"dataset": dataset, "dataset_size": dataset_size, "model": model}
    if dataset_size is None:
        own["data"] = OWN
    try:
        config = declared(**(derived | found | own))
        config.to_config()
    except ValidationError as error:  # settings of an alternative that contradict each other
        raise UsageError(f"{error.errors()[0]['msg']}.") from error
    except InvalidConfig as error:
        raise UsageError(given.in_own_words(error.message)) from error
    return config
