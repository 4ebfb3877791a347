"""The default run with pfl-research's simulator, one process, as its PyTorch benchmarks set it up.

python pfl_app.py WORK SETTINGS        as flower_app.py
"""

import json
import sys
import time

STARTED = time.monotonic()

import numpy as np  # noqa: E402
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from networks import network  # noqa: E402
from pfl.aggregate.simulate import SimulatedBackend  # noqa: E402
from pfl.algorithm.base import NNAlgorithmParams  # noqa: E402
from pfl.algorithm.federated_averaging import FederatedAveraging  # noqa: E402
from pfl.callback.base import TrainingProcessCallback  # noqa: E402
from pfl.data.dataset import Dataset  # noqa: E402
from pfl.data.federated_dataset import FederatedDataset  # noqa: E402
from pfl.data.sampling import get_user_sampler  # noqa: E402
from pfl.hyperparam.base import NNEvalHyperParams, NNTrainHyperParams  # noqa: E402
from pfl.metrics import Metrics, Weighted  # noqa: E402
from pfl.model.pytorch import PyTorchModel  # noqa: E402

WORK, SETTINGS = sys.argv[1], json.loads(sys.argv[2])
ACCURACY = []


def data(name):
    return torch.from_numpy(np.load(f"{WORK}/{name}.npy"))


class Wrapped(torch.nn.Module):
    """What pfl asks of a network: its loss and its metrics."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def loss(self, x, y, eval=False):
        self.eval() if eval else self.train()
        return F.cross_entropy(self.net(x), y)

    @torch.no_grad()
    def metrics(self, x, y, eval=True):
        self.eval()
        right = (self.net(x).argmax(1) == y).sum().item()
        return {"accuracy": Weighted(right, len(y))}


class Shuffled(Dataset):
    """A client's examples in a new order each epoch; pfl's own keeps one order for ever."""

    def iter(self, batch_size):
        x, y = self.raw_data
        for batch in torch.randperm(len(y)).split(batch_size):
            yield [x[batch], y[batch]]


class Kept(TrainingProcessCallback):
    """Keeps the accuracies, measured as often as everybody's."""

    def __init__(self):
        self.x, self.y = data("test_x"), data("test_y")

    @torch.no_grad()
    def after_central_iteration(self, aggregate_metrics, model, *, central_iteration):
        number = central_iteration + 1
        if number % SETTINGS["evaluate_every"] == 0 or number == SETTINGS["rounds"]:
            model.pytorch_model.eval()
            answers = model.pytorch_model.net(self.x).argmax(1)
            ACCURACY.append(float((answers == self.y).float().mean()))
        return False, Metrics()


def main():
    torch.set_num_threads(SETTINGS["threads"])
    np.random.seed(SETTINGS["seed"])
    torch.manual_seed(SETTINGS["seed"])
    net = network(SETTINGS["model"])
    names = list(net.state_dict())
    net.load_state_dict({name: data(f"initial_{i}") for i, name in enumerate(names)})
    wrapped = Wrapped(net)
    model = PyTorchModel(
        wrapped,
        local_optimizer_create=lambda parameters, lr: torch.optim.SGD(
            parameters, lr=lr, momentum=SETTINGS["momentum"]
        ),
        central_optimizer=torch.optim.SGD(wrapped.parameters(), lr=1.0),
    )
    x, y, shards = data("train_x"), data("train_y"), data("shards")
    users = list(range(SETTINGS["clients"]))
    made = {u: Shuffled((x[shards[u]], y[shards[u]]), user_id=str(u)) for u in users}
    training = FederatedDataset(made.__getitem__, get_user_sampler("minimize_reuse", users))
    backend = SimulatedBackend(training_data=training, val_data=training)
    FederatedAveraging().run(
        NNAlgorithmParams(
            central_num_iterations=SETTINGS["rounds"],
            evaluation_frequency=10**9,
            train_cohort_size=SETTINGS["clients_per_round"],
            val_cohort_size=0,
        ),
        backend,
        model,
        NNTrainHyperParams(
            local_num_epochs=SETTINGS["local_epochs"],
            local_learning_rate=SETTINGS["learning_rate"],
            local_batch_size=SETTINGS["batch_size"],
        ),
        NNEvalHyperParams(local_batch_size=1000),
        callbacks=[Kept()],
    )
    print(json.dumps({"accuracy": ACCURACY, "seconds": time.monotonic() - STARTED}))


if __name__ == "__main__":
    main()
