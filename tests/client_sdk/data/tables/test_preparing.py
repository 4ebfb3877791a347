"""Tables become the same numbers at every party, or a sentence says what differs."""

import numpy as np
import pytest

from client_sdk.data.tables.preparing import check, prepare, sums, with_scales
from client_sdk.data.tables.reading import read_table
from client_sdk.data.tables.schema import Scale, Schema, describe, without_scales
from client_sdk.errors import DataError
from serverless_fl.domain.agreement import ColumnSums
from serverless_fl.domain.scales import scales_of
from serverless_fl.wire.agreement import ScaleView

ROWS = "age,sex,smokes,sick\n60,f,yes,ill\n40,m,no,well\n,,,well\n"


@pytest.fixture
def read(tmp_path):
    def read(content, label="sick", **more):
        path = tmp_path / "own.csv"
        path.write_text(content)
        return read_table(path, label, **more)

    return read


@pytest.fixture
def schema(read):
    return describe(read(ROWS), indicators=True)


def test_numbers_are_scaled_categories_are_ones_and_missing_values_have_an_input(read, schema):
    x, y, notes = prepare(read(ROWS), schema)
    assert x.dtype == np.float32
    assert x.tolist() == [
        # age, missing, f, m, other, missing, smokes, missing
        [1, 0, 1, 0, 0, 0, 1, 0],
        [-1, 0, 0, 1, 0, 0, -1, 0],
        [0, 1, 0, 0, 0, 1, 0, 1],
    ]
    assert (y.dtype, y.tolist(), notes) == (np.int64, [0, 1, 1], ())
    assert x.shape[1] == len(schema.inputs)


def test_without_an_indicator_a_missing_number_is_the_mean(read):
    schema = describe(read(ROWS), indicators=False)
    assert prepare(read(ROWS), schema).x[2].tolist() == [0, 0, 0, 0, 0]


def test_the_order_of_columns_and_of_classes_is_the_descriptions(read, schema):
    x, y, _ = prepare(read("sick,smokes,sex,age\nwell,yes,f,60\nill,no,m,40\n"), schema)
    assert x[:, 0].tolist() == [1, -1]
    assert y.tolist() == [1, 0]


def test_a_party_may_have_one_class_only(read, schema):
    assert prepare(read("age,sex,smokes,sick\n1,f,yes,well\n"), schema).y.tolist() == [1]


def test_unknown_words_count_as_other_with_a_note_of_both_sides_words(read, schema):
    x, _, notes = prepare(read("age,sex,smokes,sick\n1,F,yes,ill\n2,m,no,ill\n3,F,,ill\n"), schema)
    assert x[:, 2:5].tolist() == [[0, 0, 1], [0, 1, 0], [0, 0, 1]]
    assert notes == (
        "Column 'sex': [F] are none of the experiment's [f, m]: 2 values count as other.",
    )


def test_numbers_serve_as_categories_and_as_yes_and_no(read):
    schema = describe(read("stage,flag,sick\nI,yes,1\n2,no,0\nII,no,1\n"))
    x, _, _ = prepare(read("stage,flag,sick\n2.0,1,1\n2,0,0\n", kinds={}), schema)
    assert x[:, :4].tolist() == [[1, 0, 0, 0], [1, 0, 0, 0]]
    assert x[0, 4] > 0 > x[1, 4]


DIFFERENT = {
    "no such column": (
        "Age,sex,smokes,sick\n1,f,yes,ill\n",
        "own has no column 'age' (is it 'Age'?), which the experiment has: [age, sex, smokes] "
        "there, [Age, sex, smokes] here.",
    ),
    "words in place of numbers": (
        "age,sex,smokes,sick\nold,f,yes,ill\nyoung,m,no,ill\n",
        "own: column 'age' has numbers in the experiment, but words here: [old, young].",
    ),
    "words in place of yes and no": (
        "age,sex,smokes,sick\n1,f,often,ill\n1,f,never,ill\n",
        "own: column 'smokes' has booleans in the experiment, but words here: [never, often].",
    ),
    "other numbers than 1 and 0": (
        "age,sex,smokes,sick\n1,f,2,ill\n",
        "own: column 'smokes' is yes or no (1 or 0) in the experiment, but has other numbers here.",
    ),
    "another class": (
        "age,sex,smokes,sick\n1,f,yes,dead\n",
        "own: 'dead' is none of the experiment's classes: [ill, well] there, [dead] here.",
    ),
    "a class in capitals": (
        "age,sex,smokes,sick\n1,f,yes,ILL\n",
        "own: 'ILL' is none of the experiment's classes (--map-classes takes it for 'ill'): [ill, "
        "well] there, [ILL] here.",
    ),
    "a number in place of classes": (
        "age,sex,smokes,sick\n1,f,yes,1\n",
        "own: '1' is none of the experiment's classes: [ill, well] there, [1] here.",
    ),
}


@pytest.mark.parametrize(("content", "words"), DIFFERENT.values(), ids=DIFFERENT)
def test_what_differs_is_named_with_both_sides_words(read, schema, content, words):
    table = read(content)
    for use in (check, prepare, sums):
        with pytest.raises(DataError) as found:
            use(table, schema)
        assert str(found.value) == words


def test_another_label_is_named(read, schema):
    with pytest.raises(DataError, match="label is 'sick' in the experiment, 'smokes' here"):
        prepare(read(ROWS, "smokes"), schema)


def test_classes_match_without_capitals_where_somebody_says_so(read, schema):
    table = read("age,sex,smokes,sick\n1,f,yes, Well\n1,f,yes,ILL\n")
    assert prepare(table, schema, map_classes=True).y.tolist() == [1, 0]


def test_columns_that_the_experiment_does_not_have_are_named(read, schema):
    table = read("age,sex,smokes,extra,sick\n1,f,yes,1,ill\n")
    assert check(table, schema) == (
        "Columns that the experiment does not have are not used: [extra].",
    )


def test_a_table_for_prediction_has_inputs_only(read, schema):
    found = prepare(read("age,sex,smokes\n60,f,yes\n", None), schema)
    assert (found.x[0, 0], found.y) == (1, None)


def test_a_label_of_numbers_is_scaled(read):
    content = "age,sick\n1,10.5\n3,11.5\n"
    schema = describe(read(content))
    found = prepare(read(content), schema)
    assert (found.y.dtype, found.y.tolist()) == (np.float32, [-1, 1])
    with pytest.raises(DataError, match=r"is a number in the experiment, but has .* \[well\]"):
        prepare(read("age,sick\n1,well\n2,well\n"), schema)


def test_a_value_far_outside_stays_a_number_that_a_model_can_take(read, schema):
    x = prepare(read("age,sex,smokes,sick\n1e29,f,yes,ill\n"), schema).x
    assert x[0, 0] == 1e6


def test_nothing_is_prepared_before_the_scales_are_agreed(read, schema):
    with pytest.raises(DataError, match="no mean of 'age' yet"):
        prepare(read(ROWS), without_scales(schema))


def split(table, at):
    return table.take(range(at)), table.take(range(at, len(table)))


def together(schema, parties):
    return with_scales(schema, scales_of(schema.numeric, [sums(one, schema) for one in parties]))


@pytest.mark.parametrize("offset", [0, 1e6])
def test_scales_of_sums_are_those_of_all_rows_together(read, offset):
    rows = "".join(f"{offset + n * n},{'' if n % 7 == 0 else n},{n / 8}\n" for n in range(1, 90))
    whole = read(f"a,b,sick\n{rows}")
    wanted = describe(whole)
    parties = split(whole, 20)
    found = together(without_scales(describe(parties[0])), parties)
    for one, other in zip(found.columns, wanted.columns, strict=True):
        assert one.scale.mean == pytest.approx(other.scale.mean, rel=1e-12)
        assert one.scale.deviation == pytest.approx(other.scale.deviation, rel=1e-9)
    assert found.label_scale.mean == pytest.approx(wanted.label_scale.mean)


def test_missing_values_do_not_count(read, schema):
    assert sums(read(ROWS), schema) == [
        ColumnSums(column="age", count=2, sum=100.0, squares=5200.0),
        ColumnSums(column="smokes", count=2, sum=1.0, squares=1.0),
    ]


def test_a_column_that_nobody_knows_or_that_never_changes_keeps_its_size(read):
    table = read("a,b,sick\n5,,1\n5,2,0\n")
    found = together(without_scales(describe(table)), [table.take([0])])
    assert [column.scale for column in found.columns] == [Scale(5.0, 1.0), Scale(0.0, 1.0)]


def scale(column, mean=0.0, deviation=1.0):
    return ScaleView(column=column, mean=mean, deviation=deviation, count=1)


@pytest.mark.parametrize("bad", [scale("age", mean=1e300), scale("age", deviation=1e300)])
def test_scales_of_a_coordinator_are_those_that_a_table_could_have(schema, bad):
    with pytest.raises(DataError, match="The scale of 'age' cannot be used"):
        with_scales(schema, [bad, scale("smokes")])
    with pytest.raises(DataError, match="has not fixed the mean of 'age'"):
        with_scales(schema, [scale("smokes")])


def test_agreed_scales_can_always_be_written_and_read(read, schema):
    good = together(schema, [read(ROWS)])
    assert Schema.from_json(good.to_json()) == good
