"""What a coordinator may say of a training never reaches memory that is not the training's."""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from client_sdk.errors import DataError
from client_sdk.task import model_file, models
from client_sdk.task.compiled import native
from client_sdk.task.settings import TrainSettings
from client_sdk.task.train import evaluate, train
from tests.support.sample import sample

DRIVER = Path(__file__).with_name("fuzz_kernel.c")
SANITIZERS = ["-std=gnu11", "-g", "-O1", "-fsanitize=address,undefined"]
SANITIZERS += ["-fno-sanitize-recover=all"]
SPECS = [
    models.spec_for("mnist-cnn", (1, 28, 28), 10),
    models.spec_for("digits-cnn", (1, 8, 8), 10),
    models.spec_for("digits-cnn", (2, 9, 8), 3),
    models.spec_for("cifar10-cnn", (3, 17, 22), 10),
    models.ModelSpec("uneven", 2, 13, 12, 7, conv=(3, 5), kernel=2, padding=1, hidden=9),
]
SETTINGS = TrainSettings(epochs=1, batch_size=4, learning_rate=0.05, momentum=0.5)


def compiler():
    try:
        return native._compiler()
    except native.Unavailable as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="module")
def sanitizing(tmp_path_factory):
    """A compiler with both sanitizers: a program that does nothing is made and runs."""
    folder = tmp_path_factory.mktemp("sanitizers")
    (folder / "nothing.c").write_text("int main(void) { return 0; }\n")
    command = [*compiler(), *SANITIZERS, str(folder / "nothing.c"), "-o", str(folder / "nothing")]
    for words in (command, [str(folder / "nothing")]):
        done = subprocess.run(words, check=False, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"the compiler has no sanitizers: {done.stderr[:200]}")
    return command[: -len(SANITIZERS) - 3]


# The code is the same for any processor: one program without its special instructions will do.
PROGRAMS = {f"{spec.name}-{spec.in_channels}-native": (spec, ["-march=native"]) for spec in SPECS}
PROGRAMS["uneven-2-plain"] = (SPECS[-1], [])
# One convolution and two, one channel and more, even sizes and odd ones, tuned and not.
FEW = ["digits-cnn-1-native", "cifar10-cnn-3-native", "uneven-2-plain"]


@pytest.mark.parametrize("name", sample(list(PROGRAMS), FEW))
def test_the_sanitizers_find_nothing_whatever_the_arguments(sanitizing, tmp_path, name):
    spec, tuning = PROGRAMS[name]
    program = tmp_path / "fuzz"
    calls = 60 if spec.height > 10 else 300
    flags = [*SANITIZERS, *tuning, *native._shape(spec), f"-DCALLS={calls}"]
    flags += [f'-DKERNEL_SOURCE="{native.SOURCE}"']
    built = subprocess.run(
        [*sanitizing, *flags, str(DRIVER), "-o", str(program), "-lm"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    done = subprocess.run([program, "1"], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "change",
    [
        *({"batch_size": value} for value in (0, -1, -60, 2**63, 10**9, 1.5, True, "7")),
        *({"epochs": value} for value in (0, -1, 10**6, 2**63, 1.0, None)),
        *({"learning_rate": value} for value in (0, -1.0, 1e6, float("nan"), float("inf"), "1")),
        *({"weight_decay": value} for value in (-0.1, 11.0, float("nan"), float("inf"), None)),
        *({"momentum": value} for value in (-0.1, 1, float("nan"), float("-inf"), None)),
    ],
    ids=str,
)
def test_settings_out_of_range_are_refused_in_a_sentence(change):
    (name,) = change
    with pytest.raises(DataError, match=rf"^{name} must be .*, not .*\.$"):
        replace(SETTINGS, **change)


def forged(**changes):
    """Settings that nobody checked."""
    settings = replace(SETTINGS)
    for name, value in changes.items():
        object.__setattr__(settings, name, value)
    return settings


@pytest.fixture(scope="module")
def kernel():
    compiler()
    return native.compile_kernel(SPECS[1])


@pytest.fixture
def digits():
    return torch.randn(8, 1, 8, 8), torch.arange(8)


def test_the_wrapper_checks_settings_again(kernel, digits):
    model = models.build(kernel.spec, 0)
    before = model_file.to_bytes(model)
    for settings in (forged(batch_size=-60), forged(epochs=2**40), forged(momentum=float("nan"))):
        with pytest.raises(DataError, match="must be"):
            kernel.train(model, *digits, settings, 0)
    assert model_file.to_bytes(model) == before


def test_machine_code_refuses_what_the_wrapper_would_let_through(kernel, digits, monkeypatch):
    monkeypatch.setattr(TrainSettings, "check", lambda self: None)
    monkeypatch.setattr(native.Kernel, "_check", lambda *_: None)
    model = models.build(kernel.spec, 0)
    before = model_file.to_bytes(model)
    x, y = digits
    cases = [
        ("batch size", forged(batch_size=0), y),
        ("batch size", forged(batch_size=-60), y),
        ("learning rate", forged(learning_rate=float("nan")), y),
        ("momentum", forged(momentum=7.0), y),
        ("weight decay", forged(weight_decay=float("inf")), y),
        ("label", SETTINGS, y + 10),
        ("label", SETTINGS, y - 1),
    ]
    for message, settings, labels in cases:
        with pytest.raises(ValueError, match=message):
            kernel.train(model, x, labels, settings, 0)
    assert model_file.to_bytes(model) == before


def test_a_model_of_another_shape_or_type_is_refused(kernel, digits):
    other = models.build(models.spec_for("digits-cnn", (1, 8, 8), 9), 0)
    swapped = nn.Module()
    for n, parameter in enumerate(reversed(list(models.build(kernel.spec, 0).parameters()))):
        swapped.register_parameter(str(n), parameter)
    for model in (other, swapped, nn.Linear(2, 2), models.build(kernel.spec, 0).double()):
        with pytest.raises(ValueError, match="parameters must be"):
            kernel.train(model, *digits, SETTINGS, 0)


def test_tensors_that_are_strided_or_elsewhere_are_not_read_as_if_they_were_not(kernel, digits):
    x, y = digits
    ours, theirs = models.build(kernel.spec, 0), models.build(kernel.spec, 0)
    strided = torch.stack([x, torch.full_like(x, 9e9)], -1)[..., 0]
    assert not strided.is_contiguous()
    kernel.train(ours, strided, y.repeat_interleave(2)[::2], SETTINGS, 0)
    kernel.train(theirs, x, y, SETTINGS, 0)
    assert model_file.to_bytes(ours) == model_file.to_bytes(theirs)
    for images, labels in ((x.to("meta"), y), (x.to_sparse(), y), (x, y[:, None])):
        with pytest.raises(ValueError, match=r"CPU|of shape"):
            kernel.train(ours, images, labels, SETTINGS, 0)


@pytest.mark.parametrize(
    "change",
    [
        {"hidden": 8192, "height": 8192, "width": 8192},
        {"conv": (8192, 8192)},
        {"classes": 0},
        {"padding": -1},
        {"height": 10**12},
        {"kernel": "3 -DCLASSES=0"},
    ],
    ids=str,
)
def test_a_network_of_impossible_sizes_is_not_compiled(change):
    compiler()
    with pytest.raises(native.Unavailable, match="cannot"):
        native.compile_kernel(replace(SPECS[1], **change))


@pytest.mark.parametrize(
    "sizes",
    [
        {"HIDDEN": 8192, "CONV2": 8192, "HEIGHT": 8000, "WIDTH": 8000},
        {"HIDDEN": 8192, "HEIGHT": 2048, "WIDTH": 1024},  # as an int, w3's size is a small number
        {"CONV1": 8192, "CONV2": 8192, "KERNEL": 8},
        {"CLASSES": 0},
        {"PADDING": -1},
        {"WIDTH": 2**62},
    ],
    ids=str,
)
def test_c_itself_refuses_sizes_whose_products_would_wrap_around(sizes, tmp_path):
    flags = [*native._shape(SPECS[1]), *(f"-D{k}={v}" for k, v in sizes.items())]
    names = {flag.partition("=")[0] for flag in flags[-len(sizes) :]}
    flags = [f for f in flags[: -len(sizes)] if f.partition("=")[0] not in names] + flags[
        -len(sizes) :
    ]
    command = [*compiler(), "-std=gnu11", *flags, "-fsyntax-only", str(native.SOURCE)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert "#error" in done.stderr, done.stderr


def test_a_huge_batch_goes_through_the_network_in_pieces(monkeypatch):
    """Memory is bounded by the pieces; the step is the whole batch's."""
    from client_sdk.task import train as loops

    x, y = torch.randn(40, 1, 8, 8), torch.randint(10, (40,))
    settings = TrainSettings(2, 1_000_000, 0.05, 0.5)
    whole, pieces = models.build(SPECS[1], 0), models.build(SPECS[1], 0)
    expected = train(whole, x, y, settings, 3)
    measured = evaluate(whole, x, y)
    seen = []
    pieces.register_forward_hook(lambda module, inputs, output: seen.append(len(output)))
    monkeypatch.setattr(loops, "VALUES_AT_ONCE", 7 * 64)
    assert train(pieces, x, y, settings, 3) == pytest.approx(expected, abs=1e-6)
    for one, other in zip(whole.parameters(), pieces.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-6)
    assert evaluate(pieces, x, y)["loss"] == pytest.approx(measured["loss"], abs=1e-5)
    assert max(seen) == 7
