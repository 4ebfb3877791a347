"""A model in JAX: three functions are a task. Needs `pip install jax`.

    python -m examples.jax_arrays

The functions take and give NumPy arrays by name; what happens between is JAX's.
"""

from __future__ import annotations

import sys

import numpy as np

from client_sdk import FunctionTask, simulate
from examples.sentences import DEPARTMENTS, notes, vocabulary

try:
    import jax
    import jax.numpy as jnp
except ModuleNotFoundError:
    sys.exit("This example needs JAX: pip install jax")


def counts(words):
    """How often each word is in a note: [N, LENGTH] to [N, words]."""
    return np.eye(len(vocabulary()), dtype=np.float32)[words].sum(1)


def loss(weights, x, y):
    scores = jax.nn.log_softmax(x @ weights["words"] + weights["bias"])
    return -jnp.take_along_axis(scores, y[:, None], 1).mean()


step = jax.jit(jax.value_and_grad(loss))


def initial(seed):
    shape = (len(vocabulary()), len(DEPARTMENTS))
    return {"words": np.zeros(shape, np.float32), "bias": np.zeros(shape[1], np.float32)}


def train(weights, data, training, seed):
    for _ in range(training.epochs):
        _, slopes = step(weights, data.x, data.y)
        weights = {name: weights[name] - training.learning_rate * slopes[name] for name in weights}
    return {name: np.asarray(value) for name, value in weights.items()}


def evaluate(weights, data):
    scores = data.x @ weights["words"] + weights["bias"]
    right = float((scores.argmax(1) == data.y).mean())
    return {"loss": float(loss(weights, data.x, data.y)), "accuracy": right}


if __name__ == "__main__":
    train_set, test_set = (
        (counts(words), departments) for words, departments, _ in (notes(1200, 0), notes(400, 1))
    )
    task = FunctionTask(initial, train, evaluate, name="jax")
    result = simulate(task, train_set, test_set, clients=4, rounds=5, learning_rate=0.5)
    print(f"accuracy {result.metrics['accuracy']:.2%}")
