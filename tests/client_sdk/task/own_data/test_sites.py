"""What differs between a party's data and the experiment is named, with the words of both."""

from __future__ import annotations

import json

import numpy as np
import pytest

from client_sdk.errors import DataError
from client_sdk.task import weights_file
from client_sdk.task.label_counts import label_counts
from client_sdk.task.model_file import read_metadata
from client_sdk.task.own_data.describing import Look, plan_of
from client_sdk.task.own_data.reading import Source, read_site
from serverless_fl.domain.agreement import agreement_of
from serverless_fl.domain.scales import scales_of
from serverless_fl.wire.agreement import ScaleView
from tests.support.own_files import hospitals, picture_sites

HEAD = "age,height (cm),sex,smokes,diagnosis\n"
ROWS = "".join(
    f"{30 + n},{160 + n},{'mf'[n % 2]},{('yes', 'no')[n % 2]},{'BM'[n % 3 > 0]}\n"
    for n in range(30)
)


@pytest.fixture
def tables(tmp_path):
    """Reads a party's text as the experiment's description, which follows from HEAD and ROWS."""

    def read(text, *, federated=True, **given):
        (tmp_path / "like.csv").write_text(HEAD + ROWS, encoding="utf-8")
        (tmp_path / "own.csv").write_text(text, encoding="utf-8")
        look = Look(like=tmp_path / "like.csv", label="diagnosis")
        initial = plan_of(look, federated=federated).initial(0)
        source = Source(path=tmp_path / "own.csv", **given)
        return read_site(source, initial, federated=federated), initial

    return read


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "age,height (m),sex,smokes,diagnosis\n30,1.7,m,yes,B\n",
            r"no column 'height \(cm\)' \(is it 'height \(m\)'\?\).* there, .* here",
        ),
        (
            "age,sex,smokes,diagnosis\n30,m,yes,B\n",
            r"no column 'height \(cm\)'.*: \[age, height \(cm\), sex, smokes\] there, \[age, sex",
        ),
        (
            HEAD + "old,170,m,yes,B\nyoung,180,f,no,M\n",
            r"column 'age' has numbers in the experiment, but words here: \[old, young\]",
        ),
        (HEAD + "1,170,m,yes,benign\n", r"'benign' is none of the experiment's classes: \[B, M\]"),
        (
            "age,height (cm),sex,smokes,outcome\n1,170,m,yes,B\n",
            r"no label 'diagnosis': its columns are \[age, height \(cm\), sex, smokes, outcome\]",
        ),
    ],
)
def test_a_table_that_differs_is_refused(tables, text, says):
    with pytest.raises(DataError, match=says):
        tables(text)


def test_another_unit_is_noticed_by_the_values(tables):
    """In metres below the heading of centimetres."""
    metres = HEAD + "".join(f"40,1.{60 + n},m,yes,B\n" for n in range(20))
    site, _ = tables(metres, federated=False)
    (note,) = site.notes
    assert "'height (cm)' has the mean 1.695 " in note
    assert "but 174.5 and 8.655 in the experiment: is it in another unit" in note


def test_another_unit_is_noticed_once_the_sums_are_added(tables):
    """The party with metres blows up the deviation of all, which the others see."""
    own, initial = tables(HEAD + ROWS)
    other, _ = tables(HEAD + "".join(f"40,{1600 + n},m,yes,B\n" for n in range(20)))
    columns = agreement_of(read_metadata(initial)).normalise
    sums = [site.declaration().sums for site in (own, other)]
    scales = [ScaleView(**vars(scale)) for scale in scales_of(columns, sums)]
    _, _, notes = other.ready(scales)
    assert any("'height (cm)'" in note and "another unit" in note for note in notes)


def test_columns_in_another_order_and_a_column_without_values_are_taken(tables):
    site, _ = tables("diagnosis,smokes,sex,height (cm),age,extra\nB,yes,m,170,,7\n")
    assert site.declaration().examples == 1


def test_the_facts_name_label_classes_and_columns(tables):
    site, initial = tables(HEAD + ROWS)
    facts = site.declaration().facts
    assert facts == agreement_of(read_metadata(initial)).facts
    assert facts["label"] == "diagnosis"
    assert (facts["class 0"], facts["class 1"]) == ("B", "M")
    assert facts["column age"] == "number"
    assert facts["column sex"] == "category: f, m"
    assert len(facts["fingerprint"]) == 64


def test_sums_of_fewer_than_five_values_stay_at_home(tables):
    rows = "".join(f"{30 + n if n < 4 else ''},{160 + n},m,yes,B\n" for n in range(9))
    site, _ = tables(HEAD + rows)
    sums = {one.column: one for one in site.declaration().sums}
    assert (sums["age"].count, sums["age"].sum, sums["age"].squares) == (0, 0.0, 0.0)
    assert (sums["height (cm)"].count, sums["height (cm)"].sum) == (9, 1476.0)


def test_a_normalised_table_is_that_of_all_parties(tmp_path):
    """Three unequal hospitals: mean 0 and deviation 1 over all rows together."""
    paths = hospitals(tmp_path, (300, 170, 60))
    plan = plan_of(Look(like=paths[0], label="diagnosis"), federated=True)
    initial = plan.initial(0)
    sites = [read_site(Source(path=path), initial, federated=True) for path in paths]
    sums = [site.declaration().sums for site in sites]
    scales = [ScaleView(**vars(s)) for s in scales_of(plan.agreement.normalise, sums)]
    x = np.concatenate([site.ready(scales)[1].x for site in sites])
    measured = x[:, 0::2]  # every other input says where a value is missing
    known = np.where(x[:, 1::2] == 0, measured, np.nan)
    assert np.nanmean(known, 0) == pytest.approx(0, abs=1e-5)
    assert np.nanstd(known, 0) == pytest.approx(1, abs=1e-5)


def test_pictures_of_classes_in_another_order_are_refused_by_name(tmp_path):
    (site,) = picture_sites(tmp_path, [60])
    initial = plan_of(Look(like=site), federated=False).initial(0)
    other = tmp_path / "other.npz"
    names = np.array([str(n) for n in reversed(range(10))])
    np.savez(other, x_train=np.zeros((10, 8, 8), np.uint8), y_train=np.arange(10), classes=names)
    says = r"in another order.*\[0, 1, 2.* there, \[9, 8, 7.* here\. Give --map-classes"
    with pytest.raises(DataError, match=says):
        read_site(Source(path=other), initial, federated=False)
    mapped = read_site(Source(path=other, map_classes=True), initial, federated=False)
    assert mapped.ready([])[1].y.tolist() == list(reversed(range(10)))


def test_a_site_may_lack_a_class(tmp_path):
    whole, part = picture_sites(tmp_path, [60, 40])
    for file in (part / "3").iterdir():
        file.unlink()
    (part / "3").rmdir()
    initial = plan_of(Look(like=whole), federated=False).initial(0)
    labels = read_site(Source(path=part), initial, federated=False).ready([])[1].y
    assert sorted(set(labels.tolist())) == [0, 1, 2, 4, 5, 6, 7, 8, 9]


@pytest.mark.parametrize("network", ["linear", "mlp"])
def test_a_model_that_describes_more_than_it_holds_is_refused(tables, tmp_path, network):
    tables(HEAD + ROWS)
    look = Look(like=tmp_path / "like.csv", label="diagnosis", model=network)
    plan = plan_of(look, federated=True)
    weights = plan.task.initial(0)
    assert plan.task.count() == sum(array.size for array in weights.values())
    metadata = plan.task.metadata()
    words = json.loads(metadata["table"])
    words["columns"][2]["categories"] = [str(n) for n in range(1000)]
    words["label"]["classes"] = [str(n) for n in range(1000)]
    small = weights_file.write({"w": np.zeros(1)}, metadata | {"table": json.dumps(words)})
    with pytest.raises(DataError, match="fewer weights than the model that it describes"):
        read_site(Source(path=tmp_path / "like.csv"), small, federated=True)


@pytest.mark.parametrize(
    ("look", "says"),
    [
        (Look(), "Say what the parties' data look like"),
        (Look(columns=["age=number"]), "--label"),
        (Look(label="x", columns=["age"]), "--column is NAME=number"),
        (Look(label="x", columns=["sex=category"]), "--column is NAME=number"),
        (Look(label="x", columns=["age=number"], model="resnet"), "one of auto, linear, mlp"),
    ],
)
def test_a_description_that_says_too_little_is_explained(look, says):
    with pytest.raises(DataError, match=says):
        plan_of(look, federated=True)


def test_a_description_in_words_is_that_of_a_sample(tables, tmp_path):
    tables(HEAD + ROWS)
    sample = plan_of(Look(like=tmp_path / "like.csv", label="diagnosis"), federated=True)
    words = ["age=number", "height (cm)=number", "sex=category:f,m", "smokes=boolean"]
    said = plan_of(Look(label="diagnosis", columns=words, classes=["B", "M"]), federated=True)
    assert said.agreement == sample.agreement
    assert said.initial(0) == sample.initial(0)


@pytest.mark.parametrize(
    ("theirs", "ours", "note"),
    [
        (("no", "yes"), ("0", "1"), "Classes are matched: '0' as 'no', '1' as 'yes'."),
        (("0", "1"), ("No", "YES"), "Classes are matched: 'No' as '0', 'YES' as '1'."),
        (("benign", "ill"), ("Benign", "ILL "), "Benign' as 'benign', 'ILL' as 'ill'."),
    ],
)
def test_a_federated_table_joins_with_classes_that_are_written_otherwise(
    tmp_path, theirs, ours, note
):
    for name, words in (("like", theirs), ("own", ours)):
        rows = "".join(f"{n % 7},{words[n % 2]}\n" for n in range(20))
        (tmp_path / f"{name}.csv").write_text(f"age,sick\n{rows}")
    plan = plan_of(Look(like=tmp_path / "like.csv", label="sick"), federated=True)
    source = Source(path=tmp_path / "own.csv", map_classes=True)
    site = read_site(source, plan.initial(0), federated=True)
    assert any(note in one for one in site.notes)
    declared = site.declaration()
    assert [(one.column, one.count) for one in declared.sums] == [("age", 20)]
    scales = [ScaleView(column="age", mean=3, deviation=2, count=20)]
    _, data, _ = site.ready(scales)
    assert data.y.tolist() == [0, 1] * 10
    with pytest.raises(DataError, match="--map-classes takes it for"):
        read_site(Source(path=tmp_path / "own.csv"), plan.initial(0), federated=True)


def test_sites_count_their_classes_in_the_experiments_order(tables, tmp_path):
    text = HEAD + "1,170,m,yes,m\n2,180,f,no,M\n3,,f,no,B\n"
    site, _ = tables(text, map_classes=True)
    assert list(site.label_counts().items()) == [("B", 1), ("M", 2)]
    whole, part = picture_sites(tmp_path, [60, 40])
    for file in (part / "3").iterdir():
        file.unlink()
    (part / "3").rmdir()
    initial = plan_of(Look(like=whole), federated=False).initial(0)
    counts = read_site(Source(path=part), initial, federated=False).label_counts()
    assert list(counts) == [str(n) for n in range(10)]
    assert counts == {str(n): len(list((part / str(n)).glob("*"))) for n in range(10)}


def test_labels_that_are_numbers_or_too_many_have_no_counts():
    for classes, says in ((None, "no classes"), (["x"] * 101, "100 labels, and there are 101")):
        with pytest.raises(DataError, match=says):
            label_counts([0], classes)
    long = ["n" * 80 + end for end in "ab"]
    assert list(label_counts([0, 1, 1], long).values()) == [1, 2]
