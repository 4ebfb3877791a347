"""The last lines of a run: its results in a few sentences."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from client_sdk import hints
from client_sdk.results import by_site, cost, figures, personal
from client_sdk.results.console import Output, human_bytes
from client_sdk.results.progress import rounds_table
from client_sdk.simulation.outcome import Row
from client_sdk.task.evaluation import Classes


def print_summary(
    console: Output,
    result: dict[str, Any],
    rows: list[Row],
    classes: Classes | None,
    files: list[Path],
) -> None:
    """Print how the run ended, the table of rounds, what the last model is worth, and the files."""
    for line in headline(result):
        console.say(line)
    console.print(rounds_table(rows))
    for line in _quality(result, classes):
        console.say(line)
    for line in result["warnings"]:
        console.say(f"warning: {line}", style="yellow")
    if spent := result.get("privacy"):
        console.say(
            f"privacy: epsilon {spent['epsilon']:.3g} at delta {spent['delta']:g}. "
            f"{spent['meaning']}"
        )
    if result["cost"]:
        console.say(cost.sentence(result["cost"]))
    for file in files:
        console.say(f"wrote {file}")
    model = next((f for f in files if f.suffix == ".safetensors"), None)
    if rows and not classes:
        return  # a task of the user's own, which `predict` cannot read pictures for
    console.say(f"try it: {hints.command('predict', 'FILE...', '--model', str(model))}")


def headline(result: dict[str, Any]) -> Iterator[str]:
    """How the run ended, and the clients that are missing in models, with the reason."""
    yield f"{result['state']}: {result['reason']}"
    for left in result.get("left_out", ()):  # older reports have none
        yield f"{left['client']}: {left['reason'][0].lower()}{left['reason'][1:]}"
    for refusal in result["always_refused"]:
        yield (
            f"{refusal['client']} took part for nothing: each of its updates was refused "
            f"({refusal['reason']})"
        )


def _quality(result: dict[str, Any], classes: Classes | None) -> Iterator[str]:
    totals = result["totals"]
    if not totals["final_metrics"]:
        return
    yield (
        f"{_worth(totals)}; "
        f"{totals['wall_seconds']:.1f} s, {human_bytes(totals['bytes_up'])} up, "
        f"{human_bytes(totals['bytes_down'])} down"
    )
    if classes:
        yield worst_class(classes)
    reports = result["models"][-1]["clients"]
    if reports:
        yield (
            f"on the clients' own held-out data: {_leading(reports['metrics'])} "
            f"({reports['clients']} clients, {reports['examples']} examples)"
        )
    if result.get("sites"):
        yield by_site.sentence(result["sites"])
    if result.get("test_sites"):
        yield by_site.test_sentence(result["test_sites"])
    if result.get("personal"):
        yield personal.sentence(result["personal"])


def _worth(totals: dict[str, Any]) -> str:
    """The last model on the test set, beside the best one."""
    if totals["final_accuracy"] is None:
        return f"final {figures.in_words(totals['final_metrics'])} on the test set"
    others = {k: v for k, v in totals["final_metrics"].items() if k != "accuracy"}
    sentence = (
        f"final accuracy {totals['final_accuracy']:.2%} on the test set "
        f"(best {totals['best_accuracy']:.2%}, round {totals['best_round']})"
    )
    return f"{sentence}, {figures.in_words(others)}" if others else sentence


def _leading(metrics: dict[str, float]) -> str:
    name = next(iter(sorted(metrics, key=lambda n: (n != "accuracy", n != "loss"))))
    return f"{name} {figures.number(name, metrics[name])}"


def worst_class(classes: Classes) -> str:
    """The class of the lowest accuracy, and the one that the model most often takes it for."""
    label = classes.worst
    share, confused = classes.by_class[label], classes.taken_for(label)
    others = f", most often taken for {classes.names[confused[0]]}" if confused else ""
    return f"worst class: {classes.names[label]}, {share:.2%} of {classes.examples[label]}{others}"
