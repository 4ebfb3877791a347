"""docs/extending.md, "Add a strategy", done word by word in a copy of the packages."""

from __future__ import annotations

import json
import tomllib

import numpy as np
import pytest
import safetensors.numpy

from tests.e2e.test_extending import ROOT, add_line, copy, section  # noqa: F401  (a fixture)

RUN = """
import asyncio, json
import numpy as np, safetensors.numpy
from client_sdk.tools.verify import verify
from tests.support.federation import Federation, weights
from tests.support.network import open_in_memory

async def main():
    federation = Federation(*await open_in_memory())
    async with federation.serving():
        chosen = {"name": "halfway", "share": 0.25}
        made, members = await federation.start(strategy=chosen, keep_updates=2)
        for number in (1, 2):
            for name in await federation.cohort(made):
                await members[name].upload(number, 8.0)
        findings = await verify(federation.admin, made)
        assert all(finding.good for finding in findings), findings
        moved = await federation.admin.download_state(made, 2, "moved")
        model = await federation.admin.download_model(made, 2)
        print(json.dumps([float(safetensors.numpy.load(d)["w"][0, 0]) for d in (model, moved)]))

asyncio.run(main())
"""


def add_halfway(folder):
    """Do what the page says in a copy of the packages; give the commands that it shows then."""
    (_, strategy), (_, line), (_, commands) = section("Add a strategy")
    file = folder / "serverless_fl" / "aggregation" / "halfway.py"
    file.write_text(strategy, encoding="utf-8")
    add_line(folder, "serverless_fl/aggregation/__init__.py:STRATEGIES", line)
    return commands


@pytest.mark.timeout(600)  # two runs
def test_add_a_strategy(copy):  # noqa: F811
    folder, run = copy
    commands = add_halfway(folder)
    for command in commands.splitlines():
        run(command)

    printed = (folder / "docs" / "settings.md").read_text(encoding="utf-8")
    assert "| `--share` | `share` | 0.5 | above 0, at most 1 | The part of the way" in printed
    runs = [folder / "runs" / name for name in ("halfway", "again")]
    written = tomllib.loads((runs[0] / "config.toml").read_text(encoding="utf-8"))
    assert written["strategy"]["strategy"] == "halfway"
    assert written["strategy"]["share"] == 0.25
    for out in runs:  # as the coordinator shows the experiment
        report = json.loads((out / "report.json").read_text(encoding="utf-8"))
        assert report["config"]["strategy"] == {"name": "halfway", "share": 0.25}
    first, second = (safetensors.numpy.load_file(out / "global.safetensors") for out in runs)
    for name, values in first.items():
        np.testing.assert_array_equal(values, second[name])

    # By the API: a quarter of the way from 0 to 8 is 2, and from 2 to 8 is 1.5.
    (folder / "drive.py").write_text(RUN, encoding="utf-8")
    (folder / "tests").symlink_to(ROOT / "tests")
    assert json.loads(run("drive.py")) == [3.5, 3.5]
