"""The notebook runs from its first cell to its last, in a running event loop."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.cells import run_cells

NOTEBOOK = Path(__file__).parents[2] / "examples" / "breast_cancer.ipynb"
CELLS = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]


@pytest.mark.timeout(400)
async def test_the_notebook_runs(capsys):
    code = ["".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "code"]
    _, sizes, _, result, by_site, score, same = await run_cells(code)
    assert sizes == {"north": 280, "south": 130, "west": 45}
    told = capsys.readouterr().out.splitlines()
    assert told[-1] == f"round 5: accuracy {result.metrics['accuracy']:.2%}"
    assert result._repr_png_().startswith(b"\x89PNG")  # what the notebook shows
    assert set(by_site) == set(sizes)
    assert score == pytest.approx(result.metrics["accuracy"])
    assert score > 0.9
    assert same is True


def test_the_notebook_is_kept_without_outputs():
    for cell in CELLS:
        assert cell.get("outputs", []) == []
        assert cell.get("execution_count") is None
