"""The tables of figures in README and docs, written from the files in benchmarks/results/.

    python -m benchmarks.readme [--check]

Each table stands between a `<!-- figures: NAME -->` and an `<!-- end -->`; what is there is
replaced. With `--check` nothing is written, and a page that differs is an error (exit code 1). No
figure of these tables is typed: docs/measurements.md says how each is measured.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from benchmarks import epsilons, membership
from benchmarks.algorithms import norm_bounds, report
from benchmarks.intervals import in_points, mean_interval, paired, sampling_error
from benchmarks.peers import masked_rounds
from benchmarks.peers.peers import FLOWER, OTHERS, OURS, PLAIN, POINTS
from benchmarks.training.accuracy import RESULTS
from benchmarks.training.local_loop import SHAPES
from benchmarks.words import translated
from client_sdk.task.models import build, spec_for

ROOT = Path(__file__).parents[1]
PAGES = {
    "README.md": "en",
    "README.pt.md": "pt",
    "docs/coordinator.md": "en",
    "docs/measurements.md": "en",
    "docs/privacy.md": "en",
}
BLOCK = re.compile(r"(?<=<!-- figures: )(\w+)( -->\n).*?(?=<!-- end -->)", re.DOTALL)
COMMAND = ".venv/bin/"
Table = list[list[str]]
Runs = list[dict[str, Any]]
Add = Callable[[str, float, float, str, int], None]
CIFAR = {
    "": "the defaults: ten local epochs",
    "-3epochs": "`--local-epochs 3`",
    "-lrfactor": "`--learning-rate-factor 0.7`",
    "-decay": "`--weight-decay 0.005`",
}


def result(name: str) -> dict[str, Any]:
    """A results file's content."""
    found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return found


def accuracy() -> Table:
    heads = ["data", "model", "rounds", "test accuracy: mean, standard deviation"]
    heads += ["95% interval of the mean", "standard error of the test set", "command"]
    rows = [heads, ["---", "---", *["---:"] * 4, "---"]]
    names = {"mnist": "MNIST, {} images", "cifar": "CIFAR-10, {} images from a folder"}
    for name, label in {**names, "digits": "digits, {} images"}.items():
        found = result(f"accuracy-{name}")
        config = found["config"]
        weights = parameters(config["model"])
        finals = [run["final_accuracy"] for run in found["runs"]]
        mean, low_high, spread = statistics.mean(finals), "", "(one seed)"
        if len(finals) > 1:
            low, high = mean_interval(finals)
            low_high = f"{low:.2%} to {high:.2%}"
            spread = f"± {100 * statistics.stdev(finals):.2f} points ({len(finals)} seeds)"
        rows.append(
            [
                label.format(f"{config['dataset_size']:,}"),
                f"two-layer CNN, {weights:,} weights",
                str(config["rounds"]),
                f"{mean:.2%} {spread}",
                low_high,
                f"{100 * sampling_error(mean, found['test_examples']):.2f} points",
                f"`{COMMAND}{_shorter(found['command'])}`",
            ]
        )
    return rows


def _shorter(command: str) -> str:
    """With `$(seq 0 9)` for seeds that follow each other."""
    return re.sub(r"(?<=--seeds )(\d+)(?: \d+){3,} (\d+)", r"$(seq \1 \2)", command)


def parameters(model: str) -> int:
    """The number of weights of one of the SDK's models."""
    network = build(spec_for(model, SHAPES[model], 10))
    return sum(tensor.numel() for tensor in network.parameters())


def speed() -> Table:
    bench, peers = result("bench"), result("peers")
    table = [["", "ours", "the other", "ratio", "runs"], ["---", "---:", "---:", "---:", "---:"]]

    def add(what: str, ours: float, other: float, form: str, runs: int) -> None:
        cells = [format(value, form) for value in (ours, other)]
        table.append([what, *cells, f"{ours / other:.2f}", str(runs)])

    runs = bench["peers"]["default"]
    _pair(add, "MNIST's default run, beside Flower: seconds", runs[OURS], runs[FLOWER])
    _accuracies(table, "... accuracy", runs[OURS], runs[FLOWER])
    runs, rounds = peers["default"], peers["rounds"]
    _pair(add, f"MNIST, {rounds} rounds, beside Flower: seconds", runs[OURS], runs[FLOWER])
    _accuracies(table, "... accuracy", runs[OURS], runs[FLOWER])
    what = f"MNIST, {rounds} rounds, beside PyTorch alone: seconds"
    _pair(add, what, runs[OURS], runs[PLAIN])
    flute = peers["flute"]
    what = f"logistic regression, 1,000 clients, {flute['rounds']} rounds, beside Flower: seconds"
    add(what, flute["ours"]["wall"], flute["Flower"]["wall"], ".1f", 1)
    loop = bench["local_loop"]["mnist-cnn"]
    rate = {name: loop["images"] / seconds for name, seconds in loop["seconds"].items()}
    what = "images a second on one core, beside PyTorch's plain loop"
    add(what, rate["machine code"], rate["plain"], ",.0f", 1)
    sent = {name: run["up"] / 1e3 for name, run in bench["bytes"]["runs"].items()}
    what = "bytes of int8 updates a round, beside float32: kB"
    add(what, sent["delta-int8"], sent["delta-float32"], ".0f", 1)
    cold = bench["coordinator"]["cold_start_seconds"]
    start = {name: 1e3 * statistics.median(found) for name, found in cold.items()}
    what = "cold start of the Lambda entry, beside a bare FastAPI: ms"
    add(what, start["poll"], start["hello"], ".0f", len(cold["poll"]))
    most = bench["aggregation"]["round, 1.7 million, 2000"]
    what = "2,000 updates of 1.7 million weights: the most that one call reads"
    add(what, most["most_updates"], most["clients"], ",.0f", 1)
    return table


def beside() -> Table:
    """Each program on the same rounds of MNIST: seconds, those outside the loop, accuracy."""
    found = result("peers")
    default, rounds = found["default"], found["rounds"]
    heads = ["program", "rounds", "runs", "seconds", "of them outside the training loop"]
    rows = [[*heads, "accuracy", "ours less its accuracy"], ["---", *["---:"] * 5, "---"]]
    for name, runs in default.items():
        one = "one round" in name or name in OTHERS
        ours = default[f"{OURS}, one round"] if one else default[OURS]
        finals = [run["accuracy"][-1] for run in runs]
        compared = ""
        if len(runs) > 1 and name != OURS:
            mine = [run["accuracy"][-1] for run in ours]
            compared = in_points(paired(mine, finals, POINTS), POINTS)
        outside = ""
        if "looped" in runs[0] and not one:
            outside = f"{_outside(runs, found['cores']):.1f}"
        rows.append(
            [
                name,
                "1" if one else str(rounds),
                str(len(runs)),
                f"{statistics.median(run['wall'] for run in runs):.1f}",
                outside,
                f"{statistics.mean(finals):.2%}",
                compared,
            ]
        )
    return rows


def cifar() -> Table:
    """CIFAR-10 under settings that act against over-fitting, beside the default ones."""
    heads = ["settings", "seeds", "test accuracy", "test loss: least, last", "trained images"]
    rows = [[*heads, "default less its accuracy"], ["---", *["---:"] * 4, "---"]]
    default = result("accuracy-cifar")
    for name, words in CIFAR.items():
        if not (RESULTS / f"accuracy-cifar{name}.json").exists():
            continue
        found = result(f"accuracy-cifar{name}")
        finals = {run["seed"]: run["final_accuracy"] for run in found["runs"]}
        plain = {run["seed"]: run["final_accuracy"] for run in default["runs"]}
        both = sorted(finals.keys() & plain.keys())
        compared = ""
        if name and len(both) > 1:
            pairs = [plain[n] for n in both], [finals[n] for n in both]
            compared = in_points(paired(*pairs, POINTS), POINTS)
        config = found["config"]
        images = config["local_epochs"] * config["rounds"] * config["clients_per_round"]
        images *= config["dataset_size"] / config["clients"] * 0.9  # a tenth is held out
        rows.append(
            [
                words,
                str(len(finals)),
                _mean_of(list(finals.values())),
                _losses(found["runs"]),
                f"{images / 1e6:.2f} million",
                compared,
            ]
        )
    return rows


def _mean_of(finals: list[float]) -> str:
    """The mean; of several seeds with its standard deviation and its 95% interval."""
    mean = f"{statistics.mean(finals):.2%}"
    if len(finals) < 2:
        return mean
    low, high = mean_interval(finals)
    return f"{mean} ± {100 * statistics.stdev(finals):.2f} points ({low:.2%} to {high:.2%})"


def _losses(runs: Runs) -> str:
    """Means over the seeds of the least loss of all rounds and of the last round's."""
    least = statistics.mean(min(run["loss_by_round"]) for run in runs)
    return f"{least:.2f}, {statistics.mean(run['loss_by_round'][-1] for run in runs):.2f}"


def _pair(add: Add, what: str, ours: Runs, other: Runs) -> None:
    seconds, others = (statistics.median(run["wall"] for run in runs) for runs in (ours, other))
    add(what, seconds, others, ".1f", len(ours))


def _outside(runs: Runs, cores: int) -> float:
    """The seconds of the command less those in the loops over the cores; the median of the runs."""
    return statistics.median(run["wall"] - run["looped"] / cores for run in runs)


def _accuracies(table: Table, what: str, ours: Runs, other: Runs) -> None:
    finals = [[run["accuracy"][-1] for run in runs] for runs in (ours, other)]
    means = [f"{statistics.mean(found):.2%}" for found in finals]
    table.append(
        [what, *means, in_points(paired(finals[0], finals[1], POINTS), POINTS), str(len(ours))]
    )


def load() -> Table:
    heads = ["store", "clients (a round)", "requests a second"]
    heads += ["a poll while the round waits, median and 99th percentile"]
    heads += ["memory of two workers", "errors"]
    rows = [heads, ["---", *["---:"] * 5]]
    sizes = sorted(result("load")["sizes"], key=lambda s: (s["store"] != "SQLite", s["clients"]))
    for size in sizes:
        if size["store"] != "SQLite" and size["clients"] < 2000:
            continue
        probe = size["milliseconds"]["probe"]
        rows.append(
            [
                "SQLite" if size["store"] == "SQLite" else "MongoDB (nx-27017)",
                f"{size['clients']:,} ({size['clients_per_round']:,})",
                f"{size['requests_per_second']:,}",
                f"{probe['p50']:.0f} and {probe['p99']:.0f} ms",
                f"{size['peak_memory'] / 1e6:.0f} MB",
                str(sum(size["errors"].values()) or "none"),
            ]
        )
    return rows


def platforms() -> Table:
    heads = ["platform", "largest model tried", "cold start", "warm request", "a round of it"]
    rows = [[*heads, "peak memory"], ["---", *["---:"] * 5]]
    for found in result("platforms")["platforms"]:
        rows.append(
            [
                found["platform"],
                f"{found['largest_model'] / 1e6:.0f} MB",
                f"{found['cold_start']:.2f} s",
                f"{1e3 * found['warm_request']:.1f} ms",
                f"{found['round_seconds']:.0f} s",
                f"{found['peak_memory'] / 1e6:.0f} MB",
            ]
        )
    return rows


def breast_cancer() -> Table:
    """The breast-cancer example beside the same in Flower and NVFlare."""
    found = result("breast-cancer")
    heads = ["program", "lines of code", "runs", "seconds of the command, median"]
    rows = [[*heads, "ours over it", "accuracy"], ["---", *["---:"] * 5]]
    ours = found["programs"][0]
    for one in found["programs"]:
        ratio = "" if one is ours else f"{ours['seconds'] / one['seconds']:.2f}"
        figures = [f"{one['seconds']:.1f}", ratio, f"{one['accuracy']:.2%}"]
        rows.append([one["name"], str(one["lines"]), str(found["runs"]), *figures])
    return rows


def poison() -> Table:
    return norm_bounds.table(result("poisoning-mnist"))


def memory() -> Table:
    """Of the calls that aggregate a round: their peak memory, by strategy and updates."""
    heads = ["strategy", "updates of 1.7 million weights", "peak memory", "all updates together"]
    rows = [heads, ["---", *["---:"] * 3]]
    for found in result("memory")["rounds"]:
        together = found["clients"] * found["update_bytes"] / 1e6
        peak = f"{found['peak'] / 1e6:.0f} MB"
        rows.append([found["strategy"], f"{found['clients']:,}", peak, f"{together:,.0f} MB"])
    return rows


def studied(name: str, part: int = 0) -> Table:
    """A table of a study of algorithms, or the command that makes it where nobody has run it."""
    if (RESULTS / f"{name}.json").exists():
        return report.tables(name, result(name))[part]
    return _missing(f"python -m benchmarks.algorithms {name} --data-dir DIR")


def masked(model: str) -> Table:
    """Whole rounds under secure aggregation beside Flower's, or the command that measures them."""
    if masked_rounds.RESULT.exists():
        return masked_rounds.table(result(masked_rounds.RESULT.stem), model)
    return _missing("python -m benchmarks.peers.masked_rounds --keep")


def _missing(command: str) -> Table:
    return [["not measured yet"], ["---"], [f"`{COMMAND}{command}`"]]


def functions() -> Table:
    """An experiment of functions alone: what its clients' turns and its coordinator cost."""
    found = result("functions")
    seconds, clients = found["seconds_of_a_turn"], found["clients_usd_a_round"]
    cells = {
        "clients": str(found["clients"]),
        "rounds": str(found["rounds"]),
        "accuracy": f"{found['accuracy']:.2%}",
        "turns, of them trained": f"{found['turns']}, {found['turns_that_trained']}",
        "seconds of a turn, median": f"{statistics.median(seconds):.2f}",
        "clients, USD a round": f"{clients:.4f}",
        "coordinator, USD a round": f"{found['coordinator_usd_a_round']:.4f}",
    }
    return [list(cells), ["---:"] * len(cells), list(cells.values())]


TABLES: dict[str, Callable[[], Table]] = {
    "accuracy": accuracy,
    "speed": speed,
    "load": load,
    "platforms": platforms,
    "poison": poison,
    "beside": beside,
    "cifar": cifar,
    "breast_cancer": breast_cancer,
    "epsilons": lambda: epsilons.table(result("epsilons")),
    "membership": lambda: membership.table(result("membership")),
    "memory": memory,
    "functions": functions,
    "masked_rounds": lambda: masked("1.7 million"),
    "masked_rounds_small": lambda: masked("22 thousand"),
    "labels": lambda: studied("labels"),
    "labels_costs": lambda: studied("labels", 1),
    "malicious": lambda: studied("malicious"),
    "backdoors": lambda: studied("malicious", 1),
    "stragglers": lambda: studied("stragglers"),
    "niid_bench": lambda: studied("niid-bench"),
    "mcmahan": lambda: studied("mcmahan"),
}


def lines(table: Iterable[list[str]], language: str) -> str:
    """The table in Markdown. Raises KeyError where words.py has no translation of a cell."""
    cells = ([translated(cell, language) for cell in row] for row in table)
    return "".join(f"| {' | '.join(row)} |\n".replace("|  |", "| |") for row in cells)


def written(page: str, language: str) -> str:
    """A page's text with its tables as the results give them."""
    return BLOCK.sub(lambda m: m[1] + m[2] + lines(TABLES[m[1]](), language), page)


def main() -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    check, differ = parser.parse_args().check, []
    for name, language in PAGES.items():
        page = (ROOT / name).read_text(encoding="utf-8")
        new = written(page, language)
        differ += [name] * (new != page)
        if not check:
            (ROOT / name).write_text(new, encoding="utf-8")
    if check and differ:
        print(f"These pages differ from their results: {', '.join(differ)}.", file=sys.stderr)
    return int(check and bool(differ))


if __name__ == "__main__":
    sys.exit(main())
