"""Networks of users as tasks: every kind of tensor and of data, as a function of the seed."""

import pickle

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from client_sdk.data.data import as_data
from client_sdk.errors import BadSettings, DataError
from client_sdk.task import weights_file
from client_sdk.task.settings import TrainSettings
from client_sdk.task.task import fingerprint
from client_sdk.task.torch_task import TorchTask, accuracy

SETTINGS = TrainSettings(3, 9, 0.1, 0.5)
DRAWS = np.random.default_rng(0)
X = DRAWS.normal(size=(46, 6))  # float64, as NumPy has it; the last batch of nine has one example
Y = (X[:, 0] + X[:, 1] > 0).astype(np.int64)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Everything(nn.Module):
    """Batch norm, dropout, tied and frozen weights, buffers and several types."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 8)
        self.norm = nn.BatchNorm1d(8)
        self.drop = nn.Dropout(0.3)
        self.middle = nn.Linear(8, 8)
        self.again = self.middle
        self.last = nn.Linear(8, 2)
        self.narrow = nn.Parameter(torch.ones(3, dtype=torch.bfloat16))
        self.frozen = nn.Parameter(torch.ones(2), requires_grad=False)
        self.register_buffer("flags", torch.tensor([True, False]))

    def forward(self, x):
        x = self.drop(self.norm(self.first(x)).relu())
        return self.last(self.again(self.middle(x).relu())) * self.narrow.float().mean()


class Pairs(Dataset):
    def __len__(self):
        return len(Y)

    def __getitem__(self, index):
        return torch.tensor(X[index]), int(Y[index])


def trained(task, data=(X, Y), seed=7):
    return task.train(task.initial(0), as_data(data), SETTINGS, seed)


def test_every_tensor_travels_once_in_its_own_type():
    weights = TorchTask(Everything).initial(0)
    kinds = {name: kind for name, (kind, _) in weights_file.form(weights).items()}
    assert kinds["narrow"] == "BF16"
    assert kinds["flags"] == "BOOL"
    assert kinds["norm.num_batches_tracked"] == "I64"
    assert "middle.weight" in kinds
    assert "again.weight" not in kinds
    read = weights_file.read(weights_file.write(weights))
    assert all(np.array_equal(read[name], weights[name]) for name in weights)


def test_a_training_moves_what_it_should_and_nothing_else():
    task = TorchTask(Everything)
    before, after = task.initial(0), trained(task).weights
    moved = {name for name in before if not np.array_equal(before[name], after[name])}
    assert moved >= {"first.weight", "middle.weight", "last.bias", "norm.running_var"}
    assert moved >= {"norm.num_batches_tracked"}
    assert not moved & {"frozen", "flags"}
    model = task.model(after)
    assert model.again is model.middle
    assert not model.training


@pytest.mark.parametrize(
    "data",
    [
        (torch.tensor(X), torch.tensor(Y)),
        TensorDataset(torch.tensor(X), torch.tensor(Y)),
        Pairs(),
        DataLoader(Pairs(), batch_size=5, shuffle=True),
        [(X[i], Y[i]) for i in range(len(Y))],
        (X.tolist(), Y.tolist()),
    ],
    ids=lambda data: type(data).__name__,
)
def test_all_forms_of_the_same_data_give_the_same_bytes(data):
    task = TorchTask(Everything)
    expected = weights_file.write(trained(task).weights)
    assert weights_file.write(trained(task, data).weights) == expected


@pytest.mark.parametrize(
    "layer", [nn.Linear(4, 2), nn.BatchNorm1d(4), nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 2))]
)
def test_whole_numbers_for_a_network_that_computes_with_fractions_are_named(layer):
    task = TorchTask(layer)
    data = as_data((np.arange(8).reshape(2, 4), np.array([0, 1])))
    for call in (task.evaluate, lambda *given: task.train(*given, SETTINGS, 0)):
        with pytest.raises(DataError, match=r"holds torch.int64: convert it, as in x.astype"):
            call(task.initial(0), data)


def test_words_for_an_embedding_stay_whole_and_its_own_errors_stay_its_own():
    network = nn.Sequential(nn.Embedding(5, 3), nn.Flatten(), nn.Linear(12, 2))
    task = TorchTask(network)
    task.evaluate(task.initial(0), as_data((np.full((2, 4), 4), np.array([0, 1]))))
    with pytest.raises(IndexError, match="out of range"):
        task.evaluate(task.initial(0), as_data((np.full((2, 4), 5), np.array([0, 1]))))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        task.evaluate(task.initial(0), as_data((np.full((2, 3), 4), np.array([0, 1]))))


class Two(nn.Module):
    """The class of an input, and how sure it is."""

    def __init__(self, form):
        super().__init__()
        self.of_class, self.sure, self.form = nn.Linear(6, 2), nn.Linear(6, 1), form

    def forward(self, x):
        return self.form((self.of_class(x), self.sure(x)))


@pytest.mark.parametrize("form", [tuple, list, lambda found: dict(enumerate(found))])
def test_a_network_may_have_several_outputs(form):
    def loss(outputs, targets):
        return nn.functional.cross_entropy(outputs[0], targets) + outputs[1].square().mean()

    def share(outputs, targets):
        assert [len(outputs[place]) for place in (0, 1)] == [len(targets)] * 2
        return accuracy(outputs[0], targets)

    data = as_data((np.tile(X, (20, 1)), np.tile(Y, 20) % 2))  # more than a batch to measure
    task = TorchTask(Two(form), loss=loss, metrics={"accuracy": share})
    result = task.train(task.initial(0), data, SETTINGS, 0)
    assert set(task.evaluate(result.weights, data)) == {"loss", "accuracy"}
    sure = task.predict(result.weights, data)[1]
    assert sure.shape == (len(data), 1)
    with pytest.raises(DataError, match="and its loss takes a tensor: give a loss that takes this"):
        TorchTask(Two(form), name="Two").evaluate(task.initial(0), data)


def test_the_result_is_a_function_of_the_seed_also_with_dropout():
    task = TorchTask(Everything)
    one, other = (weights_file.write(trained(task, seed=seed).weights) for seed in (7, 8))
    torch.rand(3)  # what others draw changes nothing
    again = pickle.loads(pickle.dumps(task))
    assert weights_file.write(trained(again).weights) == one != other
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    trained(task)
    assert torch.equal(torch.rand(1), expected)
    assert weights_file.write(task.initial(3)) != weights_file.write(task.initial(4))


def test_one_step_by_hand():
    """A line through one point: the squared error's gradient is 2 (w x + b - y) (x, 1)."""
    line = nn.Linear(1, 1)
    nn.init.constant_(line.weight, 0.5)
    nn.init.constant_(line.bias, 0.0)
    task = TorchTask(line, loss=nn.MSELoss())
    data = as_data((np.array([[2.0]]), np.array([3.0])))
    found = task.train(task.initial(0), data, TrainSettings(1, 5, 0.1), 0)
    assert found.weights["weight"].item() == pytest.approx(0.5 + 0.1 * 2 * 2 * 2)
    assert found.weights["bias"].item() == pytest.approx(0.1 * 2 * 2)
    assert found.metrics["train_loss"] == pytest.approx(4.0)
    assert task.evaluate(task.initial(0), data) == {"loss": pytest.approx(4.0)}


def test_targets_of_one_column_are_not_compared_with_each_other():
    task = TorchTask(lambda: nn.Linear(6, 1), loss=nn.MSELoss(), metrics={"mae": mean_error})
    flat, column = ((X, X[:, 0].reshape(shape)) for shape in ((-1,), (-1, 1)))
    assert weights_file.write(trained(task, flat).weights) == weights_file.write(
        trained(task, column).weights
    )
    found = task.evaluate(task.initial(0), as_data(flat))
    model = task.model(task.initial(0))
    with torch.no_grad():
        error = model(torch.tensor(X, dtype=torch.float32))[:, 0].double() - torch.tensor(X[:, 0])
    assert found["mae"] == pytest.approx(error.abs().mean().item(), rel=1e-5)
    binary = TorchTask(lambda: nn.Linear(6, 1), loss=nn.BCEWithLogitsLoss())
    assert trained(binary).metrics["train_loss"] < 1


def mean_error(outputs, targets):
    return (outputs - targets).abs().mean()


@pytest.mark.parametrize(
    "optimiser",
    [torch.optim.Adam, lambda found, training: torch.optim.AdamW(found, training.learning_rate)],
)
def test_another_optimiser(optimiser):
    task = TorchTask(lambda: nn.Linear(6, 2), optimiser=optimiser)
    sgd = weights_file.write(trained(TorchTask(lambda: nn.Linear(6, 2))).weights)
    assert weights_file.write(trained(task).weights) != sgd


def test_a_module_brings_its_own_weights():
    module = nn.Linear(6, 2)
    task = TorchTask(module)
    assert np.array_equal(task.initial(0)["weight"], module.weight.detach().numpy())
    trained(task)
    assert np.array_equal(task.initial(1)["weight"], module.weight.detach().numpy())


def test_the_fingerprint_is_of_the_form_and_the_words_not_of_the_weights():
    task = TorchTask(Everything, classes=("no", "yes"))
    assert fingerprint(task) == fingerprint(TorchTask(Everything, classes=("no", "yes")))
    others = [
        TorchTask(Everything, classes=("yes", "no")),
        TorchTask(Everything, classes=("no", "yes"), loss=nn.MultiMarginLoss()),
        TorchTask(lambda: nn.Linear(6, 2), classes=("no", "yes"), name="Everything"),
        TorchTask(Everything, classes=("no", "yes"), name="other"),
    ]
    assert fingerprint(task) not in [fingerprint(other) for other in others]


def test_what_cannot_be_a_network_is_refused_in_words():
    with pytest.raises(BadSettings, match=r"Linear\(\) raised TypeError: .*without arguments"):
        TorchTask(nn.Linear).prepare()
    with pytest.raises(BadSettings, match="gives a int, not a module"):
        TorchTask(lambda: 7).prepare()
    with pytest.raises(DataError, match="has no shape yet"):
        TorchTask(lambda: nn.LazyLinear(3)).initial(0)
    with pytest.raises(DataError, match="single example"):
        trained(TorchTask(Everything), (X[:1], Y[:1]))
    with pytest.raises(DataError, match=r"must be \(x, y\)"):
        trained(TorchTask(Everything), [1.0, 2.0])


@pytest.mark.parametrize("loss", [None, nn.CrossEntropyLoss()])
def test_one_output_is_no_network_for_cross_entropy(loss):
    task = TorchTask(lambda: nn.Linear(6, 1), loss=loss, name="Net")
    weights = task.initial(0)
    for work in (
        lambda: task.train(weights, as_data((X, Y)), SETTINGS, 0),
        lambda: task.evaluate(weights, as_data((X, Y))),
    ):
        with pytest.raises(DataError, match=r"one output .* cross entropy is always 0"):
            work()
