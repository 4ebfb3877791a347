"""The README's tables are what the results files give; and how some results are worked out."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks import readme
from benchmarks.algorithms import norm_bounds
from benchmarks.algorithms.attacks import JustBelow
from benchmarks.words import translated
from tests.support.some import some


@pytest.mark.parametrize("name", readme.PAGES)
def test_the_tables_are_those_of_the_results(name):
    page = (readme.ROOT / name).read_text(encoding="utf-8")
    assert {found[1] for found in some(readme.BLOCK.finditer(page))} <= set(readme.TABLES)
    assert page.count("<!-- figures: ") == len(readme.BLOCK.findall(page))
    assert readme.written(page, readme.PAGES[name]) == page, "run python -m benchmarks.readme"


def test_a_figure_that_is_typed_is_replaced(monkeypatch, tmp_path):
    found = {"platform": "here", "largest_model": 2e6, "cold_start": 0.5, "warm_request": 0.001}
    found |= {"round_seconds": 3.2, "peak_memory": 7e6}
    (tmp_path / "platforms.json").write_text(json.dumps({"platforms": [found]}))
    monkeypatch.setattr(readme, "RESULTS", tmp_path)
    page = "a\n<!-- figures: platforms -->\n| 9 |\n<!-- end -->\n| 8 |\n"
    made = readme.written(page, "en")
    assert "| here | 2 MB | 0.50 s | 1.0 ms | 3 s | 7 MB |\n<!-- end -->\n| 8 |\n" in made
    assert "| 9 |" not in made
    assert "| here | 2 MB | 0,50 s | 1,0 ms | 3 s | 7 MB |" in readme.written(page, "pt")


def test_cells_in_portuguese():
    assert translated("2,000 (1,000) and 0.5 points", "pt") == "2.000 (1.000) e 0,5 pontos"
    assert translated("`python -m x --seeds 1.5`", "pt") == "`python -m x --seeds 1.5`"
    assert translated("test accuracy: mean, standard deviation", "pt") == (
        "acurácia de teste: média, desvio-padrão"
    )


def test_an_adaptive_attacker_stays_just_below_the_bound():
    base = {"a": np.ones(3, np.float32), "b": np.zeros((2, 2), np.float32)}
    learned = {"a": np.array([1, 4, 1], np.float32), "b": np.full((2, 2), 2, np.float32)}
    sent = JustBelow(10.0).send(base, learned, np.random.default_rng(0))  # the honest distance is 5
    np.testing.assert_allclose(sent["a"], [1, 1 - 0.99 * 6, 1], rtol=1e-6)
    np.testing.assert_allclose(sent["b"], np.full((2, 2), -0.99 * 4), rtol=1e-6)


def test_of_poisoned_runs_it_is_told_whose_updates_were_refused_and_how_they_compare():
    def row(final, poisoned=0, honest=0):
        found = {"accuracy": [0.1, final], "bound": None, "reasons": []}
        return found | {"refused_poisoned": poisoned, "refused_honest": honest}

    by_seed = [
        {norm_bounds.CONTROL: row(0.9), "attacked": row(0.5, 3, 1)},
        {norm_bounds.CONTROL: row(0.92), "attacked": row(0.51, 2)},
    ]
    (control, attacked) = norm_bounds.table({"rows": norm_bounds.summary(by_seed)})[2:]
    assert control == [norm_bounds.CONTROL, "91.00% (90.00%)", "", "10.00%", "0, 0"]
    assert attacked[1] == "50.50% (50.00%)"
    assert attacked[2].startswith("-40.50 points")
    assert attacked[2].endswith("n = 2): lower")
    assert attacked[4] == "5, 1"
