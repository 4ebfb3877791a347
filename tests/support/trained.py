"""Networks that have learnt something, as fast as this machine can train them."""

from __future__ import annotations

from client_sdk.task import model_file, models
from client_sdk.task.compiled import native
from client_sdk.task.settings import TrainSettings
from client_sdk.task.train import train


def trained_on(dataset, examples, epochs) -> bytes:
    """The file of a network that was trained on the first so many examples."""
    spec = models.spec_for("auto", dataset.shape, len(dataset.classes))
    network = models.build(spec, 0)
    settings = TrainSettings(epochs=epochs, batch_size=20, learning_rate=0.05, momentum=0.5)
    x, y = dataset.normalise(dataset.train_x[:examples]), dataset.train_y[:examples]
    try:
        loop = native.compile_kernel(spec).train
    except native.Unavailable:
        loop = train
    loop(network, x, y, settings, 0)
    return model_file.to_bytes(network, model_file.describe(dataset, spec))
