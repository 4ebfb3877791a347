"""Prints docs/settings.md: `python -m client_sdk.cli.settings_table > docs/settings.md`."""

from __future__ import annotations

from collections.abc import Iterable

from client_sdk.cli.run_settings import RunSettings
from client_sdk.cli.settings import TITLES, default_text, flag_of, shown_settings
from serverless_fl.wire.config import ExperimentConfig
from serverless_fl.wire.settings import AlternativeSettings, Setting

_HEAD = """\
# The settings of an experiment

Each row is a flag of the command `run`, a key of a TOML file and a field of `config` in the API's
body `POST /v1/experiments`. `run --config FILE` reads a file; a flag wins over it. A run leaves its
own settings in `runs/TIME/config.toml`, and `run --config` makes the same run of it.

```toml
[data]
dataset = "digits"
clients = 20

[schedule]
rounds = 50

[stopping]
target_accuracy = 0.97
patience = 2
```

Some settings choose an alternative that has settings of its own. Each alternative has a section
below its group. A flag or key of an alternative that was not chosen is refused. In a file these
settings stand in the table of their group; in the API they stand in an object with the name.
`split` and its settings are of `run`, `split` and files alone: no coordinator knows splits.

```toml
[strategy]
name = "fedadam"  # or strategy = "fedadam"
server_learning_rate = 0.1
```

```json
{"strategy": {"name": "fedadam", "server_learning_rate": 0.1}}
```

A file may also hold `dataset`, `data_dir`, `label`, `kinds`, `image_size` and `fit` in `[data]`,
`model` and `task` in `[training]`, and `name`, `kernel` and `engine` in `[run]`, as `run --help`
explains them. `none` on the command line takes a value of the file away where a setting has no
default. The API also needs `dataset`, `dataset_size` and `model`, which `run` takes from its data.
"""
_FOOT = """
`client_sdk/cli/settings_table.py` prints this page from the declarations in
`serverless_fl/wire/config.py`; [extending.md](extending.md) shows how to add a setting.
"""


def page(declared: type[ExperimentConfig] = RunSettings) -> str:
    """The page, in Markdown."""
    found = shown_settings(declared)
    parts = [_HEAD]
    for group, title in TITLES.items():
        own = [setting for setting in found if setting.group == group and not setting.choice]
        parts.append(f"\n## [{group}]: {title}\n\n{_table(own)}")
        for choice in own:
            parts += [_section(choice, alternative) for alternative in choice.alternatives]
    return "".join([*parts, _FOOT])


def _section(choice: Setting, alternative: AlternativeSettings) -> str:
    """The settings of an alternative."""
    table = _table(alternative.settings.values()) if alternative.settings else ""
    title = f"### {choice.name} = {alternative.name}"
    return f"\n{title}\n\n{alternative.summary}\n" + (f"\n{table}" if table else "")


def _table(settings: Iterable[Setting]) -> str:
    head = "| flag | key | default | values | what it does |\n|---|---|---|---|---|\n"
    return head + "".join(_row(setting) for setting in settings)


def _row(setting: Setting) -> str:
    cells = [
        f"`{flag_of(setting.name)}`",
        f"`{setting.name}`",
        default_text(setting),
        setting.bounds,
        setting.description,
    ]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


if __name__ == "__main__":
    print(page(), end="")
