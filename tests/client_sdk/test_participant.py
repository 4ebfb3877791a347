"""A client's life with a trainer that does as it is told."""

import asyncio
import math
from dataclasses import replace

import numpy as np
import pytest
import safetensors.numpy

from client_sdk.errors import DataError, NotAuthorised, RequestRefused, StateConflict
from client_sdk.participant import Participant, Terms
from client_sdk.task.task import Evaluation, LocalUpdate
from tests.support.federation import value_of, weights
from tests.support.participants import Adding, one_turn, take_part


async def test_each_client_of_a_cohort_trains_once_a_round(quick):
    trainer = Adding()
    shown, events = await take_part(quick, trainer, rounds=3)
    assert len(trainer.trained) == len(set(trainer.trained)) == 6
    assert value_of(await quick.admin.download_model(shown.id)) == 3.0
    uploaded = [(e.client_id, e.round) for e in events if e.kind == "uploaded"]
    assert sorted(uploaded) == sorted(trainer.trained)
    told = [e.message for e in events if e.kind == "waiting"]
    assert told
    assert all(message.endswith(".") for message in told)


async def test_a_client_says_its_name_and_what_its_training_brought(quick):
    experiment, key = await quick.create(clients=1, clients_per_round=1, rounds=2)

    class Measuring(Adding):
        async def train(self, client_id, indices, data, task):
            update = await super().train(client_id, indices, data, task)
            after = {"accuracy_after": 0.75} if task.round == 2 else {}
            return replace(update, metrics=update.metrics | after)

    events = []
    client = Participant(
        quick.admin, experiment, "0" * 40, Measuring(), name="The Lab", on_event=events.append
    )
    await client.enrol(key)
    async with asyncio.timeout(30):
        await client.run()
    (known,) = await quick.coordinator().context.repo.clients(experiment, "", 9)
    assert known.name == "The Lab"
    assert [e.message for e in events if e.kind == "uploaded"] == [
        "",  # nothing was measured after the first
        "accuracy 50.00% on this client's held-out examples, 75.00% after training",
    ]


async def test_a_refused_client_does_not_try_the_same_again_and_the_rest_go_on(quick):
    trainer = Adding(spoilt=("client-01",))
    shown, events = await take_part(quick, trainer, rounds=4)
    assert len(trainer.trained) == len(set(trainer.trained)) == 8
    refused = [e for e in events if e.kind == "refused"]
    assert refused
    assert all("NaN or infinity" in e.message for e in refused)
    assert {e.client_id for e in refused} == {"client-01"}
    assert value_of(await quick.admin.download_model(shown.id)) == 4.0
    assert [r.metrics["loss_before"] for r in shown.history] == [1, 2, 3, 4]


async def test_one_who_comes_too_late_goes_on_with_the_next_round(quick):
    other_is_in, next_round = asyncio.Event(), asyncio.Event()

    class Slow(Adding):
        async def train(self, client_id, indices, data, task):
            if task.round == 1 and client_id == "client-03":
                await other_is_in.wait()
                quick.clock.now += 61  # past the deadline
                await next_round.wait()  # someone polls, and the round closes
            return await super().train(client_id, indices, data, task)

    def tell(event):
        if (event.client_id, event.kind, event.round) == ("client-02", "uploaded", 1):
            other_is_in.set()
        if event.round == 2:
            next_round.set()

    trainer = Slow()
    shown, events = await take_part(quick, trainer, tell, rounds=3, seed=1)
    late = [e for e in events if e.kind == "late"]
    assert [(e.client_id, e.round) for e in late] == [("client-03", 1)]
    assert shown.history[0].accepted == 1
    assert ("client-03", 2) in trainer.trained


async def test_a_restarted_client_is_the_same_client(quick):
    experiment, key = await quick.create()
    one = Participant(quick.admin, experiment, "k" * 40, Adding())
    await one.enrol(key)
    other = Participant(quick.admin, experiment, "k" * 40, Adding())
    await other.enrol(key)
    assert other.id == one.id
    assert (await quick.admin.experiment(experiment)).enrolled == 1


async def test_a_wrong_enrolment_key_is_an_error(quick):
    experiment, _ = await quick.create()
    with pytest.raises(NotAuthorised):
        await Participant(quick.admin, experiment, "k" * 40, Adding()).enrol("wrong")


class Measuring(Adding):
    """Finds the model's value for a loss; each client holds as many examples out as its number."""

    def __init__(self, failing=None):
        super().__init__()
        self.failing = failing
        self.measured = []

    async def evaluate(self, client_id, indices, data, seed):
        if self.failing:
            raise self.failing
        self.measured.append((client_id, len(indices), seed))
        number = int(client_id.removeprefix("client-"))
        return Evaluation(
            {"loss": value_of(data) if number > 1 else math.nan, "accuracy": number / 4}, number
        )


async def test_at_the_end_every_client_reports_what_the_last_model_is_worth_to_it(quick):
    trainer = Measuring()
    shown, events = await take_part(quick, trainer, rounds=2, seed=7)
    # All four, also whoever was never drawn; the experiment's seed, as in training.
    assert sorted(trainer.measured) == [(f"client-0{n}", 10, 7) for n in range(4)]
    first, middle, last = await quick.admin.models(shown.id)
    assert first.evaluations == middle.evaluations == []
    found = {e.source: (e.num_examples, e.metrics) for e in last.evaluations}
    assert found == {  # client-00 has no examples to measure by, client-01 no loss to speak of
        "client-01": (1, {"accuracy": 0.25}),
        "client-02": (2, {"accuracy": 0.5, "loss": 2.0}),
        "client-03": (3, {"accuracy": 0.75, "loss": 2.0}),
    }
    assert sum(e.kind == "evaluated" for e in events) == 3


async def test_who_was_told_the_terms_does_not_ask_for_them(quick, monkeypatch):
    """A simulation's clients are told, of whom most may never be drawn."""
    experiment, key = await quick.create(clients=3, clients_per_round=1, rounds=1, seed=7)
    view = await quick.admin.experiment(experiment)
    terms = Terms(7, view.part_bytes, view.direct)
    trainers = [Measuring() for _ in range(3)]
    clients = [
        Participant(quick.admin, experiment, f"{n}" * 40, trainer, terms=terms)
        for n, trainer in enumerate(trainers)
    ]

    async def asked(self, experiment_id):
        raise AssertionError

    monkeypatch.setattr(type(quick.admin), "experiment", asked)
    for client in clients:
        await client.enrol(key)
    await asyncio.gather(*(client.run() for client in clients))
    assert [len(t.measured) for t in trainers] == [1, 1, 1]
    assert {seed for t in trainers for _, _, seed in t.measured} == {7}


@pytest.mark.parametrize("failing", [DataError("no"), ValueError("no"), TimeoutError()])
async def test_a_model_that_cannot_be_measured_ends_the_clients_part_no_less(quick, failing):
    shown, events = await take_part(quick, Measuring(failing), rounds=1)
    assert shown.state == "completed"
    assert sum(e.kind == "unevaluated" for e in events) == 4


async def test_a_report_that_is_refused_ends_the_clients_part_no_less(quick):
    """The same client, started again after the end, with another result of its measuring."""
    experiment, key = await quick.create(clients=1, clients_per_round=1, rounds=1)
    kinds = []
    for accuracy in (0.5, 0.5, 0.75):

        class Other(Adding):
            async def evaluate(self, client_id, indices, data, seed, found=accuracy):
                return Evaluation({"loss": 0.1, "accuracy": found}, 4)

        told = []
        client = Participant(quick.admin, experiment, "k" * 40, Other(), on_event=told.append)
        await client.enrol(key)
        assert (await client.run()).state == "completed"
        kinds.append(told[-1].kind)
    assert kinds == ["evaluated", "evaluated", "unevaluated"]
    (report,) = (await quick.admin.models(experiment))[-1].evaluations
    assert report.metrics["accuracy"] == 0.5


async def test_a_model_that_is_here_is_not_sent_again(quick):
    """Neither for another attempt at a round, nor to be measured at the end."""
    experiment, key = await quick.create(clients=1, clients_per_round=1, rounds=1)
    fetched = []
    download = quick.admin.download_model

    class Late(Measuring):
        async def train(self, client_id, indices, data, task):
            update = await super().train(client_id, indices, data, task)
            if len(self.trained) == 1:
                raise StateConflict(409, "out-of-turn", "as it may be between two attempts")
            return update

    client = Participant(quick.admin, experiment, "k" * 40, trainer := Late())
    await client.enrol(key)
    api = client._client

    async def noted(*arguments, **options):
        before = api.traffic.received
        data = await download(*arguments, **options)
        fetched.append((arguments[1], api.traffic.received - before))
        return data

    api.download_model = noted
    quick.admin.download_model = noted
    assert (await client.run()).state == "completed"
    assert [number for _, number in trainer.trained] == [1, 1]
    size = len(weights(0))
    assert fetched == [(0, size), (1, size)]


async def test_a_base_model_that_is_the_last_one_is_not_sent_again_to_be_measured(quick):
    experiment, key = await quick.create(clients=1, clients_per_round=1, rounds=3)
    asked = []

    class Stopped(Measuring):
        async def train(self, client_id, indices, data, task):
            if task.round == 2:
                await quick.admin.stop_experiment(experiment)
            return await super().train(client_id, indices, data, task)

    client = Participant(quick.admin, experiment, "k" * 40, trainer := Stopped())
    await client.enrol(key)
    answer = client._client.connection.request

    async def noted(method, path, **options):
        response = await answer(method, path, **options)
        if "/models/" in path and method == "GET":
            asked.append((path.rpartition("/")[2], response.status_code, len(response.content)))
        return response

    client._client.connection.request = noted
    assert (await client.run()).state == "stopped"
    size = len(weights(0))
    assert asked == [("0", 206, size), ("1", 206, size), ("1", 304, 0)]
    assert len(trainer.measured) == 1


async def test_unchanged_bytes_are_answered_with_304(quick):
    experiment, _ = await quick.create()
    api = quick.admin
    data = await api.download_model(experiment, 0)
    for held, sent in [(data, 0), (weights(1), len(data)), (None, len(data))]:
        before = api.traffic.received
        assert await api.download_model(experiment, "latest", held=held) == data
        assert api.traffic.received - before == sent


async def test_the_noise_of_int8_is_each_clients_own(quick, monkeypatch):
    """Rounding at random is right on average over clients only if they do not all round alike."""
    sent = {}

    class Same(Adding):
        """Everybody finds the same weights, between two steps of int8."""

        async def train(self, client_id, indices, data, task):
            self.trained.append((client_id, task.round))
            found = np.linspace(0, 1, 500, dtype=np.float32) + value_of_first(data)
            return LocalUpdate(safetensors.numpy.save({"w": found}), len(indices), {})

    def value_of_first(data):
        return safetensors.numpy.load(data)["w"].flat[0]

    initial = safetensors.numpy.save({"w": np.zeros(500, np.float32)})
    experiment, key = await quick.create(
        initial, update_encoding="delta-int8", clients=3, clients_per_round=3, rounds=2
    )
    kind = type(quick.admin)
    upload = kind.upload_update

    async def noted(self, experiment_id, number, data, *arguments, **options):
        sent.setdefault(number, []).append(data)
        return await upload(self, experiment_id, number, data, *arguments, **options)

    monkeypatch.setattr(kind, "upload_update", noted)
    clients = [Participant(quick.admin, experiment, f"{n}" * 40, Same()) for n in range(3)]
    for client in clients:
        await client.enrol(key)
    await asyncio.gather(*(client.run() for client in clients))
    assert [len(set(found)) for found in sent.values()] == [3, 3]
    assert not set(sent[1]) & set(sent[2])


@pytest.mark.parametrize(("less", "fetches"), [(0, 1), (1, 2)])
async def test_a_model_is_kept_that_has_as_many_bytes_as_may_be_kept(quick, less, fetches):
    size = len(weights(0))
    client, task, _ = await one_turn(quick, Adding(), keep_bytes=size - less)
    before = client._client.traffic.received
    for _ in range(2):
        assert value_of(await client._base(task)) == 0.0
    assert client._client.traffic.received - before == fetches * size


@pytest.mark.parametrize(
    ("error", "kind", "given_up"),
    [
        (RequestRefused(422, "non-finite", "words"), "refused", True),
        (StateConflict(409, "other-update", "words"), "late", True),
        (StateConflict(409, "out-of-turn", "words"), "late", False),
    ],
)
async def test_an_attempt_is_given_up_where_the_same_again_would_be_refused(
    quick, error, kind, given_up
):
    class Refused(Adding):
        async def train(self, client_id, indices, data, task):
            raise error

    client, task, told = await one_turn(quick, Refused())
    await client._take_part(task)
    assert [(e.kind, e.round) for e in told] == [("training", 1), (kind, 1)]
    assert told[-1].message == "words"
    assert client._given_up == ({(1, 1)} if given_up else set())


async def test_a_coordinators_own_fault_is_no_refusal(quick):
    class Failing(Adding):
        async def train(self, client_id, indices, data, task):
            raise RequestRefused(500, "internal-error", "words")

    client, task, told = await one_turn(quick, Failing())
    with pytest.raises(RequestRefused):
        await client._take_part(task)
    assert [e.kind for e in told] == ["training"]
    assert not client._given_up


@pytest.mark.parametrize("asked", [True, False])
async def test_a_party_that_agrees_shares_its_labels_where_the_experiment_asks(quick, asked):
    settings = {"label_counts": "asked"} if asked else {}
    experiment, key = await quick.create(clients=2, clients_per_round=1, **settings)
    told = []
    for n, agrees in enumerate([True, False]):
        client = Participant(
            *(quick.admin, experiment, f"{n}" * 40, Adding()),
            on_event=told.append,
            labels=(lambda places: {"even": sum(p % 2 == 0 for p in places)}) if agrees else None,
        )
        await client.enrol(key)
    one, other = await quick.admin.clients(experiment)
    assert (sorted(one.labels), other.labels) == (["even"] if asked else [], {})
    kinds = ["enrolled", "shared" if asked else "unshared", "enrolled"]
    assert [event.kind for event in told] == kinds
