"""Whole runs of strategies that clients have a part in; what clients keep survives any death."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import safetensors.numpy

from client_sdk.data.holdout import hold_out
from client_sdk.data.seeds import derive_seed
from client_sdk.errors import DataError, TrainingFailed
from client_sdk.memory.memory import Memory
from client_sdk.participant import Participant
from client_sdk.task import weights_file
from client_sdk.task.settings import TrainSettings
from serverless_fl.aggregation.fednova import effective_steps
from tests.support.dying import Died
from tests.support.learners import CLIENTS, DATA, TASK, digests, learn, learning, require_verified
from tests.support.participants import Adding
from tests.support.sample import whole

pytestmark = pytest.mark.usefixtures("one_thread")
FEDDYN = {"name": "feddyn", "feddyn_alpha": 0.5}
KEEPING = pytest.mark.parametrize("strategy", ["scaffold", FEDDYN], ids=["scaffold", "feddyn"])


async def test_fednova_gets_the_steps_of_each_client(quick):
    """14 examples less one held out are 4 batches: 8 steps in 2 epochs."""
    found = await learn(quick, strategy="fednova", momentum=0.5)
    for number in range(1, 5):
        round_ = await quick.admin.round(found.experiment, number)
        steps = [update.metrics["effective_steps"] for update in round_.updates]
        assert steps == pytest.approx([effective_steps(8, 0.5)] * 2)


async def test_other_strategies_get_no_steps(quick):
    found = await learn(quick, rounds=1)
    (update, _) = (await quick.admin.round(found.experiment, 1)).updates
    assert "effective_steps" not in update.metrics


async def test_fedprox_is_a_setting_of_the_training(quick):
    runs = [
        await learn(quick, rounds=1, proximal_mu=mu, max_gradient_norm=norm)
        for mu, norm in ((0.0, None), (1.0, None), (0.0, 0.1))
    ]
    models = [await quick.admin.download_model(found.experiment) for found in runs]
    assert len(set(models)) == 3


def arrays(data):
    return safetensors.numpy.load(data)


def files(folder):
    """Where each client keeps its memory."""
    return lambda number: {"memory": Memory(folder / f"{number}.memory")}


async def test_scaffolds_control_is_the_mean_of_what_its_clients_keep(quick, tmp_path):
    """All take part, so c is the mean of all c_i."""
    found = await learn(
        quick, options=files(tmp_path), strategy="scaffold", clients_per_round=CLIENTS
    )
    state = arrays(await quick.admin.download_state(found.experiment, 4, "control"))
    kept = [arrays((tmp_path / f"{n}.memory").read_bytes()) for n in range(CLIENTS)]
    for name, control in state.items():
        mean = np.mean([one[name] for one in kept], axis=0)
        np.testing.assert_allclose(control, mean, rtol=1e-4, atol=1e-5)
    assert np.abs(kept[0]["0.weight"] - kept[1]["0.weight"]).max() > 0.01


async def test_scaffolds_control_is_that_mean_in_buffered_rounds_too(quick, tmp_path):
    """Updates of older models come, and some come after the end and count nowhere."""
    settings = {"strategy": "scaffold", "schedule": "buffered", "clients_per_round": 1}
    found = await learn(quick, options=files(tmp_path), **settings)
    state = arrays(await quick.admin.download_state(found.experiment, 4, "control"))
    kept = [arrays(file.read_bytes()) for file in tmp_path.glob("*.memory")]
    for name, control in state.items():
        mean = np.sum([one[name] for one in kept], axis=0) / CLIENTS
        np.testing.assert_allclose(control, mean, rtol=1e-4, atol=1e-5)


async def test_feddyns_correction_is_the_mean_of_what_its_clients_keep(quick, tmp_path):
    """h = (alpha / m) sum of all changes, negated, is the mean of all g_k."""
    found = await learn(quick, options=files(tmp_path), strategy=FEDDYN)
    state = arrays(await quick.admin.download_state(found.experiment, 4, "correction"))
    kept = [arrays((tmp_path / f"{n}.memory").read_bytes()) for n in range(CLIENTS)]
    for name, correction in state.items():
        mean = np.mean([one[name] for one in kept], axis=0)
        np.testing.assert_allclose(correction, mean, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("settings", [{"update_encoding": "delta-int8"}, {"batch_size": 13}])
@KEEPING
async def test_what_clients_keep_changes_what_they_train(quick, tmp_path, strategy, settings):
    """Encodings, and a step an epoch."""
    with_files = await learn(quick, options=files(tmp_path), strategy=strategy, **settings)
    in_process = await learn(quick, strategy=strategy, **settings)
    assert await digests(with_files) == await digests(in_process)
    forgetful = await learn(
        quick, options=lambda number: {"memory": Forgetful()}, strategy=strategy, **settings
    )
    assert (await digests(forgetful))[-1] != (await digests(with_files))[-1]


class Forgetful(Memory):
    """Loses its file at once."""

    def kept(self):
        return None


class Dying(Memory):
    """Dies before its write or removal numbered `death`, from 0 on."""

    def __init__(self, path, count, death):
        super().__init__(path)
        self._count, self._death = count, death

    def _step(self):
        if next(self._count) == self._death:
            raise Died

    def _write(self, suffix, data):
        self._step()
        super()._write(suffix, data)

    def discard(self):
        self._step()
        super().discard()


ROUNDS = 3 if whole() else 2  # the second is the first that reads what was kept


async def by_turns(federation, folder, death=None):
    """Clients that take turns in processes of their own; one dies, and comes back."""
    found = await learning(federation, options=files(folder), strategy="scaffold", rounds=ROUNDS)
    count, died, ended = itertools.count(), 0, set()
    for number in itertools.cycle(range(CLIENTS)):
        memory = Dying(folder / f"{number}.memory", count, death)
        client = Participant(
            federation.admin, found.experiment, f"{number}" * 40, found.trainer, memory=memory
        )
        await client.enrol(found.key)
        try:
            if (await client.turn()).done:
                ended.add(number)
        except Died:
            died += 1
        if len(ended) == CLIENTS:
            break
    found.trainer.close()
    await require_verified(found)
    return await digests(found), died


async def test_a_death_at_any_write_of_what_a_client_keeps(quick, tmp_path):
    """Each update counts once in what its client keeps, so the models are those of a quiet run."""
    quiet, _ = await by_turns(quick, tmp_path / "quiet")
    for death in range(100):
        found, died = await by_turns(quick, tmp_path / f"{death}", death)
        if not died:
            break
        assert found == quiet
    assert death == ROUNDS * 2 * 3  # clients a round, and three writes of each


class Spoiling:
    """A trainer whose updates the coordinator refuses, or that comes too late."""

    def __init__(self, trainer, spoil=None, value=None):
        self._trainer, self._spoil, self._value = trainer, spoil, value

    async def train(self, *arguments):
        raise AssertionError("the strategy corrects gradients")

    async def train_corrected(self, client_id, indices, weights, task, offset):
        update = await self._trainer.train_corrected(client_id, indices, weights, task, offset)
        await self._spoil()
        if self._value is None:
            return update
        spoilt = {n: np.full_like(a, self._value) for n, a in arrays(update.weights).items()}
        return replace(update, weights=safetensors.numpy.save(spoilt))


async def one_round(quick, folder, spoil, value=None):
    """A client's only turn; gives its memory and what it told."""
    found = await learning(quick, strategy="scaffold", clients=1, clients_per_round=1, rounds=2)
    told, memory = [], Memory(folder / "memory")
    client = Participant(
        quick.admin,
        found.experiment,
        "0" * 40,
        Spoiling(found.trainer, lambda: spoil(found.experiment), value),
        memory=memory,
        on_event=told.append,
    )
    await client.enrol(found.key)
    await client.turn()
    found.trainer.close()
    return memory, [event.kind for event in told]


async def test_what_was_accepted_is_kept(quick, tmp_path):
    memory, told = await one_round(quick, tmp_path, quick.admin.experiment)
    assert "uploaded" in told
    assert memory.kept() is not None and memory.proposal() is None


async def test_a_refused_update_changes_nothing_that_is_kept(quick, tmp_path):
    memory, told = await one_round(quick, tmp_path, quick.admin.experiment, np.nan)
    assert "refused" in told
    assert memory.kept() is None and memory.proposal() is None


async def test_a_late_update_changes_nothing_that_is_kept(quick, tmp_path):
    memory, told = await one_round(quick, tmp_path, quick.admin.stop_experiment)
    assert "late" in told
    assert memory.kept() is None and memory.proposal() is None


@KEEPING
async def test_a_trainer_that_corrects_nothing_is_refused(quick, strategy):
    made, key = await quick.create(strategy=strategy, clients=1, clients_per_round=1, momentum=0.0)
    client = Participant(quick.admin, made, "0" * 40, Adding())
    await client.enrol(key)
    with pytest.raises(TrainingFailed, match="does not correct gradients, which the strategy"):
        await client.run()


async def test_a_task_that_counts_no_steps_is_refused(quick):
    class Uncounted(Spoiling):
        async def train_corrected(self, *arguments):
            update = await self._trainer.train_corrected(*arguments)
            return replace(update, effective_steps=None)

    found = await learning(quick, strategy="scaffold", clients=1, clients_per_round=1)
    client = Participant(quick.admin, found.experiment, "0" * 40, Uncounted(found.trainer))
    await client.enrol(found.key)
    with pytest.raises(TrainingFailed, match="does not count its steps"):
        await client.run()
    found.trainer.close()


async def test_a_client_that_lost_its_file_begins_again_with_0(quick, tmp_path):
    """It goes on, and so does the experiment."""
    found = await learning(quick, strategy="scaffold", clients=1, clients_per_round=1, rounds=2)
    for _ in range(2):
        memory = Memory(tmp_path / "memory")
        client = Participant(quick.admin, found.experiment, "0" * 40, found.trainer, memory=memory)
        await client.enrol(found.key)
        await client.turn()
        assert memory.kept() is not None
        memory.path.unlink()
    found.trainer.close()
    await require_verified(found)


@pytest.mark.parametrize("content", [b"", b"{}", "of another model"])
async def test_a_damaged_file_is_named(quick, tmp_path, content):
    path = tmp_path / "memory"
    if content == "of another model":
        content = safetensors.numpy.save({"w": np.zeros(2, np.float32)})
    path.write_bytes(content)
    found = await learning(quick, strategy="scaffold", clients=1, clients_per_round=1)
    client = Participant(
        quick.admin, found.experiment, "0" * 40, found.trainer, memory=Memory(path)
    )
    await client.enrol(found.key)
    with pytest.raises(DataError, match=r"memory is not what this client has kept: .* Delete it"):
        await client.run()
    found.trainer.close()


async def evaluations(quick, found):
    (*_, last) = await quick.admin.models(found.experiment)
    return {one.source: one.metrics for one in last.evaluations}


async def test_fine_tuning_at_the_end_changes_no_model_and_is_reported(quick):
    """Before and after, by each client, also by those that were in no cohort of the last round."""
    plain, tuned = await learn(quick), await learn(quick, fine_tune_epochs=20)
    assert await digests(tuned) == await digests(plain)
    before, after = await evaluations(quick, plain), await evaluations(quick, tuned)
    assert before.keys() == after.keys() and len(after) == CLIENTS
    for client, metrics in after.items():
        assert metrics.keys() == {"accuracy", "loss", "accuracy_after", "loss_after"}
        assert metrics.items() >= before[client].items()
        assert metrics["loss_after"] != metrics["loss"]


async def test_fine_tuning_is_the_task_s_training_of_the_last_model(quick):
    """FedProx would hold it near that model."""
    found = await learn(quick, fine_tune_epochs=5, proximal_mu=1.0)
    model = weights_file.read(await quick.admin.download_model(found.experiment))
    (client, *_) = found.clients
    mine, held_out = hold_out(client._indices, derive_seed(0, "holdout", client.id))
    training = TrainSettings(5, 4, 0.2)
    seed = derive_seed(0, "fine-tuning", client.id)
    own = TASK.train(model, DATA.subset(mine), training, seed)
    expected = TASK.evaluate(own.weights, DATA.subset(held_out))
    metrics = (await evaluations(quick, found))[client.id]
    assert metrics["loss_after"] == pytest.approx(expected["loss"])


async def test_a_trainer_that_does_not_fine_tune_says_so(quick):
    class Measuring(Adding):
        async def evaluate(self, client_id, indices, data, seed):
            raise AssertionError("it would hide that nothing is tuned")

    made, key = await quick.create(clients=1, clients_per_round=1, fine_tune_epochs=1)
    told = []
    client = Participant(quick.admin, made, "0" * 40, Measuring(), on_event=told.append)
    await client.enrol(key)
    await client.run()
    (reason,) = [event.message for event in told if event.kind == "unevaluated"]
    assert reason == "This trainer does not fine-tune: give it a method fine_tune."
