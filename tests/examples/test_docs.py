"""The code of the documents' pages runs, in order."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from tests.support.cells import run_cells

DOCS = Path(__file__).parents[2] / "docs"


def cells(page):
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.mark.timeout(600)  # five simulations
async def test_own_model(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {}
    await run_cells(cells("own-model.md"), names)
    told = capsys.readouterr().out.splitlines()
    assert (tmp_path / "model.safetensors").is_file()
    assert (tmp_path / "rounds.png").is_file()
    assert "'accuracy': " in told[0]
    assert float(told[1]) > 0.5  # near
    assert "'body.0.bias', " in told[4]
    assert "head" not in told[4]


@pytest.mark.timeout(600)
async def test_notebook(capsys):
    _, result, metrics = await run_cells(cells("notebook.md"))
    assert re.findall(r"^round (\d): \d+\.\d+%$", capsys.readouterr().out, re.M) == list("123")
    assert result.metrics["accuracy"] > 0.8
    assert len(metrics) == 2


async def test_from_fedless(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arrays = [np.ones((2, 3), np.float32), np.zeros(3, np.float32)]
    np.savez("session.npz", *arrays)
    await run_cells(cells("from-fedless.md"), {})
    found = safetensors.numpy.load_file("initial.safetensors")
    assert sorted(found) == ["arr_0", "arr_1"]
    assert (found["arr_0"] == arrays[0]).all()


@pytest.mark.timeout(600)
async def test_from_flower(capsys):
    names = {}
    await run_cells(cells("from-flower.md"), names)
    assert "'accuracy': 0." in capsys.readouterr().out


@pytest.mark.timeout(600)
async def test_unequal_data():
    _, (equal, unequal), (mean, worst), other = await run_cells(cells("unequal-data.md"))
    assert 0.3 < unequal <= equal
    assert worst <= mean
    assert other > 0.3


@pytest.mark.timeout(600)
async def test_text(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    numbers, learnt, accuracy, travelled, _, sent = await run_cells(
        [*cells("text.md"), "sorted(task.initial(0))"]
    )
    assert numbers[:, :4].tolist() == [[6, 2, 3, 0], [4, 7, 0, 0]]
    assert len(learnt) == 10
    assert accuracy > 0.5
    assert travelled == ["blocks.0.attention.key.lora_b", "blocks.0.attention.out.lora_b"]
    assert sent == sorted(learnt)
