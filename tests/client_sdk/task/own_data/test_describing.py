"""What an organiser says of every party's data, by a sample or in words."""

import numpy as np
import pytest

from client_sdk.errors import DataError
from client_sdk.task import weights_file
from client_sdk.task.own_data.describing import Look, plan_of, plan_of_model


@pytest.fixture
def sample(tmp_path):
    path = tmp_path / "sample.csv"
    path.write_text("patient,icd,ill\n1007,3,yes\n1014,4,no\n1021,3,no\n")
    return path


def test_kinds_correct_what_is_guessed_of_a_sample(sample):
    look = Look(like=sample, label="ill", kinds={"patient": "ignore", "icd": "category"})
    columns = plan_of(look, federated=True).task.schema.columns
    assert [(one.name, one.kind, one.categories) for one in columns] == [
        ("icd", "category", ("3", "4"))
    ]


@pytest.mark.parametrize("look", [{"label": "ill", "columns": ["icd=number"]}, {"like": "pics"}])
def test_kinds_are_of_a_table_like_those_of_the_parties(look):
    with pytest.raises(DataError, match="--kinds says what the columns of a table are"):
        plan_of(Look(**look, kinds={"patient": "ignore"}), federated=False)


@pytest.mark.parametrize("federated", [False, True])
def test_a_given_model_says_what_the_data_of_its_parties_look_like(sample, federated):
    first = plan_of(Look(like=sample, label="ill", model="mlp"), federated=False)
    trained = first.task.initial(7)
    file = weights_file.write(trained, first.task.metadata())
    again = plan_of_model(file, "it", federated=federated)
    assert again.task.name == "table-mlp"
    assert (
        again.agreement
        == plan_of(Look(like=sample, label="ill", model="mlp"), federated=federated).agreement
    )
    data = again.initial(0)
    assert weights_file.write(weights_file.read(data)) == weights_file.write(trained)
    assert first.initial(0) != data


def test_a_given_model_that_says_too_little_is_explained(sample):
    scaleless = plan_of(Look(like=sample, label="ill"), federated=True).initial(0)
    with pytest.raises(DataError, match="it lacks means and deviations"):
        plan_of_model(scaleless, "it", federated=False)
    assert plan_of_model(scaleless, "it", federated=True).initial(1) == scaleless
    plain = weights_file.write({"w": np.zeros(2)})
    with pytest.raises(DataError, match="does not say what data it learns from"):
        plan_of_model(plain, "it", federated=False)


def test_a_given_model_of_pictures():
    about = plan_of(Look(classes=("a", "b"), size=(8, 8), grey=True), federated=False)
    file = about.initial(3)
    assert plan_of_model(file, "it", federated=False).initial(0) == file
    with pytest.raises(DataError, match="is for tables"):
        plan_of_model(file, "it", federated=True)


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (
            ["benign"] * 6,
            r"'sick' has the class \[benign\] only, so there is nothing to tell apart",
        ),
        (["Benign", "benign", "ill"] * 2, "Benign' and 'benign', which differ by capitals or blan"),
    ],
)
def test_classes_that_cannot_be_meant_are_refused_at_once(tmp_path, labels, says):
    path = tmp_path / "like.csv"
    path.write_text("age,sick\n" + "".join(f"{n % 4},{word}\n" for n, word in enumerate(labels)))
    with pytest.raises(DataError, match=says):
        plan_of(Look(like=path, label="sick"), federated=True)


def test_one_class_is_enough_where_the_others_are_named(tmp_path):
    path = tmp_path / "like.csv"
    path.write_text("age,sick\n1,no\n1,no\n2,no\n")
    plan = plan_of(Look(like=path, label="sick", classes=("no", "yes")), federated=True)
    assert plan.task.schema.classes == ("no", "yes")
