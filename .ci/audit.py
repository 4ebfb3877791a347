"""Asks a vulnerability service about every pinned version: `make audit`.

pip-audit alone succeeds even if it learns nothing: it "skips" packages that the service does not
know, and behind a package mirror it may skip all. This script fails in that case.

Exit codes: 0 if no version is known to be vulnerable; 1 if one is; 3 if the service did not answer
for every version.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

PINS = Path(__file__).parents[1] / "constraints.txt"
PIP_AUDIT = ("-m", "pip_audit", "--requirement", str(PINS), "--no-deps", "--disable-pip")
SERVICE = ("--vulnerability-service", "osv", "--format", "json", "--progress-spinner", "off")


def main() -> int:
    done = subprocess.run(  # noqa: S603  (our own interpreter and arguments)
        [sys.executable, *PIP_AUDIT, *SERVICE, *sys.argv[1:]],
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        found = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        last = done.stderr.strip().splitlines()[-1:] or ["pip-audit printed no error"]
        print(f"NOT AUDITED: the vulnerability service could not be asked: {last[0][:500]}")
        return 3
    skipped = [d for d in found if "skip_reason" in d]
    vulnerable = [d for d in found if d.get("vulns")]
    for d in vulnerable:
        for v in d["vulns"]:
            fixed = ", ".join(v["fix_versions"]) or "no version yet"
            print(f"{d['name']} {d['version']}: {v['id']}, fixed in {fixed}")
    for d in skipped:
        print(f"NOT AUDITED: {d['name']}: {d['skip_reason']}")
    audited = len(found) - len(skipped)
    print(f"{audited} of {len(found)} pinned versions audited, {len(vulnerable)} vulnerable")
    return 1 if vulnerable else 3 if skipped or not found else 0


if __name__ == "__main__":
    sys.exit(main())
