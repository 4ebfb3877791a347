"""The command `create`: an experiment whose parties bring data of their own."""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
from collections.abc import Iterator
from dataclasses import replace

from client_sdk import hints
from client_sdk.api.client import CoordinatorClient
from client_sdk.cli import own_task
from client_sdk.cli.run_table import parse_kinds
from client_sdk.cli.settings import effective
from client_sdk.data.preparation import parse_size
from client_sdk.errors import UsageError
from client_sdk.results.console import Output
from client_sdk.task import weights_file
from client_sdk.task.agreeing import facts_of
from client_sdk.task.initial import initial_file
from client_sdk.task.model_file import read_file
from client_sdk.task.own_data.describing import Look, Plan, plan_of, plan_of_model
from serverless_fl.domain.agreement import Agreement
from serverless_fl.domain.experiment import FEDERATED
from serverless_fl.schedule.selection.responsive import Responsive
from serverless_fl.schedule.synchronous import Synchronous
from serverless_fl.wire.config import ExperimentConfig


async def execute(arguments: argparse.Namespace, console: Output) -> int:
    """Create the experiment and print the command with which a party joins it."""
    if not arguments.admin_key:
        raise UsageError("create needs the coordinator's admin key: set FL_ADMIN_KEY.")
    if "clients" not in arguments.settings.values:
        raise UsageError("Say with --clients how many parties there are.")
    federated = _is_federated(arguments)
    flags = {**arguments.settings.flags, **({"normalisation": FEDERATED} if federated else {})}
    arguments.settings = replace(arguments.settings, flags=flags, own_data=True)
    plan = await asyncio.to_thread(_plan, arguments, federated)
    for note in plan.notes:
        console.say(note)
    config = effective(
        arguments.settings, dataset=plan.data, dataset_size=None, model=plan.task.name
    )
    async with CoordinatorClient(
        arguments.server, arguments.admin_key, on_retry=console.say
    ) as client:
        made = await client.create_experiment(arguments.name, config, secrets.token_hex(16))
        initial = await asyncio.to_thread(plan.initial, config.seed)
        await client.upload_initial_model(made.id, initial, made.part_bytes, direct=made.direct)
    join = join_command(arguments.server, made.id, arguments.label, arguments.task)
    if arguments.json:
        print(json.dumps({"id": made.id, "enrolment_key": made.enrolment_key, "join": join}))
        return 0
    console.say(
        f"experiment {made.id}: {plan.task.name}, {config.rounds} rounds; begins when "
        f"{config.min_clients or config.clients} parties have joined"
    )
    for line in _about_absent_parties(config):
        console.say(line)
    console.say("Hand the enrolment key to each party by a safe way. A party joins with:")
    console.say(f"  export FL_ENROL_KEY={made.enrolment_key}")
    console.say(f"  {join}")
    return 0


def _about_absent_parties(config: ExperimentConfig) -> Iterator[str]:
    """What the settings do about parties that are slow or silent, with the flags that change it."""
    rules, schedule, selection = config.to_config(), config.schedule, config.selection
    if isinstance(schedule, Synchronous):
        waits = latest = f"{config.deadline_seconds:g} s (--deadline)"
        if schedule.grace_seconds is not None:
            grace = f"{schedule.grace_seconds:g} s for the others (--grace-seconds)"
            waits = f"{grace}, and at most {waits}"
        enough, asked = rules.updates_to_close, config.clients_per_round
        if enough < asked:
            waits = f"once {enough} of {asked} have (--quorum), {waits}"
        else:
            waits = f"its quorum is all of them (--quorum), and it takes at most {latest}"
        yield f"a round waits until all that it asks have reported; {waits}"
    if isinstance(selection, Responsive):
        rests = f"; a silent party rests for up to {selection.rest_rounds} rounds (--rest-rounds)"
        yield (
            "slow and silent parties are asked less often (--selection responsive)"
            + rests * bool(selection.rest_rounds)
        )


def _plan(arguments: argparse.Namespace, federated: bool) -> Plan:
    """What the parties learn, and from what data. Raises UsageError, DataError."""
    path = arguments.initial_model
    if arguments.task is not None:
        task = own_task.load_task(arguments.task)
        begun = None
        if path is not None:
            begun = weights_file.read(initial_file(task, path, str(path)))
        return Plan(task, Agreement(facts_of(task)), task.name, begun=begun)
    if path is None:
        return plan_of(_look(arguments), federated=federated)
    if _look(arguments) != Look():
        raise UsageError(
            "The --initial-model says what the parties' data look like: leave out the other words."
        )
    return plan_of_model(read_file(path), str(path), federated=federated)


def _is_federated(arguments: argparse.Namespace) -> bool:
    """Whether the parties' sums fix the scales: those of tables, unless somebody says otherwise.

    Raises UsageError.
    """
    is_table = arguments.label is not None or bool(arguments.columns)
    said = arguments.settings.values.get("normalisation")
    if arguments.initial_model is not None and not is_table:
        return bool(said == FEDERATED)
    if said == FEDERATED and not is_table:
        raise UsageError("--normalisation federated is for tables: give --label.")
    return is_table and said in (None, FEDERATED)


def join_command(server: str, experiment: str, label: str | None, task: str | None) -> str:
    """What a party types; NAME, PATH and MODULE:DATA are its own."""
    words = ["join", "--server", server, "--experiment", experiment]
    words += ["--name", "NAME", "--data", "MODULE:DATA" if task else "PATH"]
    words += ["--task", task] if task else []
    words += ["--label", label] if label else []
    return hints.command_elsewhere(*words)


def _look(arguments: argparse.Namespace) -> Look:
    classes = tuple(w.strip() for w in (arguments.classes or "").split(",") if w.strip())
    return Look(
        like=arguments.like,
        label=arguments.label,
        kinds=parse_kinds(arguments.kinds),
        columns=tuple(arguments.columns),
        classes=classes,
        size=parse_size(arguments.image_size) if arguments.image_size else None,
        grey=arguments.grey,
        model=arguments.model,
    )
