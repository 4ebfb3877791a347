"""The default run with FedJAX's simulator, as its EMNIST example sets it up.

    python fedjax_app.py WORK SETTINGS        as flower_app.py

JAX compiles the loop for all cores of the CPU. The network is mnist-cnn or logistic regression,
written with Haiku; images are [N, 28, 28, 1].
"""

import json
import sys
import time

STARTED = time.monotonic()

import fedjax  # noqa: E402
import haiku as hk  # noqa: E402
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

WORK, SETTINGS = sys.argv[1], json.loads(sys.argv[2])


def data(name):
    return np.load(f"{WORK}/{name}.npy")


def forward(batch):
    x = batch["x"]
    if SETTINGS["model"] == "mnist-cnn":
        for channels in (10, 20):
            x = hk.Conv2D(channels, 5, padding="VALID")(x)
            x = jax.nn.relu(hk.MaxPool(2, 2, padding="VALID")(x))
        x = jax.nn.relu(hk.Linear(50)(hk.Flatten()(x)))
    return hk.Linear(10)(hk.Flatten()(x))


def initial(params):
    """PyTorch's initial weights in Haiku's order: convolutions HWIO, dense layers [in, out]."""
    layers = list(params)
    made = {}
    for i, layer in enumerate(layers):
        weights, bias = data(f"initial_{2 * i}"), data(f"initial_{2 * i + 1}")
        if weights.ndim == 4:
            weights = weights.transpose(2, 3, 1, 0)
        else:
            weights = weights.T
            if SETTINGS["model"] == "mnist-cnn" and weights.shape[0] == 320:
                weights = weights.reshape(20, 4, 4, 50).transpose(1, 2, 0, 3).reshape(320, 50)
        made[layer] = {"w": jnp.asarray(weights), "b": jnp.asarray(bias)}
    return made


def main():
    x = data("train_x").transpose(0, 2, 3, 1)
    y, shards = data("train_y"), data("shards")
    clients = {b"%06d" % i: {"x": x[s], "y": y[s]} for i, s in enumerate(shards)}
    federated = fedjax.InMemoryFederatedData(clients)
    net = hk.transform(forward)
    sample = {"x": x[:1], "y": y[:1]}
    model = fedjax.create_model_from_haiku(
        transformed_forward_pass=net,
        sample_batch=sample,
        train_loss=lambda batch, preds: fedjax.metrics.unreduced_cross_entropy_loss(
            batch["y"], preds
        ),
        eval_metrics={"accuracy": fedjax.metrics.Accuracy()},
    )
    algorithm = fedjax.algorithms.fed_avg.federated_averaging(
        fedjax.model_grad(model),
        fedjax.optimizers.sgd(SETTINGS["learning_rate"], momentum=SETTINGS["momentum"] or None),
        fedjax.optimizers.sgd(1.0),
        fedjax.ShuffleRepeatBatchHParams(
            batch_size=SETTINGS["batch_size"],
            num_epochs=SETTINGS["local_epochs"],
            drop_remainder=False,
        ),
    )
    sampler = fedjax.client_samplers.UniformGetClientSampler(
        federated, SETTINGS["clients_per_round"], SETTINGS["seed"]
    )
    state = algorithm.init(initial(model.init(jax.random.PRNGKey(0))))
    test = fedjax.ClientDataset({"x": data("test_x").transpose(0, 2, 3, 1), "y": data("test_y")})
    batches = fedjax.PaddedBatchHParams(batch_size=1000)
    accuracy = []
    for number in range(1, SETTINGS["rounds"] + 1):
        state, _ = algorithm.apply(state, sampler.sample())
        if number % SETTINGS["evaluate_every"] == 0 or number == SETTINGS["rounds"]:
            found = fedjax.evaluate_model(model, state.params, test.padded_batch(batches))
            accuracy.append(float(found["accuracy"]))
    print(json.dumps({"accuracy": accuracy, "seconds": time.monotonic() - STARTED}))


if __name__ == "__main__":
    main()
