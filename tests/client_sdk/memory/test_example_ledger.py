"""A client's own ledger of what its examples have cost."""

from __future__ import annotations

import pytest

from client_sdk.errors import DataError
from client_sdk.memory.example_ledger import ExampleLedger
from client_sdk.memory.memory import Memory
from serverless_fl.privacy.examples import ExampleNoise, NoisySteps, epsilon_of_steps
from serverless_fl.wire.turns import Training

NOISE = ExampleNoise(noise_multiplier=2.0, clip_norm=1.0, delta=1e-4)
TRAINING = Training(local_epochs=2, batch_size=10, learning_rate=0.1, momentum=0.0, seed=0)


def steps(count, rate=0.1):
    return NoisySteps(rate=rate, noise_multiplier=2.0, steps=count)


def test_it_adds_steps_up_and_outlives_its_process(tmp_path):
    path = tmp_path / "client.memory"
    assert ExampleLedger(Memory(path)).epsilon(NOISE) == 0
    for charged in (steps(20), steps(20), steps(5, 0.2)):
        ExampleLedger(Memory(path)).charge(charged)
    again = ExampleLedger(Memory(path))
    assert again.spent == [steps(40), steps(5, 0.2)]
    assert again.epsilon(NOISE) == epsilon_of_steps([steps(40), steps(5, 0.2)], 1e-4)
    assert again.epsilon(NOISE, steps(1)) > again.epsilon(NOISE)


def test_the_file_is_durable_before_charge_returns(tmp_path, monkeypatch):
    synced = []
    real = __import__("os").fsync
    monkeypatch.setattr("os.fsync", lambda file: (synced.append(file), real(file))[1])
    ExampleLedger(Memory(tmp_path / "memory")).charge(steps(1))
    assert synced
    assert b'"steps": 1' in (tmp_path / "memory.ledger").read_bytes()


@pytest.mark.parametrize("data", ["{", "[]", '{"spent": [{"rate": 1}]}'])
def test_a_damaged_ledger_is_never_an_empty_one(tmp_path, data):
    (tmp_path / "memory.ledger").write_text(data)
    with pytest.raises(DataError, match=r"memory\.ledger is damaged, so this client no longer"):
        ExampleLedger(Memory(tmp_path / "memory")).epsilon(NOISE)


def test_a_round_that_would_cost_more_than_the_client_spends_is_refused():
    ledger = ExampleLedger(Memory())
    one, two = (epsilon_of_steps([steps(count)], 1e-4) for count in (20, 40))
    assert ledger.fault(NOISE, TRAINING, 100, None) is None
    assert ledger.fault(NOISE, TRAINING, 100, (one + two) / 2) is None
    ledger.charge(steps(20))
    said = ledger.fault(NOISE, TRAINING, 100, (one + two) / 2)
    assert f"from {one:.4g} to {two:.4g} (delta 0.0001)" in said
    assert ledger.fault(NOISE, TRAINING, 100, two) is None


def test_a_delta_that_would_let_an_example_out_is_refused():
    said = ExampleLedger(Memory()).fault(NOISE, TRAINING, 10_000, None)
    assert said.startswith("delta (0.0001) must be below 1/10000")
