"""Prints docs/algorithms.md: `python -m client_sdk.cli.algorithms_table > docs/algorithms.md`."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence

from serverless_fl.aggregation import STRATEGIES
from serverless_fl.aggregation.strategy import Reduction, Strategy
from serverless_fl.wire.settings import number_text, settings_of

_HEAD = """\
# Algorithms

A strategy makes the next model of a round's updates. Start with FedAvg; the first table says what
to try when it falls short, and each strategy's section has its paper, its settings and its needs.

Clipping is no strategy of its own: with `max_update_norm` ([settings](settings.md)) an update that
moves further from the global model than that is shortened or refused, whatever the strategy. It
bounds what one client can do, and the mean stays a mean; the robust strategies below leave out what
looks malicious, and lose more of the honest clients' work. It bounds an update's weights, and not
the controls that SCAFFOLD's updates carry beside them: choose SCAFFOLD if you trust the clients.

[measurements.md](measurements.md#algorithms) compares them on MNIST: labels that differ between
clients, malicious clients, stragglers under each schedule, and published tables.
"""
_FAMILIES = {
    "Means": "One pass over the updates, and nothing to keep between rounds.",
    "Means with a state": "One pass over the updates. Each array of the state is as large as the "
    "model, and stored with every version of it.",
    "Robust against malicious clients": "They compare all updates of a round. Clients count alike, "
    "except in the geometric median.",
}
_REDUCTIONS = {
    Reduction.MEAN: "a weighted mean, one update at a time",
    Reduction.COLUMNS: "all values of each weight side by side",
    Reduction.GEOMETRY: "the distances between whole updates, then a mean: two passes",
    Reduction.CHOSEN_COLUMNS: "the distances between whole updates, then all values of each weight "
    "of the chosen ones: two passes",
}
_FOOT = """
`client_sdk/cli/algorithms_table.py` prints this page from the strategies in
`serverless_fl/aggregation`.
"""
_LARGEST_ROUND = 10_000  # updates


def page(strategies: Sequence[type[Strategy]] = STRATEGIES) -> str:
    """The page, in Markdown."""
    parts = [_HEAD]
    for family, about in _FAMILIES.items():
        own = [strategy for strategy in strategies if _family(strategy) == family]
        rows = "".join(
            f"| [{s.__name__}](#{s.__name__.lower()}) | {_paragraph(s, '')} "
            f"| {_paragraph(s, 'Choose it when ')} |\n"
            for s in own
        )
        head = "| strategy | what it does | choose it when |\n|---|---|---|\n"
        parts.append(f"\n## {family}\n\n{about}\n\n{head}{rows}")
    parts += [_section(strategy) for strategy in strategies]
    return "".join([*parts, _FOOT])


def _section(strategy: type[Strategy]) -> str:
    example = strategy(name=strategy.model_fields["name"].default)
    facts = [f"- It reads {_REDUCTIONS[strategy.reduction]}."]
    if least := _smallest_round(example):
        facts.append(f"- A round needs at least {least} updates, with the defaults.")
    if example.state:
        facts.append(f"- State: {_listed(example.state)}.")
    if strategy.needs:
        facts.append(f"- Every update must carry the metric {_listed(strategy.needs)}.")
    if strategy.companions:
        facts.append(
            f"- Every update also carries {_listed(strategy.companions)}, as large as the model."
        )
    if strategy.broadcast:
        facts.append(f"- Clients get {_listed(strategy.broadcast)} of the state with the model.")
    if strategy.remembers:
        facts.append("- Every client keeps an array as large as the model, in a file of its own.")
    if strategy.remembers or example.pull:
        facts.append(
            "- It corrects gradients: tasks of PyTorch can do that, and others refuse to train."
        )
    lines = "\n".join(facts)
    title = f'\n## {strategy.__name__}\n\n`strategy = "{example.name}"`\n'
    return f"{title}\n{_paragraph(strategy, 'arXiv:')}\n\n{lines}\n{_settings(strategy)}"


def _settings(strategy: type[Strategy]) -> str:
    settings = [s for s in settings_of(strategy).values() if s.name != "name"]
    rows = "".join(
        f"| `{s.name}` | {'' if s.default is None else number_text(s.default)} "
        f"| {s.bounds} | {s.description} |\n"
        for s in settings
    )
    head = "\n| setting | default | values | what it does |\n|---|---|---|---|\n"
    return head + rows if rows else ""


def _paragraph(strategy: type[Strategy], mark: str) -> str:
    """The docstring's first paragraph with the mark, in one line; without a mark that it begins
    with. Raises ValueError if there is none.
    """
    for paragraph in inspect.getdoc(strategy).split("\n\n"):  # type: ignore[union-attr]
        if mark in paragraph:
            line = " ".join(paragraph.split()).removeprefix(mark)
            return line.replace("|", "\\|")
    raise ValueError(f"the docstring of {strategy.__name__} has no paragraph with {mark!r}")


def _family(strategy: type[Strategy]) -> str:
    means, with_state, robust = _FAMILIES
    if strategy.reduction is not Reduction.MEAN:
        return robust
    return with_state if strategy(name=strategy.model_fields["name"].default).state else means


def _smallest_round(strategy: Strategy) -> int | None:
    """The fewest updates that suffice; None if any number does."""
    least = next(n for n in range(1, _LARGEST_ROUND) if strategy.fault(n) is None)
    return least if least > 1 else None


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


if __name__ == "__main__":
    print(page(), end="")
