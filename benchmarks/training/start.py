"""How long a run takes to its first step of training, and what that costs.

    python -m benchmarks.training.start [--times 3] [--dataset digits] [arguments of run]

For each run it prints the seconds from the command to the first step, the processor's seconds of
all its processes until then, the processes, and how many of them imported PyTorch: a fork has it
from its parent. On a busy machine the processor's seconds tell more. It reads /proc: Linux only.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from client_sdk.task.pictures import PictureTask

MARK = "START_BENCHMARK_MARK"  # the file that the first step writes
TIMEOUT = 300.0


class Marking(PictureTask):
    """The classic task, whose first step of training leaves the time of day in a file."""

    def train(self, *arguments: Any) -> Any:
        """Train; the first training of all writes the mark."""
        try:
            with Path(os.environ[MARK]).open("x") as mark:
                mark.write(f"{time.time()}\n")
        except FileExistsError:
            pass
        return super().train(*arguments)


def task() -> PictureTask:
    """The task for --task, for the data set that the variable DATASET names."""
    from client_sdk.data import datasets
    from client_sdk.task.pictures import picture_task

    where = os.environ.get("START_BENCHMARK_DATA_DIR")
    dataset = datasets.load(os.environ["START_BENCHMARK_DATASET"], Path(where) if where else None)
    plain = picture_task(dataset)
    return Marking(plain.about)


@dataclass(frozen=True)
class Start:
    """One start: seconds, processor's seconds, processes, and imports of PyTorch."""

    seconds: float
    processor: float
    processes: int
    imports: int


def measure(dataset: str, others: list[str]) -> Start:
    """Start a run, wait for its first step, and end it."""
    with tempfile.TemporaryDirectory() as folder:
        mark = Path(folder) / "mark"
        command = [
            *(sys.executable, "-m", "client_sdk", "run", "--clients", "20", "--dataset", dataset),
            *("--task", f"{__spec__.name}:task", "--out", f"{folder}/run", *others),
        ]
        variables = {MARK: str(mark), "START_BENCHMARK_DATASET": dataset}
        begun = time.time()
        process = subprocess.Popen(
            command, env=os.environ | variables, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        try:
            while not mark.exists() or not mark.read_text().endswith("\n"):
                if process.poll() is not None or time.time() > begun + TIMEOUT:
                    assert process.stderr is not None
                    sys.exit(f"The run ended before it trained: {process.stderr.read().decode()}")
                time.sleep(0.005)
            tree = descendants(process.pid)
            processor = sum(map(processor_seconds, tree))
            imports = len({where for pid in tree if (where := place_of_torch(pid))})
            seconds = float(mark.read_text()) - begun
        finally:
            process.terminate()
            process.communicate()
    return Start(seconds, processor, len(tree), imports)


def descendants(root: int) -> set[int]:
    """A process and all that come of it."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            parents[int(entry.name)] = int(fields[1])
    found = {root}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def processor_seconds(pid: int) -> float:
    """The processor's seconds of a process and of its children that have ended."""
    fields = _stat(pid)
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def place_of_torch(pid: int) -> str:
    """Where PyTorch lies in the memory of a process: elsewhere after each import; else empty."""
    try:
        lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition("-")[0] for line in lines if "libtorch_cpu" in line), "")


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat behind the name; none where the process has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def main() -> None:
    """Measure as the command line says, and print a line a start."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--dataset", default="digits")
    arguments, others = parser.parse_known_args()
    for _ in range(arguments.times):
        start = measure(arguments.dataset, others)
        print(
            f"{start.seconds:.2f} s to the first step, {start.processor:.2f} s of processor, "
            f"{start.processes} processes, {start.imports} imported PyTorch",
            flush=True,
        )


if __name__ == "__main__":
    main()
