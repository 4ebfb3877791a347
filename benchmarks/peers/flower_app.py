"""The default run with Flower's simulation runtime, as its PyTorch tutorial writes such a thing.

Run by benchmarks/peers/peers.py in a virtual environment of its own:

    python flower_app.py WORK SETTINGS

WORK is a folder of .npy files (train_x, train_y, test_x, test_y, shards [clients, examples], and
the initial weights), SETTINGS is JSON. Prints JSON: accuracy by round, seconds, and the seconds
that all trainings together spent in their loops.
"""

import json
import os
import sys
import time

os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
STARTED = time.monotonic()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from flwr.app import (  # noqa: E402
    ArrayRecord,
    Message,
    MetricRecord,
    RecordDict,
)
from flwr.clientapp import ClientApp  # noqa: E402
from flwr.serverapp import ServerApp  # noqa: E402
from flwr.serverapp.strategy import FedAvg  # noqa: E402
from flwr.simulation import run_simulation  # noqa: E402
from networks import network, train_alone  # noqa: E402

WORK, SETTINGS = sys.argv[1], json.loads(sys.argv[2])
LOADED = {}


def data(name):
    """In memory, once a process."""
    if name not in LOADED:
        LOADED[name] = torch.from_numpy(np.load(f"{WORK}/{name}.npy"))
    return LOADED[name]


client = ClientApp()


@client.train()
def train(message, context):
    torch.set_num_threads(1)
    model = network(SETTINGS["model"])
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    shard = data("shards")[context.node_config["partition-id"]]
    looped = train_alone(model, data("train_x")[shard], data("train_y")[shard], SETTINGS)
    content = RecordDict(
        {
            "arrays": ArrayRecord(model.state_dict()),
            "metrics": MetricRecord({"num-examples": len(shard), "looped": looped}),
        }
    )
    return Message(content=content, reply_to=message)


server = ServerApp()
ACCURACY, LOOPED = [], []


@server.main()
def main(grid, context):
    initial = network(SETTINGS["model"])
    names = list(initial.state_dict())
    initial.load_state_dict({name: data(f"initial_{i}") for i, name in enumerate(names)})

    def evaluate(number, arrays):
        if number == 0 or (number % SETTINGS["evaluate_every"] and number != SETTINGS["rounds"]):
            return None
        model = network(SETTINGS["model"])
        model.load_state_dict(arrays.to_torch_state_dict())
        model.eval()
        with torch.no_grad():
            right = (model(data("test_x")).argmax(1) == data("test_y")).float().mean()
        ACCURACY.append(float(right))
        return MetricRecord({"accuracy": float(right)})

    strategy = FedAvg(
        fraction_train=SETTINGS["clients_per_round"] / SETTINGS["clients"],
        fraction_evaluate=0.0,
        min_train_nodes=SETTINGS["clients_per_round"],
        min_available_nodes=SETTINGS["clients"],
    )
    result = strategy.start(
        grid=grid,
        initial_arrays=ArrayRecord(initial.state_dict()),
        num_rounds=SETTINGS["rounds"],
        evaluate_fn=evaluate,
    )
    # Means over a round's clients, whose shards are equal.
    means = [metrics["looped"] for metrics in result.train_metrics_clientapp.values()]
    LOOPED.append(sum(means) * SETTINGS["clients_per_round"])


if __name__ == "__main__":
    torch.manual_seed(SETTINGS["seed"])
    run_simulation(
        server_app=server,
        client_app=client,
        num_supernodes=SETTINGS["clients"],
        backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0.0}},
    )
    print(
        json.dumps(
            {
                "accuracy": ACCURACY,
                "seconds": time.monotonic() - STARTED,
                "looped": LOOPED[0],
            }
        )
    )
