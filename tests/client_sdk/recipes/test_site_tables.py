"""Tables of several sites become inputs alike, as if they were one table."""

import numpy as np
import pytest

from client_sdk.data.tables.preparing import prepare
from client_sdk.data.tables.reading import read_table
from client_sdk.data.tables.schema import describe
from client_sdk.errors import DataError
from client_sdk.recipes.site_tables import read_sites

NORTH = "age,ward,sick\n61,a,yes\n40,b,no\n?,a,no\n"
SOUTH = "sick,age,ward\nno,20,c\nno,30,a\n"


@pytest.fixture
def files(tmp_path):
    for name, text in (("north", NORTH), ("south", SOUTH)):
        (tmp_path / f"{name}.csv").write_text(text, encoding="utf-8")
    return [tmp_path / "north.csv", tmp_path / "south.csv"]


def test_all_sites_get_the_inputs_of_one_table(files, tmp_path):
    sites = read_sites(files, label="sick")
    assert list(sites) == ["north", "south"]
    assert sites.schema.classes == ("no", "yes")
    rows = NORTH + "20,c,no\n30,a,no\n"
    (tmp_path / "all.csv").write_text(rows, encoding="utf-8")
    table = read_table(tmp_path / "all.csv", "sick")
    expected = prepare(table, describe(table))
    assert np.allclose(sites.pooled.x, expected.x, atol=1e-6)
    assert sites.pooled.y.tolist() == expected.y.tolist()
    again = sites.read(files[1])
    assert np.array_equal(again.x, sites["south"].x)


def test_a_site_that_lacks_a_column_is_named(files, tmp_path):
    (tmp_path / "west.csv").write_text("sick,age\nno,20\nyes,30\n", encoding="utf-8")
    with pytest.raises(DataError, match="west has no column 'ward'"):
        read_sites([*files, tmp_path / "west.csv"], label="sick")


@pytest.mark.parametrize(
    ("sources", "message"),
    [([], "There is no site"), ("a.csv", "in a list"), (["x/a.csv", "y/a.csv"], "the same name")],
)
def test_sources_that_are_no_sites(sources, message):
    with pytest.raises(DataError, match=message):
        read_sites(sources, label="sick")
