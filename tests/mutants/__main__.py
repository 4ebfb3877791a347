"""Small changes to the code, each made alone: which of them does no test notice?

python -m tests.mutants                           # all of them: a night; goes on where it stopped
python -m tests.mutants --changed main            # of the functions that differ: minutes
python -m tests.mutants --only '*service.rounds*'
python -m tests.mutants --sample 200 --seed 2     # drawn evenly, with an interval of its score
python -m tests.mutants --again                   # those that survived the last time

mutmut makes the changes and runs the tests of each changed function; pyproject.toml says which
files and which tests. A change that no test notices is listed as a survivor, unless a rule in
tests/mutants/harmless.py or a judgement in tests/mutants/equivalent.toml says why none should.
Delete `mutants/`, where mutmut works, to begin anew and after files were moved.
"""

from __future__ import annotations

import argparse
import fnmatch
import math
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.mutants.harmless import harmless
from tests.mutants.mutants import Mutant, equivalents, found, make, touched_since

JUDGED = Path(__file__).parent / "equivalent.toml"


def wilson(hits: int, trials: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % interval of a share (E. B. Wilson, JASA 22, 1927)."""
    share, weight = hits / trials, z * z / trials
    middle = share + weight / 2
    spread = z * math.sqrt(share * (1 - share) / trials + weight / (4 * trials))
    return (middle - spread) / (1 + weight), (middle + spread) / (1 + weight)


def chosen(
    every: list[Mutant], options: argparse.Namespace, excused: Callable[[Mutant], bool]
) -> list[Mutant]:
    """The mutants that the options name. A sample is of those that count."""
    mutants = [m for m in every if fnmatch.fnmatch(m.name, options.only)]
    if options.changed:
        touched = tuple(touched_since(options.changed))
        mutants = [m for m in mutants if m.name.startswith(touched)]
    if options.again:
        mutants = [m for m in mutants if m.unnoticed]
    if options.sample:
        random.Random(options.seed).shuffle(mutants)
        counted = (m for m in mutants if not excused(m))
        mutants = [m for m, _ in zip(counted, range(options.sample), strict=False)]
    return mutants


def report(
    mutants: list[Mutant], excused: Callable[[Mutant], bool], options: argparse.Namespace
) -> int:
    """Print the score and the survivors; 0 if the goal is reached."""
    counted = [m for m in mutants if not excused(m)]
    noticed = [m for m in counted if m.noticed]
    survivors = [m for m in counted if m.unnoticed]
    for mutant in survivors:
        print(f"\n{mutant.name}: {mutant.status}\n{mutant.diff}")
    open_ = len(counted) - len(noticed) - len(survivors)
    trials = len(noticed) + len(survivors)
    if open_:
        print(f"\n{open_} mutants have no result: run it again.")
    if not trials:
        print("No mutant was tried.")
        return 1
    score = len(noticed) / trials
    print(
        f"\n{len(noticed)} of {trials} changes were noticed, {score:.1%}; "
        f"{len(mutants) - len(counted)} more change nothing that a test should notice."
    )
    if options.sample:
        low, high = wilson(len(noticed), trials)
        print(f"95 % interval of the score of all: {low:.1%} to {high:.1%}.")
    return int(bool(open_) or 100 * score < options.goal)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="*", metavar="GLOB", help="names of mutants")
    parser.add_argument("--changed", metavar="REF", help="functions that differ from a commit")
    parser.add_argument("--again", action="store_true", help="survivors of the last time")
    parser.add_argument("--sample", type=int, default=0, metavar="N", help="drawn evenly")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--children", type=int, default=2, help="mutants tried at once")
    parser.add_argument("--goal", type=float, default=92.0, help="per cent, or exit code 1")
    options = parser.parse_args()

    judged = equivalents(JUDGED)

    def excused(mutant: Mutant) -> bool:
        return harmless(mutant.change) or (mutant.function, mutant.change) in judged

    make(options.children)
    every = found()
    names = [m.name for m in chosen(every, options, excused)]
    if not names:
        print("No mutant matches.")
        return 1
    whole = len(names) == len(every)  # then mutmut keeps the results that it has
    mutmut = Path(sys.executable).parent / "mutmut"
    command = [str(mutmut), "run", "--max-children", str(options.children)]
    done = subprocess.run(command + ([] if whole else names), check=False)
    if done.returncode:
        return done.returncode
    tried = set(names)
    return report([m for m in found() if m.name in tried], excused, options)


if __name__ == "__main__":
    sys.exit(main())
