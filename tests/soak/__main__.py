"""The long forms of the tests that go out to break it, and a table of what came of them.

python -m tests.soak                 # about twenty minutes on two cores
python -m tests.soak --scale 0.2     # a fifth of the cases
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time

# What is tried, the tests, and by how much of what they are made long.
LONG = [
    ("SIGKILLs of a real server", "tests/faults/test_sigkill.py", {"SIGKILLS": 60}),
    (
        "requests lost, repeated, shuffled",
        "tests/faults/test_delivery.py",
        {"DELIVERY_EXAMPLES": 800},
    ),
    (
        "death at every write",
        "tests/faults/test_crash.py tests/faults/test_crash_strategies.py "
        "tests/faults/test_crash_masked.py tests/app/service/aggregation/test_dp.py "
        "tests/app/service/aggregation/test_full_groups_faults.py "
        "tests/app/service/experiments/test_deletion.py tests/app/service/rounds/test_retention.py",
        {"EVERY_CASE": 1},
    ),
    (
        "every strategy in every cut of a round, every kind of photograph",
        "tests/app/service/aggregation/test_strategies.py "
        "tests/client_sdk/data/test_photographs.py tests/client_sdk/tools/test_predict.py "
        "tests/client_sdk/tools/test_export.py tests/client_sdk/test_client_halves.py "
        "tests/client_sdk/task/compiled/test_kernel_arguments.py tests/e2e/test_masked.py "
        "tests/page/test_prefix.py",
        {"EVERY_CASE": 1},
    ),
    ("stores away, locked, full", "tests/faults/test_store_away.py", {}),
    ("bad weather on Lambda", "tests/faults/test_bad_weather.py", {"EVERY_CASE": 1}),
    (
        "answers against OpenAPI",
        "tests/fuzz/test_openapi.py",
        {"SCHEMA_EXAMPLES": 60, "EVERY_CASE": 1},
    ),
    ("uploads that are none", "tests/fuzz/test_uploads.py", {"UPLOAD_EXAMPLES": 10_000}),
    ("requests that are none", "tests/fuzz/test_http.py tests/fuzz/test_bodies.py", {}),
]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=float, default=1.0, help="of the numbers of cases")
    parser.add_argument("--only", default="", help="those whose name holds this")
    arguments = parser.parse_args()
    rows, failed = [], False
    for claim, files, amounts in LONG:
        if arguments.only not in claim:
            continue
        scaled = {k: str(max(1, int(n * arguments.scale))) for k, n in amounts.items()}
        started = time.monotonic()
        done = subprocess.run(
            [
                *(sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider"),
                *("-o", "timeout=1800", *files.split()),
            ],
            env=os.environ | scaled,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            failed = True
            print(done.stdout[-8000:], done.stderr[-2000:], sep="\n")
        lines = done.stdout.splitlines()
        figures = [line.partition("figure: ")[2] for line in lines if "figure: " in line]
        seconds = time.monotonic() - started
        rows.append((claim, lines[-1], "; ".join(figures), f"{seconds:.0f} s"))
        print(f"| {' | '.join(rows[-1])} |", flush=True)
    print("\n| what | tests | figures | took |\n|---|---|---|---|")
    for row in rows:
        print(f"| {' | '.join(row)} |")
    return failed


if __name__ == "__main__":
    sys.exit(main())
