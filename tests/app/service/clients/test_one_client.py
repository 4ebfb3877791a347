"""What one client says counts for no more than its data, and only while it takes part."""

import asyncio
import hashlib
import itertools
import json

import pytest

from app.service.coordinator import Limits, Subscriber
from client_sdk.errors import NotAuthorised, RequestRefused, StateConflict
from serverless_fl.domain.errors import Conflict, Revoked
from serverless_fl.domain.goal import ACCURACY
from serverless_fl.domain.metrics import metric_fault
from serverless_fl.domain.records import Blob, Update
from serverless_fl.domain.stopping import agreed_rate
from tests.support.federation import config, value_of, weights
from tests.support.leases import Slow
from tests.support.plain_http import bearer


def updates(*reports):
    """Of (accuracy or None, number of examples) each."""
    blob = Blob(prefix="", sha256="", parts=(), sizes=())
    return [
        Update(
            experiment_id="e",
            round=1,
            slot=slot,
            blob=blob,
            offset=0,
            num_examples=examples,
            metrics={} if accuracy is None else {"accuracy_before": accuracy},
            received_at=0.0,
        )
        for slot, (accuracy, examples) in enumerate(reports)
    ]


@pytest.mark.parametrize(
    ("reports", "expected"),
    [
        ([(0.9, 10), (0.8, 10), (1.0, 10)], 0.9),
        ([(0.9, 10), (1.0, 10)], 0.9),
        ([(1.0, 1), *[(0.1, 10)] * 9], 0.1),
        ([(0.0, 1), *[(0.95, 10)] * 9], 0.95),
        ([(1.0, 51), (0.1, 49)], 1.0),
        ([(1.0, 50), (0.1, 50)], 0.1),
        ([(1.0, 10), (None, 10)], None),
        ([(1.0, 11), (None, 10)], 1.0),
        ([(None, 5)], None),
        ([], None),
    ],
)
def test_the_accuracy_that_more_than_half_agree_on(reports, expected):
    for order in itertools.islice(itertools.permutations(reports), 24):
        assert agreed_rate(ACCURACY, updates(*order)) == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("accuracy_before", v) for v in (1e30, -1e30, 1.0001, -0.0001)),
        *(("accuracy", 97.3), ("top5_accuracy", 2.0), ("val.f1", 1.5), ("AUC", -1.0)),
        *(("loss", -0.1), ("train_loss", -1e30), ("loss:val", -1e-9)),
        *(("anything", v) for v in (float("nan"), float("inf"), 2e30)),
    ],
)
def test_what_no_metric_can_be(name, value):
    assert name in metric_fault(name, value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("accuracy", v) for v in (0.0, 1.0, 0.5)),
        *(("loss", 0.0), ("loss", 1e30), ("glossary", -1.0), ("inaccuracy", 3.0)),
        *(("perplexity", 300.0), ("log_likelihood", -1e3)),
    ],
)
def test_what_a_metric_can_be(name, value):
    assert metric_fault(name, value) is None


@pytest.mark.parametrize("accuracy", [1e30, -1e30, 1.01])
async def test_an_impossible_accuracy_is_refused_whichever_way_it_comes(federation, accuracy):
    experiment, members = await federation.start(target_accuracy=0.99)
    cohort = await federation.cohort(experiment)
    headers = bearer(members[cohort[0]].token)
    path = f"/v1/experiments/{experiment}"
    data, metrics = weights(1.0), {"accuracy_before": accuracy}
    sha = hashlib.sha256(data).hexdigest()
    facts = {"sha256": sha, "num_examples": 1, "metrics": json.dumps(metrics)}
    commit = {"sha256": sha, "parts": [sha], "num_examples": 1, "metrics": metrics}
    report = {"num_examples": 1, "metrics": metrics}
    http, update = federation.http, f"{path}/rounds/1/update"
    for answer in (
        await http.put(update, params=facts, content=data, headers=headers),
        await http.post(update, json=commit, headers=headers),
        await http.post(f"{path}/models/0/evaluations", json=report, headers=headers),
    ):
        assert answer.status_code == 422
        assert "accuracy_before" in answer.json()["detail"]
    for client in cohort:  # the update is not lost by that
        await members[client].upload(1, 1.0, 1, accuracy_before=0.5)
    shown = await federation.admin.experiment(experiment)
    assert (shown.state, shown.history[0].metrics) == ("running", {"accuracy_before": 0.5})


@pytest.mark.parametrize(("lie", "ends"), [(1.0, False), (0.0, True)])
async def test_one_client_of_three_neither_ends_a_run_nor_keeps_it_from_its_end(
    federation, lie, ends
):
    settings = {"clients": 3, "clients_per_round": 3, "rounds": 2, "target_accuracy": 0.9}
    experiment, members = await federation.start(**settings, dataset_size=6000)
    honest = 0.95 if ends else 0.3
    for number, member in enumerate(members.values()):
        await member.upload(1, 1.0, 1800, accuracy_before=lie if number == 0 else honest)
    shown = await federation.admin.experiment(experiment)
    assert (shown.state == "completed") is ends
    if ends:
        assert "target accuracy of 90.00% was reached: 95.00% with model 0" in shown.reason


async def test_whoever_alone_reports_an_accuracy_does_not_decide(federation):
    experiment, members = await federation.start(target_accuracy=0.9)
    first, second = await federation.cohort(experiment)
    await members[first].upload(1, 1.0, 9, accuracy_before=1.0)
    await members[second].upload(1, 1.0, 10)
    assert (await federation.admin.experiment(experiment)).state == "running"


async def test_a_client_measures_no_more_examples_than_it_has(federation):
    experiment, members = await federation.start()
    client = next(iter(members.values()))
    with pytest.raises(RequestRefused) as refused:
        await client.api.report_evaluation(experiment, 0, 11, {"accuracy": 0.0})
    assert (refused.value.status, refused.value.code) == (422, "examples-out-of-range")
    await client.api.report_evaluation(experiment, 0, 10, {"accuracy": 0.5})
    await federation.admin.report_evaluation(experiment, 0, 10**6, {"accuracy": 0.5})  # central
    (model,) = await federation.admin.models(experiment)
    assert {e.num_examples for e in model.evaluations} == {10, 10**6}


# What was allowed when a request began


class Meanwhile:
    """A store before one of whose calls something else happens, once."""

    def __init__(self, inner, wanted, happens):
        self._inner, self._wanted, self._happens = inner, wanted, happens

    def __getattr__(self, name):
        method = getattr(self._inner, name)

        async def call(*args, **kwargs):
            if self._happens is not None and self._wanted(name, *args):
                happens, self._happens = self._happens, None
                await happens()
            return await method(*args, **kwargs)

        return call


def storing_a_part(name, key, *_):
    return name == "put" and key.startswith("uploads/")


async def upload_in_which(federation, experiment, members, happens):
    """The first of the cohort brings its update, and this happens as its bytes are stored."""
    cohort = await federation.cohort(experiment)
    blobs = Meanwhile(federation.blobs, storing_a_part, happens)
    federation.app.state.coordinator = federation.coordinator(blobs=blobs)
    return cohort, members[cohort[0]].upload(1, 9.0)


async def test_an_upload_that_began_before_its_client_was_revoked_is_not_accepted(federation):
    experiment, members = await federation.start(quorum=1)
    other = federation.coordinator()

    async def revoke():
        await other.access.revoke(experiment, cohort[0], "admin")

    cohort, upload = await upload_in_which(federation, experiment, members, revoke)
    with pytest.raises(NotAuthorised) as refused:
        await upload
    assert refused.value.code == "revoked"
    await members[cohort[1]].upload(1, 2.0)
    round_ = await federation.admin.round(experiment, 1)
    assert (round_.state, round_.reported) == ("closed", [cohort[1]])
    assert value_of(await federation.admin.download_model(experiment, 1)) == 2.0


async def test_of_two_updates_at_one_moment_one_stands_and_the_other_is_told(federation):
    experiment, members = await federation.start()
    member = members[(await federation.cohort(experiment))[0]]
    slow = Slow(federation.documents, "insert", lambda kind, *_: kind == "updates", once=True)
    federation.app.state.coordinator = federation.coordinator(slow)
    late = asyncio.create_task(member.upload(1, 1.0))
    await slow.asleep.wait()
    await member.upload(1, 2.0)
    slow.wake.set()
    with pytest.raises(StateConflict, match=r"Another update of .* stands for round 1"):
        await late


async def test_an_upload_that_began_before_a_stop_leaves_no_record(federation):
    experiment, members = await federation.start()
    other = federation.coordinator()

    async def stop():
        await other.experiments.stop(experiment, "Enough.")

    cohort, upload = await upload_in_which(federation, experiment, members, stop)
    with pytest.raises(StateConflict):
        await upload
    slot = int(cohort[0][7:])
    assert await other.context.repo.update(experiment, 1, slot) is None


async def test_a_revoked_client_reports_no_evaluation_that_began_before(federation):
    experiment, members = await federation.start()
    client = next(iter(members.values()))
    service = federation.coordinator()
    await service.access.revoke(experiment, client.id, "admin")
    report = {"num_examples": 1, "metrics": {"accuracy": 0.5}}
    with pytest.raises(Revoked):
        await service.models.evaluate(experiment, 0, client.id, **report)


# Copies of one request at once


@pytest.mark.parametrize("processes", [1, 3])
async def test_a_key_that_enrols_several_times_at_once_has_its_slot(federation, processes):
    """Also where it takes the last one, so that its own copies find the experiment full."""
    experiment, key = await federation.create(clients=3, clients_per_round=2)
    services = [federation.coordinator() for _ in range(processes)]
    for number in range(3):
        request = Subscriber(client_key=hashlib.sha256(str(number).encode()).hexdigest())
        copies = [
            services[n % processes].enrolment.subscribe(experiment, key, request) for n in range(6)
        ]
        answers = await asyncio.gather(*copies)
        assert {(a.client_id, a.token) for a in answers} == {
            (f"client-{number:02d}", answers[0].token)
        }
    late = Subscriber(client_key="x" * 40)
    with pytest.raises(Exception, match="All 3 slots"):
        await services[0].enrolment.subscribe(experiment, key, late)


async def test_a_key_that_creates_several_times_at_once_has_its_experiment(federation):
    """Also where its first copy takes the last place, just before the second one counts them."""
    limits = Limits(max_experiments=1)
    first, made = federation.coordinator(limits=limits), []
    request = "x", config().to_config()

    async def faster():
        made.append(await first.experiments.create(*request, "one-and-the-same"))

    def counting(name, kind, *_):
        return name == "scan" and kind == "experiments"

    documents = Meanwhile(federation.documents, counting, faster)
    second = federation.coordinator(documents, limits=limits)
    experiment, _ = await second.experiments.create(*request, "one-and-the-same")
    assert [found.id for found, _ in made] == [experiment.id]
    with pytest.raises(Conflict, match="1 experiments are open"):
        await first.experiments.create(*request, "another-one-key")


async def test_nobody_enrols_with_a_key_that_is_replaced_or_once_it_has_ended(federation):
    """The slot that is tried first is taken meanwhile, and the key or the experiment with it."""
    for change, message in (("key", "not the experiment's enrolment key"), ("end", "stopped")):
        experiment, key = await federation.create(seed=len(change + message))
        other = federation.coordinator()

        async def meanwhile(experiment=experiment, key=key, change=change, other=other):
            taken = Subscriber(client_key="t" * 40)
            await other.enrolment.subscribe(experiment, key, taken)
            if change == "key":
                await other.access.replace_enrolment_key(experiment, None, "admin")
            else:
                await other.experiments.stop(experiment, "Enough.")

        def enrolling(name, kind, *_):
            return name == "insert" and kind == "clients"

        late = federation.coordinator(Meanwhile(federation.documents, enrolling, meanwhile))
        with pytest.raises(Exception, match=message):
            await late.enrolment.subscribe(experiment, key, Subscriber(client_key="u" * 40))
        assert await other.context.repo.count_clients(experiment) == 1
