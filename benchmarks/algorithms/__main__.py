"""Tables that help to choose a strategy and a schedule; a study each, or all of them.

    python -m benchmarks.algorithms labels --data-dir DIR --seeds 0 1 2 3 4
    python -m benchmarks.algorithms malicious --full --data-dir DIR

The studies are labels, malicious, stragglers, niid-bench and mcmahan (`studies.py`). Writes
benchmarks/results/NAME.json after each run and NAME.png at the end. Runs that the file already has
are not made again, so a command that was interrupted goes on, and more seeds join the others.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks.algorithms.jobs import key, one
from benchmarks.algorithms.report import draw, tables
from benchmarks.algorithms.studies import STUDIES
from benchmarks.training.accuracy import RESULTS, machine


def study(name: str, arguments: argparse.Namespace) -> None:
    """Make the runs of a study that are missing, and write its file and its plot."""
    full, dataset = arguments.full, arguments.dataset
    form = STUDIES[name].long if full else STUDIES[name].short
    suffix = "" if dataset == "mnist" else f"-{arguments.name or dataset}"
    file = RESULTS / f"{name}{suffix}.json"
    record: dict[str, Any] = {
        "command": f"python -m benchmarks.algorithms {name}{' --full' if full else ''}"
        f"{'' if dataset == 'mnist' else ' --dataset DIR'} --data-dir DIR",
        "machine": machine(),
        "form": json.loads(json.dumps(dataclasses.asdict(form))),
        "runs": [],
    }
    if file.exists() and not arguments.again:
        before = json.loads(file.read_text(encoding="utf-8"))
        if before["form"] == record["form"]:
            record["runs"] = before["runs"]
    known = {(r["row"], r["column"], r["seed"], r["case"]) for r in record["runs"]}
    wanted = [
        (case, seed)
        for seed in arguments.seeds
        for case in STUDIES[name].cases(form)
        if tuple(key(case, seed).values()) not in known
    ]
    RESULTS.mkdir(exist_ok=True)
    with ProcessPoolExecutor(arguments.jobs, mp_context=get_context("spawn")) as pool:
        jobs: list[Future[Any]] = [
            pool.submit(one, name, full, dataset, arguments.data_dir, *pair) for pair in wanted
        ]
        for job in as_completed(jobs):
            found = job.result()
            record["runs"].append(found)
            file.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
            last = found["rounds"][-1] if found["rounds"] else {}
            print(
                f"{found['row']}, {found['column']}, seed {found['seed']}: "
                f"{last.get('accuracy', float('nan')):.2%} after {last.get('round', 0)} rounds",
                flush=True,
            )
    for table in tables(name, record):
        print(*(f"| {' | '.join(row)} |" for row in table), sep="\n")
    draw(name, record, RESULTS / f"{name}{suffix}.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("study", choices=[*STUDIES, "all"])
    parser.add_argument("--full", action="store_true", help="the long form")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side")
    parser.add_argument("--dataset", default="mnist", help="or a folder of pictures (niid-bench)")
    parser.add_argument("--name", help="of the data set, in the results file's name")
    parser.add_argument("--data-dir", type=Path, default=Path("data"), help="where MNIST lies")
    parser.add_argument("--again", action="store_true", help="make all runs anew")
    arguments = parser.parse_args()
    for name in STUDIES if arguments.study == "all" else [arguments.study]:
        study(name, arguments)


if __name__ == "__main__":
    main()
