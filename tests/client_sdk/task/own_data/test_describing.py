"""What an organiser says of every party's data, by a sample or in words."""

import pytest

from client_sdk.errors import DataError
from client_sdk.task.own_data.describing import Look, plan_of


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
