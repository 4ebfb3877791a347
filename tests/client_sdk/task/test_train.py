"""Partition, models and the local loop."""

import json
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from client_sdk.data import datasets
from client_sdk.data.holdout import hold_out
from client_sdk.data.seeds import derive_seed
from client_sdk.errors import DataError
from client_sdk.task import model_file, models, weights_file
from client_sdk.task.local import local_update
from client_sdk.task.pictures import picture_task
from client_sdk.task.settings import TrainSettings
from client_sdk.task.train import evaluate, train
from serverless_fl.weights.check import UpdateCheck
from serverless_fl.weights.header import layout_of

pytestmark = pytest.mark.usefixtures("one_thread")

SETTINGS = TrainSettings(epochs=2, batch_size=10, learning_rate=0.05, momentum=0.5)


@pytest.fixture(scope="module")
def digits():
    return datasets.load("digits", Path("nowhere"))


@given(st.integers(1, 500), st.integers(0, 2**63 - 1))
def test_a_tenth_is_held_out_and_nothing_is_lost(size, seed):
    indices = list(range(100, 100 + size))
    train_part, held_out = hold_out(indices, seed)
    assert sorted(train_part + held_out) == indices
    assert len(held_out) == (max(1, round(size / 10)) if size > 1 else 0)
    assert hold_out(indices, seed) == (train_part, held_out)


def test_splits_differ_by_seed_and_refuse_nonsense():
    assert hold_out(range(100), 1) != hold_out(range(100), 2)
    with pytest.raises(ValueError, match="empty"):
        hold_out([], 0)
    with pytest.raises(ValueError, match="share"):
        hold_out([1, 2], 0, share=1.0)


@pytest.mark.parametrize(
    ("shape", "name", "weights"),
    [
        ((1, 28, 28), "mnist-cnn", 21_840),
        ((3, 32, 32), "cifar10-cnn", None),
        ((1, 8, 8), "digits-cnn", None),
    ],
)
def test_auto_picks_the_model_by_the_images(shape, name, weights):
    spec = models.spec_for("auto", shape, 10)
    model = models.build(spec)
    assert spec.name == name
    assert model(torch.zeros(2, *shape)).shape == (2, 10)
    if weights:
        assert sum(p.numel() for p in model.parameters()) == weights


@pytest.mark.parametrize(
    "shape", [(1, 9, 31), (3, 16, 16), (3, 64, 48), (1, 224, 224), (2, 33, 20)]
)
def test_other_image_sizes_get_a_model_too(shape):
    spec = models.spec_for("auto", shape, 3)
    assert models.build(spec)(torch.zeros(1, *shape)).shape == (1, 3)


def test_images_too_small_and_names_unknown_are_refused():
    with pytest.raises(DataError, match="too small"):
        models.spec_for("mnist-cnn", (1, 8, 8), 10)
    with pytest.raises(DataError, match="mnist-cnn, cifar10-cnn"):
        models.spec_for("resnet", (1, 8, 8), 10)


def test_initial_weights_are_a_function_of_the_seed_and_leave_the_global_dice_alone():
    spec = models.spec_for("auto", (1, 8, 8), 10)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    one, same, other = (model_file.to_bytes(models.build(spec, s)) for s in (1, 1, 2))
    assert torch.equal(torch.rand(1), expected)
    assert one == same != other


def test_a_model_file_describes_itself_and_the_coordinator_can_read_it(digits):
    spec = models.spec_for("auto", digits.shape, 10)
    data = model_file.to_bytes(models.build(spec, 0), model_file.describe(digits, spec))
    about = model_file.read_metadata(data)
    assert models.ModelSpec.from_json(about["model"]) == spec
    assert layout_of(data).metadata == about
    check = UpdateCheck()
    check.feed(data)
    check.finish()


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", "null", '{"name": 1}', '{"conv": 3}'],
)
def test_a_strangers_description_is_refused(text):
    with pytest.raises(DataError):
        models.ModelSpec.from_json(text)


def test_a_description_that_would_eat_all_memory_is_refused(digits):
    text = models.spec_for("auto", digits.shape, 10).to_json()
    for field, value in (
        *(("hidden", value) for value in (1_000_000_000, -1, 0, 1.5, "64", True)),
        *(("kernel", 0), ("classes", 0), ("padding", True), ("name", 7), ("conv", [0, 32])),
        ("padding", 8000),  # each size is allowed, the images in between are not
    ):
        with pytest.raises(DataError):
            models.ModelSpec.from_json(json.dumps({**json.loads(text), field: value}))


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (1, 8, 8), (3, 224, 200)])
def test_a_spec_knows_its_networks_size(shape):
    spec = models.spec_for("auto", shape, 7)
    assert spec.weights() == sum(p.numel() for p in models.build(spec).parameters())
    assert models.ModelSpec.from_json(spec.to_json()) == spec


def test_weights_that_do_not_fit_are_refused(digits):
    small = models.build(models.spec_for("digits-cnn", (1, 8, 8), 10))
    other = model_file.to_bytes(models.build(models.spec_for("digits-cnn", (1, 8, 8), 9)))
    for data in (other, b"noise", b""):
        with pytest.raises(DataError):
            model_file.load_bytes(small, data)
    with pytest.raises(DataError):
        model_file.read_metadata(b"\x80\x04\x95 pickle")


def test_evaluation_by_hand():
    class Fixed(nn.Module):
        def forward(self, x):
            return x.flatten(1)

    x = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]]).view(3, 2, 1, 1)
    y = torch.tensor([0, 1, 1])
    result = evaluate(Fixed(), x, y, batch_size=2)
    expected = F.cross_entropy(x.flatten(1), y).item()
    assert result == {"loss": pytest.approx(expected), "accuracy": pytest.approx(2 / 3)}


def test_the_loop_is_sgd_with_momentum_as_the_book_has_it():
    # One weight, one example, squared away by hand: cross-entropy of logits (w*x, 0).
    class One(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.tensor(0.5))

        def forward(self, x):
            score = self.w * x.flatten(1)[:, :1]
            return torch.cat([score, torch.zeros_like(score)], 1)

    model, x, y = One(), torch.full((1, 1, 1, 1), 2.0), torch.tensor([0])
    train(model, x, y, TrainSettings(3, 5, 0.1, 0.9), seed=0)
    w, velocity = 0.5, 0.0
    for _ in range(3):
        gradient = -2.0 * (1 - torch.sigmoid(torch.tensor(2 * w)).item())
        velocity = 0.9 * velocity + gradient
        w -= 0.1 * velocity
    assert model.w.item() == pytest.approx(w, abs=1e-6)


def test_weight_decay_pulls_every_weight_towards_nothing():
    """A gradient of nothing but the decay: w becomes w (1 - rate * decay) a step."""

    class Flat(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.tensor(2.0))

        def forward(self, x):
            return x.flatten(1).repeat(1, 2) * 0 + 0 * self.w

    model = Flat()
    settings = TrainSettings(3, 1, 0.1, 0.0, weight_decay=0.5)
    train(model, torch.ones(1, 1, 1, 1), torch.tensor([0]), settings, seed=0)
    assert model.w.item() == pytest.approx(2 * 0.95**3)


def test_every_example_is_seen_once_an_epoch_in_an_order_of_the_seed():
    class Recorder(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.zeros(1))
            self.seen = []

        def forward(self, x):
            self.seen.append(x.flatten().tolist())
            return torch.cat([x.flatten(1) * self.w, x.flatten(1) * 0], 1)

    def order(seed):
        model = Recorder()
        x = torch.arange(7.0).view(7, 1, 1, 1)
        train(model, x, torch.zeros(7, dtype=torch.int64), TrainSettings(2, 3, 0.1, 0), seed)
        return model.seen

    seen = order(1)
    assert [len(batch) for batch in seen] == [3, 3, 1] * 2
    first, second = (list(chain(*epoch)) for epoch in (seen[:3], seen[3:]))
    assert sorted(first) == sorted(second) == list(range(7))
    assert first != second
    assert seen == order(1) != order(2)


def test_it_learns_digits(digits):
    model = models.build(models.spec_for("auto", digits.shape, 10), 0)
    settings = TrainSettings(epochs=12, batch_size=10, learning_rate=0.05, momentum=0.5)
    train(model, digits.normalise(digits.train_x), digits.train_y, settings, seed=0)
    result = evaluate(model, digits.normalise(digits.test_x), digits.test_y)
    assert result["accuracy"] > 0.96


def update(digits, seed=0, settings=SETTINGS, scale=1.0):
    task = picture_task(replace(digits, std=tuple(s / scale for s in digits.std)))
    weights = weights_file.write(task.initial(0))
    parts = (digits.train.subset(part) for part in (range(80), range(80, 90)))
    return local_update(task, weights, *parts, settings, seed)


def test_a_local_update_is_the_same_bytes_for_the_same_seed(digits):
    assert update(digits, 3).weights == update(digits, 3).weights != update(digits, 4).weights


def test_a_local_update_reports_before_and_after(digits):
    result = update(digits, settings=TrainSettings(20, 10, 0.05, 0.5))
    assert result.num_examples == 80
    assert result.metrics["accuracy_after"] > result.metrics["accuracy_before"]
    assert result.metrics["loss_after"] < result.metrics["loss_before"]
    assert result.metrics["train_loss"] < result.metrics["loss_before"]


def test_training_that_diverges_ends_all_the_same(digits):
    result = update(digits, settings=TrainSettings(3, 10, 1000.0, 0.9), scale=1e30)
    with pytest.raises(Exception, match="NaN or infinity"):
        UpdateCheck().feed(result.weights)


def test_seeds_are_stable_and_told_apart():
    assert derive_seed(0, "train", 1, "client-01") == derive_seed(0, "train", 1, "client-01")
    many = {derive_seed(0, "train", r, f"client-{c:02d}") for r in range(20) for c in range(20)}
    assert len(many) == 400
    assert all(0 <= seed < 2**63 for seed in many)
