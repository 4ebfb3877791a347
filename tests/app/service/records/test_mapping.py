"""Documents of earlier versions are read, and their names stay."""

from app.service.records import mapping
from app.store.port import Document
from serverless_fl.domain.experiment import Best, Config, Experiment
from serverless_fl.domain.records import Blob, ModelVersion

FILE = Blob(prefix="models/e/0000001", sha256="1" * 64, parts=("1" * 64,), sizes=(3,))
SMALL = Blob(prefix="copies/e/0000001", sha256="2" * 64, parts=("2" * 64,), sizes=(2,))


def version(**changes):
    given = {"experiment_id": "e", "version": 1, "blob": FILE, "parent_sha256": None}
    return ModelVersion(**given, created_at=1.0, **changes)


def test_a_compressed_model_is_a_copy_in_its_document():
    for model in (version(compressed=SMALL), version()):
        body = mapping.body_of_model(model)
        assert "compressed" not in body
        assert mapping.model(Document("e/0000001", 1, body)) == model
    assert mapping.body_of_model(version(compressed=SMALL))["copy"]["sha256"] == "2" * 64


def test_a_document_from_before_there_were_compressed_models_is_read():
    body = mapping.body_of_model(version())
    del body["copy"]
    assert mapping.model(Document("e/0000001", 1, body)) == version()


def test_the_best_model_of_a_document_from_before_there_were_other_goals_is_read():
    config = Config(dataset="d", dataset_size=9, model="m", clients=1, clients_per_round=1)
    best = Best(version=2, value=0.75)
    experiment = Experiment(
        id="e", name="", config=config, created_at=1.0, enrol_key_hash="", best_held_out=best
    )
    body = mapping.body_of(experiment)
    assert mapping.experiment(Document("e", 1, body)).best_held_out == best
    body["best_held_out"] = {"version": 2, "accuracy": 0.75}
    assert mapping.experiment(Document("e", 1, body)).best_held_out == best
