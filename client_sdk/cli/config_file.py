"""Settings in TOML: `--config` reads a file, and a run writes the one that it was made with."""

from __future__ import annotations

import json
import tomllib
from argparse import Namespace
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from client_sdk.cli import values
from client_sdk.cli.settings import shown_settings
from client_sdk.errors import UsageError
from client_sdk.results.files import replace_file
from serverless_fl.alternatives import NAME as CHOSEN
from serverless_fl.wire.config import ExperimentConfig
from serverless_fl.wire.settings import GROUPS, Setting, fault, values_of

NAME = "config.toml"
_MAX_BYTES = 1_000_000
# Flags of `run` that have a key, too, though they are no settings of the coordinator's.
RUN_KEYS: Mapping[str, str] = {
    "dataset": "data",
    "data_dir": "data",
    "image_size": "data",
    "fit": "data",
    "label": "data",
    "kinds": "data",
    "model": "training",
    "task": "training",
    "name": "run",
    "kernel": "run",
    "engine": "run",
}


@dataclass(frozen=True)
class ConfigFile:
    """What a file sets: settings of the experiment, and flags of the run as text."""

    settings: Mapping[str, Any]
    run: Mapping[str, str]


def read(path: Path, model: type[ExperimentConfig] = ExperimentConfig) -> ConfigFile:
    """Read a file. Raises UsageError, which names the file and the key."""
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise UsageError(
                f"{path} is no file of settings: it is longer than {_MAX_BYTES} bytes."
            )
        document = tomllib.loads(content.decode())
    except IsADirectoryError as error:
        inside = f": give {path / NAME}" if (path / NAME).is_file() else ""
        raise UsageError(f"{path} is a folder, and no file of settings{inside}.") from error
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:  # TOMLDecodeError is a ValueError
        raise UsageError(f"{path} is no TOML: {error}.") from error
    declared = {setting.name: setting for setting in shown_settings(model)}
    known = _tables(declared.values())
    settings: dict[str, Any] = {}
    run: dict[str, str] = {}
    for table, body in document.items():
        for key, value in _keys(path, table, _named(path, table, body, declared), known):
            word = CHOSEN if key == table and CHOSEN in body else key
            _check(path, f"{table}.{word}", declared.get(key), value, model)
            if key in RUN_KEYS:
                run[key] = value
            else:
                settings[key] = value
    return ConfigFile(settings, run)


def _tables(declared: Iterable[Setting]) -> dict[str, str]:
    """The table of each key."""
    return {**{setting.name: setting.group for setting in declared}, **RUN_KEYS}


def _named(path: Path, table: str, body: Any, declared: Mapping[str, Setting]) -> Any:
    """A table that has the name of a choice, such as [strategy], may call the choice `name`."""
    choice = declared.get(table)
    if choice is None or not choice.alternatives or choice.group != table:
        return body
    if not isinstance(body, dict) or CHOSEN not in body:
        return body
    if table in body:
        raise UsageError(f"{path}: {table}.{CHOSEN} and {table}.{table} are one setting.")
    return {(table if key == CHOSEN else key): value for key, value in body.items()}


def _keys(path: Path, table: str, body: Any, known: Mapping[str, str]) -> list[tuple[str, Any]]:
    """The keys of a table and their values. Raises UsageError for what is in the wrong place."""
    tables = sorted(set(known.values()), key=(*GROUPS, "run").index)
    if not isinstance(body, dict):
        where = known.get(table)
        hint = f"; it belongs into [{where}]" if where else values.suggestion(table, known)
        raise UsageError(_ended(f"{path}: the key {table} stands in no table{hint}"))
    if table not in tables:
        hint = values.suggestion(table, tables) or f"; there are {', '.join(tables)}"
        raise UsageError(_ended(f"{path}: there is no table [{table}]{hint}"))
    for key in body:
        if known.get(key) != table:
            hint = f"; it belongs into [{known[key]}]" if key in known else ""
            hint = hint or values.suggestion(key, known)
            raise UsageError(_ended(f"{path}: there is no key {table}.{key}{hint}"))
    return list(body.items())


def _check(
    path: Path, shown: str, setting: Setting | None, value: Any, model: type[ExperimentConfig]
) -> None:
    """Raises UsageError for a value that a setting, or (None) a flag of the run, does not take."""
    if setting is None:
        wrong = None if isinstance(value, str) else "must be text"
    else:
        wrong = fault(model, setting, value)
        if wrong is not None and isinstance(value, str):
            wrong += values.suggestion(value, setting.choices)
    if wrong is not None:
        raise UsageError(_ended(f"{path}: {shown} {wrong}"))


def _ended(sentence: str) -> str:
    """The sentence with its full stop; a suggestion ends in a question mark."""
    return sentence if sentence.endswith("?") else f"{sentence}."


def write(out: Path, config: ExperimentConfig, arguments: Namespace, dataset: str) -> None:
    """Write a run's settings into its folder (`text_of`)."""
    text = text_of(config, arguments, dataset)
    replace_file(out / NAME, text.encode(errors="backslashreplace"))


def rounds_of(out: Path) -> int | None:
    """The number of rounds in the settings of a run's folder; None where there are none yet."""
    try:
        document = tomllib.loads((out / NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    rounds = document.get("schedule", {}).get("rounds")
    return rounds if isinstance(rounds, int) else None


def text_of(config: ExperimentConfig, arguments: Namespace, dataset: str) -> str:
    """A run's settings as TOML, of which `--config` makes the same run.

    `dataset` is the name of the set that was found where the argument is `auto`.
    """
    run = {key: getattr(arguments, key) for key in RUN_KEYS}
    run["dataset"] = dataset if run["dataset"] == "auto" else run["dataset"]
    run["model"] = config.model if run["model"] == "auto" else run["model"]
    if run["task"]:
        run["model"] = ""  # the task has it
    found = values_of(config) | run
    lines = [f"# The settings of a run; `run --config {NAME}` makes a run with the same settings."]
    known = _tables(shown_settings(type(config)))
    for table in (*GROUPS, "run"):
        body = {
            key: found[key]
            for key, its_table in known.items()
            if its_table == table and found.get(key) not in (None, "")
        }
        if body:
            lines += ["", f"[{table}]", *(f"{k} = {_value(v)}" for k, v in body.items())]
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    """A value as TOML, which writes numbers and truth as JSON does, and strings nearly so."""
    if isinstance(value, (bool, int, float)):
        return json.dumps(value)
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
