"""Tables as hospitals, spreadsheets and programs write them."""

import gzip
import sys

import numpy as np
import pytest

from client_sdk.data.tables.reading import is_table, read_table
from client_sdk.data.tables.schema import describe
from client_sdk.errors import DataError

PLAIN = "age,sex,smokes,sick\n61.5,f,yes,1\n48,m,no,0\n70,m,,1\n"
AGES = [61.5, 48.0, 70.0]


def write(folder, content, name="own.csv"):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(folder, content, label="sick", name="own.csv", **more):
    return read_table(write(folder, content, name), label, **more)


def column(table, name):
    return next(c for c in table.columns if c.name == name)


def known(found):
    """A column's values as a person reads them."""
    if found.kind == "category":
        return [None if code < 0 else found.categories[code] for code in found.values]
    return [None if np.isnan(value) else float(value) for value in found.values]


def refused(folder, content, label="sick", **more):
    with pytest.raises(DataError) as found:
        read(folder, content, label, **more)
    return str(found.value)


def test_columns_have_names_kinds_and_missing_values(tmp_path):
    table = read(tmp_path, PLAIN)
    assert [(c.name, c.kind) for c in table.columns] == [
        ("age", "number"),
        ("sex", "category"),
        ("smokes", "boolean"),
    ]
    assert known(column(table, "age")) == AGES
    assert known(column(table, "sex")) == ["f", "m", "m"]
    assert known(column(table, "smokes")) == [1.0, 0.0, None]
    assert known(table.label) == ["1", "0", "1"]
    assert (len(table), table.notes, table.name) == (3, (), "own")


SPELLINGS = {
    "a byte order mark": "\ufeff" + PLAIN,
    "carriage returns": PLAIN.replace("\n", "\r\n"),
    "old Macs": PLAIN.replace("\n", "\r"),
    "no last line end": PLAIN.rstrip(),
    "blank lines": PLAIN.replace("\n", "\n\n  \n".replace("  ", "")),
    "blank lines first": "\n\n" + PLAIN,
    "semicolons": PLAIN.replace(",", ";"),
    "semicolons and decimal commas": PLAIN.replace(",", ";").replace("61.5", "61,5"),
    "tabs": PLAIN.replace(",", "\t"),
    "bars": PLAIN.replace(",", "|"),
    "all quoted": "\n".join(
        ",".join(f'"{cell}"' for cell in line.split(",")) for line in PLAIN.split()
    ),
    "spaces": PLAIN.replace(",", " , "),
    "a delimiter too many": PLAIN.replace("\n", ",\n"),
    "too many below the names only": PLAIN.replace("1\n", "1,\n"),
    "UTF-16": PLAIN.encode("utf-16"),
    "UTF-16, high byte first": b"\xfe\xff" + PLAIN.encode("utf-16-be"),
    "compressed": gzip.compress(PLAIN.encode()),
}


@pytest.mark.parametrize("content", SPELLINGS.values(), ids=SPELLINGS)
def test_a_table_is_the_same_however_a_program_writes_it(tmp_path, content):
    table = read(tmp_path, content)
    assert table.names == ("age", "sex", "smokes")
    assert known(column(table, "age")) == AGES
    assert known(column(table, "sex")) == ["f", "m", "m"]
    assert known(table.label) == ["1", "0", "1"]


@pytest.mark.parametrize("name", ["a.csv", "A.CSV", "a.tsv", "a.csv.gz", "a.tsv.gz"])
def test_the_ending_says_that_a_file_is_a_table(tmp_path, name):
    content = gzip.compress(PLAIN.encode()) if name.endswith("gz") else PLAIN
    table = read(tmp_path, content, name=name)
    assert is_table(tmp_path / name)
    assert (table.name.lower(), len(table)) == ("a", 3)


@pytest.mark.parametrize(
    "word", ["", " ", "NA", "n/a", "NaN", "nan", "NULL", "None", "?", "-", ".", "#N/A"]
)
def test_words_for_unknown_values_are_missing_in_every_kind(tmp_path, word):
    table = read(tmp_path, f"a,b,c,sick\n1,x,yes,1\n{word},{word},{word},0\n3,y,no,1\n")
    assert [c.kind for c in table.columns] == ["number", "category", "boolean"]
    assert [bool(c.missing[1]) for c in table.columns] == [True, True, True]
    assert [c.missing.sum() for c in table.columns] == [1, 1, 1]


def test_letters_of_western_europe_that_are_not_utf_8_are_read_with_a_note(tmp_path):
    table = read(tmp_path, "città,sick\nForlì,1\nPrato,0\n".encode("cp1252"))
    assert table.names == ("città",)
    assert known(table.columns[0]) == ["Forlì", "Prato"]
    assert "cp1252" in table.notes[0]


def test_a_late_letter_that_is_not_utf_8_changes_the_whole_file(tmp_path):
    rows = "".join(f"{n},Prato,{n % 2}\n" for n in range(40_000))
    table = read(tmp_path, f"n,town,sick\n{rows}1,Forl\xec,1\n".encode("latin-1"))
    assert len(table) == 40_001
    assert column(table, "town").categories == ("Forlì", "Prato")


def test_accents_are_one_letter_however_they_are_written(tmp_path):
    table = read(tmp_path, "a\u0300,sick\ne\u0300,1\n\u00e8,0\n", "sick")
    assert table.names == ("\u00e0",)
    assert table.columns[0].categories == ("\u00e8",)


def test_cells_with_line_ends_and_delimiters_are_one_cell(tmp_path):
    table = read(tmp_path, 'note,age,sick\n"one, two\nthree",50,1\nfour,60,0\n')
    assert known(column(table, "note")) == ["one, two three", "four"]
    message = refused(tmp_path, 'note,age,sick\n"one\n\n\nfour",1,1\nx,2,0\nx,many,1\nx,3,1\n')
    assert "line 7, column 'age': 'many' is no number" in message


def test_words_after_thousands_of_numbers_keep_what_the_numbers_looked_like(tmp_path):
    numbers = "".join(f"{n % 10:03d},{n % 2}\n" for n in range(6000))
    words = "".join(f"x{n % 7},{n % 2}\n" for n in range(7000))
    table = read(tmp_path, f"code,sick\n{numbers}{words}")
    assert table.columns[0].kind == "category"
    assert table.columns[0].categories[:2] == ("000", "001")
    assert len(table) == 13_000


def test_a_missing_number_makes_no_other_category_of_a_whole_one(tmp_path):
    kinds = {"stage": "category"}
    with_gaps = read(tmp_path, "stage,sick\n1.0,1\n,0\n2.0,1\n", kinds=kinds)
    without = read(tmp_path, "stage,sick\n1,1\n2,0\n", kinds=kinds)
    assert with_gaps.columns[0].categories == without.columns[0].categories == ("1", "2")


FAULTS = {
    "a word among numbers": ("age,sick\n1,1\n2,0\n>90,1\n", "line 4, column 'age': '>90' is no"),
    "a unit": ("age,sick\n1,1\n2,0\n3 years,1\n", "'3 years' is no number"),
    "an infinite value": (
        "age,sick\n1,1\ninf,0\n2,1\n",
        "line 3, column 'age': 'inf' is no finite",
    ),
    "an endless value": ("age,sick\n1,1\n-1e999,0\n2,1\n", "'-1e999' is no finite number"),
    "a decimal comma": ('age,sick\n1,1\n"2,5",0\n2,1\n', "'2,5' has a comma, though"),
    "a dot in thousands": (
        "age;sick\n1,5;1\n2,5;0\n1.234;1\n3,5;0\n",
        "'1.234' has a dot, though the numbers of this file have decimal commas",
    ),
    "a number with an underscore": ("age,sick\n1,1\n1_0,0\n2,1\n", "'1_0' is no number"),
    "a short row": ("a,b,sick\n1,2,1\n3,4\n", "line 3: the row has 2 cells, but the table has 3"),
    "a long row": ("a,b,sick\n1,2,1\n3,4,0,5\n", "line 3: the row has 4 cells"),
    "one column": ("sick\n1\n0\n", "has one column only"),
    "two columns of one name": ("a,b,a,sick\n1,2,3,1\n", "2 columns are called 'a', the 1. and"),
    "no line of names": ("1,2,3\n4,5,6\n", "line 1: names of columns are expected here"),
    "no rows": ("a,sick\n", "has no rows"),
    "nothing": ("", "is empty"),
    "blanks": ("\n \n", "is empty"),
    "an open quotation mark": ('a,sick\n1,"1\n2,0\n3,1\n', "a quotation mark opens a cell"),
    "a quotation mark inside": ('a,sick\n1,"x"y,0\n', "line 2: a quotation mark stands inside"),
    "another label": ("age,Sick\n1,1\n2,0\n", "has no label 'sick': its columns are [age, Sick]"),
    "no labels": ("age,sick\n1,\n2,NA\n", "no row has a label in the column 'sick'"),
    "only a label": ("sick,\n1,\n0,\n", "has no column to learn from"),
    "zeros": (b"age,sick\n\0\0\0", "is no text"),
    "an Excel workbook": (b"PK\x03\x04" + bytes(40), "save the sheet as CSV"),
    "half a UTF-16 letter": (b"\xff\xfea", "begins as utf-16 does, but is no such text"),
    "half an archive": (gzip.compress(PLAIN.encode() * 50)[:60], "cannot be read"),
    "a long name": (f"{'a' * 300},sick\n1,1\n", "the name of a column has more than 200"),
}


@pytest.mark.parametrize(("content", "words"), FAULTS.values(), ids=FAULTS)
def test_a_bad_file_gives_one_sentence_that_says_where(tmp_path, content, words):
    message = refused(tmp_path, content)
    assert words in message
    assert "own" in message
    assert "\n" not in message


def test_a_file_that_is_not_there_or_of_another_kind_is_named(tmp_path):
    with pytest.raises(DataError, match="There is no file"):
        read_table(tmp_path / "none.csv")
    with pytest.raises(DataError, match=r"ends in one of \.csv"):
        read_table(tmp_path / "none.xlsx")


def test_a_column_that_cannot_be_used_is_left_out_with_a_note(tmp_path):
    rows = "".join(
        f"2020-01-{n % 28 + 1:02d},{n % 28 + 1}.1.2020 10:00,P{n:04d},,{n},{n / 4},{n % 2}\n"
        for n in range(30)
    )
    table = read(tmp_path, f"day,seen,patient,empty,number,x,sick\n{rows}")
    assert table.names == ("number", "x")
    notes = " ".join(table.notes)
    assert "Column 'day' has dates" in notes
    assert "Column 'seen' has dates" in notes
    assert "Column 'patient' has another word in every row" in notes
    assert "Column 'empty' has no value in any row" in notes
    assert "Column 'number' has another whole number in every row" in notes
    assert "'x'" not in notes


def test_free_text_is_left_out_but_not_where_somebody_calls_it_a_category(tmp_path):
    rows = "".join(f"word {n % 1500},{n % 3},{n % 2}\n" for n in range(3000))
    table = read(tmp_path, f"text,x,sick\n{rows}")
    assert table.names == ("x",)
    assert "more than 1000 different words" in table.notes[0]
    message = refused(tmp_path, f"text,x,sick\n{rows}", kinds={"text": "category"})
    assert "Column 'text' has more than 1000 different words, too many" in message
    long = f"text,x,sick\n{'a' * 300},1,1\n{'b' * 300},2,0\n"
    assert read(tmp_path, long).names == ("x",)


def test_somebody_may_say_what_a_column_is(tmp_path):
    content = "code,id,flag,sick\n250,1,1,1\n276,2,0,0\nV57,3,1,1\n250,4,0,0\n"
    assert "'V57' is no number" in refused(tmp_path, content)
    table = read(tmp_path, content, kinds={"code": "category", "id": "ignore", "flag": "boolean"})
    assert [(c.name, c.kind) for c in table.columns] == [("code", "category"), ("flag", "boolean")]
    assert known(column(table, "code")) == ["250", "276", "V57", "250"]
    assert known(column(table, "flag")) == [1.0, 0.0, 1.0, 0.0]
    assert "neither yes nor no" in refused(tmp_path, content, kinds={"code": "boolean"})
    assert "can be number, boolean" in refused(tmp_path, content, kinds={"code": "word"})
    assert "no column 'cod'" in refused(tmp_path, content, kinds={"cod": "category"})
    assert "did you mean 'code'?" in refused(tmp_path, content, kinds={"cod": "category"})
    assert "cannot be ignored" in refused(tmp_path, content, kinds={"sick": "ignore"})


LABELS = {
    "words": (["mild", "severe", "mild"], ("mild", "severe")),
    "yes and no": (["yes", "no", "yes"], ("no", "yes")),
    "whole numbers": (["0", "2", "1"], ("0", "1", "2")),
    "whole numbers with a dot": (["0.0", "1.0", "1.0"], ("0", "1")),
    "one class": (["1", "1", "1"], ("1",)),
    "numbers": (["1.5", "2", "3"], None),
}


@pytest.mark.parametrize(("cells", "classes"), LABELS.values(), ids=LABELS)
def test_a_label_is_of_classes_or_a_number_to_estimate(tmp_path, cells, classes):
    table = read(tmp_path, "x,sick\n" + "".join(f"{n},{c}\n" for n, c in enumerate(cells)))
    assert table.label.categories == (classes or ())
    assert table.label.kind == ("category" if classes else "number")
    assert any("regression" in note for note in table.notes) is (classes is None)


def test_many_whole_numbers_are_estimated_unless_somebody_calls_them_classes(tmp_path):
    content = "x,sick\n" + "".join(f"{n},{n % 30}\n" for n in range(60))
    assert read(tmp_path, content).label.kind == "number"
    assert len(read(tmp_path, content, kinds={"sick": "category"}).label.categories) == 30
    few = "x,sick\n1,0\n2,1\n"
    assert read(tmp_path, few, kinds={"sick": "number"}).label.kind == "number"


def test_rows_without_a_label_are_left_out_with_a_note(tmp_path):
    table = read(tmp_path, "age,sick\n1,yes\n2,\n3,no\n4,NA\n")
    assert known(table.columns[0]) == [1.0, 3.0]
    assert known(table.label) == ["yes", "no"]
    assert table.notes == ("2 rows have no label and are left out.",)


def test_a_table_for_prediction_has_no_label(tmp_path):
    table = read(tmp_path, PLAIN, None)
    assert (table.label, table.names) == (None, ("age", "sex", "smokes", "sick"))


def test_a_description_says_what_the_columns_of_another_file_are(tmp_path):
    schema = describe(read(tmp_path, "grade,age,sick\nI,61,yes\nII,50,no\n1,40,no\n"))
    other = "age,sick,grade,extra\n40,yes,1,x\n50,yes,2,y\n"
    table = read(tmp_path, other, like=schema)
    assert known(column(table, "grade")) == ["1", "2"]
    assert table.names == ("age", "grade")
    assert table.label.categories == ("yes",)
    message = refused(tmp_path, "age,sick,grade\n40,yes,1\nold,no,I\n", like=schema)
    assert "line 3, column 'age': 'old' is no number" in message


def test_a_column_without_a_name_is_left_out_as_an_index_is(tmp_path):
    table = read(tmp_path, ",age,sick\n0,61,1\n1,50,0\n")
    assert table.names == ("age",)
    assert table.notes == ("A column without a name is left out.",)


def test_no_control_character_of_a_file_reaches_a_terminal(tmp_path):
    message = refused(tmp_path, "age,sick\n1,1\n2,0\n\x1b[31mred,1\n")
    assert "\x1b" not in message
    table = read(tmp_path, "a\x1bge,sick\nr\x1bed,1\nblue,0\n")
    assert (table.names, table.columns[0].categories) == (("age",), ("blue", "red"))


def test_memory_and_passes_stay_small_for_many_rows(tmp_path):
    path = tmp_path / "many.csv"
    with path.open("w") as file:
        file.write("a,b,c,sick\n")
        file.writelines(f"{n / 8},w{n % 5},{n % 2},{n % 3}\n" for n in range(60_000))
    table = read_table(path, "sick")
    assert len(table) == 60_000
    assert column(table, "a").values[59_999] == 59_999 / 8
    assert known(table.label)[-3:] == ["0", "1", "2"]


def arrays(folder, **found):
    np.savez(folder / "own.npz", **found)
    return folder / "own.npz"


def test_arrays_are_columns(tmp_path):
    path = arrays(
        tmp_path,
        age=np.array([61.5, np.nan, 70]),
        sex=np.array(["f", "m", "m"]),
        smokes=np.array([True, False, True]),
        sick=np.array([1, 0, 1]),
    )
    table = read_table(path, "sick")
    assert [c.kind for c in table.columns] == ["number", "category", "boolean"]
    assert known(column(table, "age")) == [61.5, None, 70.0]
    assert table.label.categories == ("0", "1")


def test_a_matrix_x_is_a_column_for_each_of_its_columns(tmp_path):
    x = np.arange(6.0).reshape(3, 2)
    table = read_table(arrays(tmp_path, X=x, y=np.array([True, False, True])), "y")
    assert (table.names, table.label.categories) == (("x0", "x1"), ("False", "True"))
    named = read_table(arrays(tmp_path, x=x, y=np.arange(3), columns=np.array(["a", "b"])), "y")
    assert named.names == ("a", "b")


BAD_ARRAYS = {
    "lengths": ({"a": np.arange(3), "y": np.arange(4)}, "'a' has 3 values and 'y' 4"),
    "pictures": ({"a": np.zeros((3, 4, 4)), "y": np.arange(3)}, r"\[3, 4, 4\] is no column"),
    "infinite": ({"a": np.array([1, np.inf, 2]), "y": np.arange(3)}, "row 2, column 'a'"),
    "complex": ({"a": np.zeros(3, complex), "y": np.arange(3)}, "column 'a': values of the type"),
    "no rows": ({"a": np.zeros(0), "y": np.zeros(0)}, "has no rows"),
    "names": ({"x": np.zeros((3, 2)), "columns": np.array(["a"])}, "does not name the 2 columns"),
    "objects": ({"a": np.array([{}, 1, 2], object)}, "cannot be read as an .npz file"),
}


@pytest.mark.parametrize(("found", "words"), BAD_ARRAYS.values(), ids=BAD_ARRAYS)
def test_bad_arrays_give_one_sentence(tmp_path, found, words):
    with pytest.raises(DataError, match=words):
        read_table(arrays(tmp_path, **found), "y")


class Series:
    def __init__(self, values):
        self._values = np.asarray(values)

    def to_numpy(self):
        return self._values


class NA:
    """As pandas's: no comparison of it is true or false."""

    __hash__ = object.__hash__

    def __str__(self):
        return "<NA>"

    def __eq__(self, other):
        return self

    __ne__ = __eq__

    def __bool__(self):
        raise TypeError("boolean value of NA is ambiguous")


class Frame:
    """What this SDK uses of a DataFrame of pandas, which is not installed for the tests."""

    def __init__(self, **columns):
        self.columns = list(columns)
        self._columns = columns

    def __getitem__(self, name):
        return Series(self._columns[name])

    def to_numpy(self):
        raise AssertionError("columns are read one by one")


def test_a_frame_is_a_table():
    frame = Frame(
        age=[1.5, float("nan"), 3],
        sex=np.array(["f", None, NA()], object),
        seen=np.array(["2020-01-01", "NaT", "2021-01-01"], "datetime64[ns]"),
        sick=[True, False, True],
    )
    table = read_table(frame, "sick")
    assert table.names == ("age", "sex")
    assert known(column(table, "sex")) == ["f", None, None]
    assert "Column 'seen' has dates" in table.notes[0]
    assert table.label.categories == ("False", "True")


def test_parquet_without_its_package_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match=r"pip install .serverless-fl\[parquet\]"):
        read_table(write(tmp_path, b"PAR1", "own.parquet"), "sick")


def test_parquet_is_a_table(tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    parquet = pytest.importorskip("pyarrow.parquet")
    columns = {
        "age": pyarrow.array([1.5, None, 3.0]),
        "stage": pyarrow.array([1, None, 2]),
        "sex": pyarrow.array(["f", None, "m"]).dictionary_encode(),
        "smokes": pyarrow.array([True, False, None]),
        "sick": pyarrow.array([1, 0, 1]),
    }
    parquet.write_table(pyarrow.table(columns), tmp_path / "own.parquet")
    table = read_table(tmp_path / "own.parquet", "sick")
    assert [c.kind for c in table.columns] == ["number", "number", "category", "boolean"]
    assert known(column(table, "stage")) == [1.0, None, 2.0]
    assert known(column(table, "sex")) == ["f", None, "m"]
    assert known(column(table, "smokes")) == [1.0, 0.0, None]
    with pytest.raises(DataError, match="cannot be read as a Parquet file"):
        read_table(write(tmp_path, b"PAR1", "own.parquet"), "sick")
