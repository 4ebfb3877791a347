"""The compiled loop, against the readable one."""

import asyncio
import math
import shutil
import statistics
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from client_sdk.data import datasets
from client_sdk.data.holdout import hold_out
from client_sdk.data.seeds import derive_seed
from client_sdk.engines.processes import Processes
from client_sdk.engines.trainer import LocalTrainer
from client_sdk.errors import BadSettings
from client_sdk.task import model_file, models, pictures, weights_file
from client_sdk.task.compiled import native
from client_sdk.task.local import local_update
from client_sdk.task.pictures import picture_task
from client_sdk.task.settings import TrainSettings
from client_sdk.task.train import pick_device, train, train_fused
from serverless_fl.wire.schema import BlobInfo
from serverless_fl.wire.turns import Train, Training
from tests.audit.loops import apart as loops_apart
from tests.audit.loops import distance, examples

pytestmark = pytest.mark.usefixtures("one_thread")

SETTINGS = TrainSettings(epochs=1, batch_size=10, learning_rate=0.05, momentum=0.5)
KERNELS = ("native", "torch", "auto")
NO_COMPILER = not any(map(shutil.which, ("cc", "gcc", "clang")))
needs_compiler = pytest.mark.skipif(NO_COMPILER, reason="this machine has no C compiler")
SPECS = [
    models.spec_for("mnist-cnn", (1, 28, 28), 10),
    models.spec_for("digits-cnn", (1, 8, 8), 10),
    models.spec_for("cifar10-cnn", (3, 17, 22), 10),
    # Nothing of it fills a vector.
    models.ModelSpec("uneven", 2, 13, 12, 7, conv=(3, 5), kernel=2, padding=1, hidden=9),
]


@pytest.fixture(scope="module", params=SPECS, ids=lambda spec: spec.name)
def kernel(request):
    if NO_COMPILER:
        pytest.skip("this machine has no C compiler")
    return native.compile_kernel(request.param)


def order():
    return Train(
        round=3,
        attempt=1,
        base_version=2,
        model=BlobInfo(sha256="0" * 64, size=1),
        deadline="2030-01-01T00:00:00Z",
        seconds_left=60,
        training=Training(local_epochs=1, batch_size=10, learning_rate=0.05, momentum=0.5, seed=7),
        part_bytes=1,
        max_update_bytes=1,
    )


async def one_update(trainer):
    weights = weights_file.write(trainer.task.initial(0))
    return (await trainer.train("c-3", range(80), weights, order())).weights


def trainer_of(dataset, kind="auto"):
    return LocalTrainer(picture_task(dataset, "auto", kind), dataset.train, Processes(1))


def by_hand(dataset, loop):
    mine, _ = hold_out(range(80), derive_seed(7, "holdout", "c-3"))
    model = models.build(models.spec_for("auto", dataset.shape, 10), 0)
    x, y = dataset.normalise(dataset.train_x[mine]), dataset.train_y[mine]
    loop(model, x, y, SETTINGS, derive_seed(7, "train", 3, "c-3"))
    return model_file.to_bytes(model)


@pytest.mark.parametrize("batch_size", [1, 7, 8, 50, 1000])
@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_an_epoch_gives_the_same_weights_and_loss(kernel, batch_size, momentum):
    weights, loss, moved = loops_apart(kernel, batch_size, momentum, seed=5)
    assert loss < 1e-5
    assert weights < 2e-6
    assert moved > 1e-4


def test_weight_decay_is_pytorchs(kernel):
    x, y = examples(kernel.spec, 60)
    settings = TrainSettings(2, 20, 0.02, 0.5, weight_decay=0.3)
    ours, theirs = models.build(kernel.spec, 0), models.build(kernel.spec, 0)
    loss = kernel.train(ours, x, y, settings, 5)
    assert loss == pytest.approx(train(theirs, x, y, settings, 5), abs=1e-5)
    assert distance(ours, theirs) < 2e-6
    plain = models.build(kernel.spec, 0)
    kernel.train(plain, x, y, replace(settings, weight_decay=0.0), 5)
    assert distance(ours, plain) > 1e-4


def test_it_is_as_near_to_exact_arithmetic_as_pytorch_is(kernel):
    settings = TrainSettings(2, 20, 0.02, 0.5)
    ours, theirs = [], []
    for seed in range(9):
        x, y = examples(kernel.spec, 60, seed)
        exact = models.build(kernel.spec, seed).double()
        train(exact, x.double(), y, settings, seed)
        for loop, found in ((kernel.train, ours), (train, theirs)):
            model = models.build(kernel.spec, seed)
            loop(model, x, y, settings, seed)
            found.append(distance(model, exact))
    # The median: a pooling that takes the other one of two nearly equal sums is nobody's fault.
    assert statistics.median(ours) < 2 * statistics.median(theirs)


def test_blank_images_pool_to_the_first_of_equal_sums(kernel):
    """The background of a picture: every sum of a window is the same."""
    x, y = examples(kernel.spec, 20)
    x[:, :, : kernel.spec.height // 2 + 1] = -0.42
    settings = TrainSettings(2, 10, 0.05, 0.5)
    ours, theirs = models.build(kernel.spec, 3), models.build(kernel.spec, 3)
    kernel.train(ours, x, y, settings, 1)
    train(theirs, x, y, settings, 1)
    assert distance(ours, theirs) < 2e-6


def test_logits_that_are_far_apart_give_pytorchs_loss(kernel):
    """exp(100) is no float32: the largest logit is taken from each before."""
    x, y = examples(kernel.spec, 20)
    settings = TrainSettings(1, 10, 0.001, 0.5)
    ours, theirs = models.build(kernel.spec, 3), models.build(kernel.spec, 3)
    with torch.no_grad():
        for model in (ours, theirs):
            model.fc2.bias[0] += 100
    loss = kernel.train(ours, x, y, settings, 1)
    assert loss == pytest.approx(train(theirs, x, y, settings, 1), rel=1e-5)
    assert distance(ours, theirs) < 1e-4  # beside 100, float32 has steps of 8e-6


def test_the_same_seed_gives_the_same_bytes(kernel):
    x, y = examples(kernel.spec, 40)
    settings = TrainSettings(2, 10, 0.05, 0.5)
    trained = []
    for seed in (1, 1, 2):
        model = models.build(kernel.spec, 0)
        kernel.train(model, x, y, settings, seed)
        trained.append(model_file.to_bytes(model))
    assert trained[0] == trained[1] != trained[2]


def test_what_would_read_beyond_memory_is_refused(kernel):
    x, y = examples(kernel.spec, 8)
    settings = TrainSettings(1, 4, 0.05, 0.5)
    model = models.build(kernel.spec, 0)
    before = model_file.to_bytes(model)
    bad = [
        (x[:, :, 1:], y),
        (x[:4], y),
        (x.double(), y),
        (x, y.int()),
        (x, y + kernel.spec.classes),
        (x, y - kernel.spec.classes),
        (x[:0], y[:0]),
    ]
    for images, labels in bad:
        with pytest.raises(ValueError, match=r"must be|of shape"):
            kernel.train(model, images, labels, settings, 0)
    assert model_file.to_bytes(model) == before


def test_a_training_that_diverges_says_so_in_its_weights(kernel):
    x, y = examples(kernel.spec, 40)
    model = models.build(kernel.spec, 0)
    kernel.train(model, 1e30 * x, y, TrainSettings(3, 10, 1000.0, 0.9), 0)
    assert not all(bool(p.isfinite().all()) for p in model.parameters())


FLOAT32_MAX = float(torch.finfo(torch.float32).max)
DIVERGING = [
    (rate, momentum, scale, seed)
    for rate in (0.5, 10.0, 1000.0)
    for momentum, seed in ((0.0, 0), (0.9, 1))
    for scale in (1.0, 1e4, 1e20, 1e30, 3e37)
]


def test_where_pytorchs_loss_is_nan_ours_is_and_no_weights_look_sound_that_are_not(kernel):
    diverged = 0
    for rate, momentum, scale, seed in DIVERGING:
        x, y = examples(kernel.spec, 30, seed)
        settings = TrainSettings(2, 10, rate, momentum)
        ours, theirs = models.build(kernel.spec, seed), models.build(kernel.spec, seed)
        loss = kernel.train(ours, scale * x, y, settings, seed)
        expected = train(theirs, scale * x, y, settings, seed)
        diverged += math.isnan(expected)
        sound = [all(bool(p.isfinite().all()) for p in m.parameters()) for m in (ours, theirs)]
        if math.isnan(loss) == math.isnan(expected):
            assert sound[0] == sound[1], (rate, momentum, scale, seed)
        else:  # a sum beyond float32 is NaN or not by the order in which it is taken
            assert math.isnan(loss), (rate, momentum, scale, seed)
            assert not sound[0]
            assert largest_output(kernel.spec, scale * x, y, settings, seed) > FLOAT32_MAX
    assert diverged > len(DIVERGING) / 2


def largest_output(spec, x, y, settings, seed):
    """The largest number that leaves a layer in the same training in float64."""
    largest, model = [0.0], models.build(spec, seed).double()

    def note(layer, inputs, output):
        largest[0] = max(largest[0], float(output.detach().abs().max()))

    for layer in model.modules():
        layer.register_forward_hook(note)
    train(model, x.double(), y, settings, seed)
    return largest[0]


@pytest.mark.parametrize("where", [0, 10, 19])
def test_one_pixel_that_is_not_finite_is_seen(kernel, where):
    x, y = examples(kernel.spec, 20)
    x[where, 0, 0, 0] = math.inf
    settings = TrainSettings(2, 10, 0.05, 0.5)
    ours, theirs = models.build(kernel.spec, 3), models.build(kernel.spec, 3)
    assert math.isnan(kernel.train(ours, x, y, settings, 1))
    assert math.isnan(train(theirs, x, y, settings, 1))


@needs_compiler
def test_a_compiler_that_makes_something_wrong_is_found_out(monkeypatch, tmp_path):
    layers = native.SOURCE.with_name("layers.h")
    source = layers.read_text(encoding="utf-8")
    wrong = source.replace("sgd.rate * *momenta", "1.5f * sgd.rate * *momenta")
    assert wrong != source
    (tmp_path / "layers.h").write_text(wrong)
    shutil.copy(native.SOURCE, tmp_path / "kernel.c")
    monkeypatch.setattr(native, "SOURCE", tmp_path / "kernel.c")
    with pytest.raises(native.Unavailable, match="differs from PyTorch"):
        native.compile_kernel(models.spec_for("digits-cnn", (1, 8, 8), 10))


@pytest.mark.parametrize(
    ("compiler", "message"),
    [("no-such-compiler", "no C compiler"), ("false", "cannot compile"), ("true", "wrote nothing")],
)
def test_without_a_working_compiler_pytorch_trains(monkeypatch, compiler, message):
    monkeypatch.setenv("CC", compiler)
    spec = models.spec_for("digits-cnn", (1, 8, 8), 10)
    with pytest.raises(native.Unavailable, match=message):
        native.compile_kernel(spec)
    dataset = datasets.load("digits", Path("nowhere"))
    device = pick_device().type
    with trainer_of(dataset) as pool:
        if device == "cpu":  # where there is a GPU, nobody asks for a compiler
            assert pool.loop.startswith("PyTorch on cpu (no machine code: ")
        else:
            assert pool.loop == f"PyTorch on {device}"
        update = asyncio.run(one_update(pool))
    refused = pytest.raises(BadSettings, match=f"--kernel native cannot be had here: .*{message}")
    with refused, trainer_of(dataset, "native"):
        pass
    if device == "cpu":  # a GPU's sums are not promised to the last bit
        assert update == by_hand(dataset, train_fused)


@needs_compiler
@pytest.mark.parametrize("kind", ["native", "auto"])
def test_the_pool_trains_with_what_it_says(kind):
    spec = models.spec_for("digits-cnn", (1, 8, 8), 10)
    dataset = datasets.load("digits", Path("nowhere"))
    device = pick_device().type
    with trainer_of(dataset, kind) as pool:
        update = asyncio.run(one_update(pool))
    if kind == "auto" and device != "cpu":
        assert pool.loop == f"PyTorch on {device}"
        return
    assert pool.loop.startswith("machine code by ")
    assert pool.loop.endswith(" on cpu")
    assert update == by_hand(dataset, native.compile_kernel(spec).train)


@pytest.mark.parametrize("there", ["cpu", "cuda", "mps"])
def test_machine_code_is_taken_where_it_is_asked_for_or_there_is_no_gpu(monkeypatch, there):
    dataset = datasets.load("digits", Path("nowhere"))
    made = native.Kernel(SPECS[1], b"", "cc")
    monkeypatch.setattr(pictures, "pick_device", lambda: torch.device(there))
    monkeypatch.setattr(pictures, "compile_kernel", lambda spec: made)
    said = {kind: picture_task(dataset, "auto", kind).prepare() for kind in KERNELS}
    on_gpu = f"PyTorch on {there}"
    machine_code = "machine code by cc on cpu"
    auto = machine_code if there == "cpu" else on_gpu
    assert said == {"native": machine_code, "torch": on_gpu, "auto": auto}


@needs_compiler
def test_machine_code_trains_on_the_cpu_even_where_there_is_a_gpu(monkeypatch):
    # "meta" holds no numbers: what went there could not be trained.
    dataset = datasets.load("digits", Path("nowhere"))
    monkeypatch.setattr(pictures, "pick_device", lambda: torch.device("meta"))
    task = picture_task(dataset, "auto", "native")
    task.prepare()
    weights = weights_file.write(task.initial(0))
    held_out = dataset.train.subset(range(80, 90))
    update = local_update(task, weights, dataset.train.subset(range(80)), held_out, SETTINGS, 3)
    assert update.metrics["loss_after"] < update.metrics["loss_before"]
