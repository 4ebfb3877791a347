"""Tables nobody thought of: any values in any dialect come back, and any bytes give a sentence."""

import csv
import io
import json
import math

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as some

from client_sdk.data.tables.preparing import prepare
from client_sdk.data.tables.reading import read_table
from client_sdk.data.tables.schema import Schema, describe
from client_sdk.data.tables.words import canonical, is_date, is_missing, number, truth
from client_sdk.errors import DataError

quick = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
NUMBERS = some.none() | some.floats(-1e30, 1e30).map(lambda value: value + 0.0)
WORDS = (
    some.text(max_size=12)
    .map(canonical)
    .filter(
        lambda w: (
            w and not is_missing(w) and number(w) is None and not is_date(w) and truth(w) is None
        )
    )
)


@quick
@given(
    rows=some.lists(some.tuples(NUMBERS, WORDS, some.sampled_from("abc")), min_size=1, max_size=12),
    delimiter=some.sampled_from(",;\t|"),
    quoting=some.sampled_from((csv.QUOTE_MINIMAL, csv.QUOTE_ALL)),
    end=some.sampled_from(("\n", "\r\n")),
    encoding=some.sampled_from(("utf-8", "utf-8-sig", "utf-16")),
)
def test_any_values_come_back_in_any_dialect(tmp_path, rows, delimiter, quoting, end, encoding):
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, quoting=quoting, lineterminator=end)
    writer.writerow(["size of it", "word", "class"])
    writer.writerows(("" if n is None else repr(n), w, c) for n, w, c in rows)
    path = tmp_path / "any.csv"
    path.write_bytes(text.getvalue().encode(encoding))
    kinds = {"size of it": "number", "word": "category"}
    table = read_table(path, "class", kinds=kinds, decimal=".")
    sizes, words = table.columns
    found = [None if math.isnan(value) else value for value in sizes.values.tolist()]
    assert found == [n for n, _, _ in rows]
    assert [words.categories[code] for code in words.values] == [w for _, w, _ in rows]
    assert [table.label.categories[code] for code in table.label.values] == [c for *_, c in rows]
    schema = describe(table)
    assert Schema.from_json(schema.to_json()) == schema
    assert prepare(table, schema).x.shape == (len(rows), len(schema.inputs))


@quick
@given(content=some.binary(max_size=300) | some.text(max_size=300).map(str.encode))
@example(b"a,b\n1,2\n\xff")
@example(b"\xef\xbb\xbf")
@example(b"\x1f\x8b\x08\x00")
@example(b'a,b\n"')
def test_any_bytes_give_a_table_or_one_sentence(tmp_path, content):
    path = tmp_path / "any.csv"
    path.write_bytes(content)
    try:
        assert len(read_table(path)) > 0
    except DataError as error:
        assert "\n" not in str(error)
        assert str(error).isprintable()


JSON = some.recursive(
    some.none() | some.booleans() | some.integers() | some.floats() | some.text(max_size=8),
    lambda inner: some.lists(inner, max_size=4) | some.dictionaries(some.text(max_size=8), inner),
    max_leaves=12,
)
KEYS = some.sampled_from(
    ("columns", "label", "name", "kind", "categories", "classes", "mean", "deviation", "indicator")
)


@quick
@given(
    found=some.recursive(
        JSON,
        lambda inner: some.dictionaries(KEYS, inner | some.lists(inner, max_size=3), max_size=6),
        max_leaves=20,
    )
)
def test_any_json_is_a_description_or_one_sentence(found):
    try:
        schema = Schema.from_json(json.dumps(found))
    except DataError as error:
        assert str(error).isprintable()
    else:
        assert Schema.from_json(schema.to_json()) == schema
