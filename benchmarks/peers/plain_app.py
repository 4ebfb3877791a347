"""The same work with PyTorch alone: no platform, no store, no messages, nothing that can fail well.

    python plain_app.py WORK SETTINGS        as flower_app.py

One process a core trains the clients of a round with the loop of PyTorch's tutorials; their
weights are averaged here. What ours takes less than this comes from the compiled loop, and what
Flower takes more is what its platform costs.
"""

import json
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

STARTED = time.monotonic()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from networks import network, train_alone  # noqa: E402

WORK, SETTINGS = sys.argv[1], json.loads(sys.argv[2])
LOADED = {}


def data(name):
    """In memory, once a process."""
    if name not in LOADED:
        LOADED[name] = torch.from_numpy(np.load(f"{WORK}/{name}.npy"))
    return LOADED[name]


def train(client, weights):
    """The client's weights after its epochs, and the seconds of the loop."""
    torch.set_num_threads(1)
    model = network(SETTINGS["model"])
    model.load_state_dict(weights)
    shard = data("shards")[client]
    looped = train_alone(model, data("train_x")[shard], data("train_y")[shard], SETTINGS)
    return model.state_dict(), looped


@torch.no_grad()
def accuracy(model):
    model.eval()
    return float((model(data("test_x")).argmax(1) == data("test_y")).float().mean())


def main():
    model = network(SETTINGS["model"])
    names = list(model.state_dict())
    model.load_state_dict({name: data(f"initial_{i}") for i, name in enumerate(names)})
    dice, found, looped = np.random.default_rng(SETTINGS["seed"]), [], 0.0
    with ProcessPoolExecutor(SETTINGS["workers"], get_context("spawn")) as pool:
        for _ in range(SETTINGS["rounds"]):
            drawn = dice.choice(SETTINGS["clients"], SETTINGS["clients_per_round"], replace=False)
            weights = [model.state_dict()] * len(drawn)
            updates, seconds = zip(*pool.map(train, drawn.tolist(), weights), strict=True)
            looped += sum(seconds)
            model.load_state_dict({n: torch.stack([u[n] for u in updates]).mean(0) for n in names})
            found.append(accuracy(model))
    print(json.dumps({"accuracy": found, "seconds": time.monotonic() - STARTED, "looped": looped}))


if __name__ == "__main__":
    main()
