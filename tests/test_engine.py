"""The engine against plain float64, what it chooses on which machine, and networks that take turns in it."""

import os
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from esp_core import networks
from esp_core.runtime.errors import UserError
from esp_core.training import compile_policy, engine
from esp_core.training.compile_policy import Work
from esp_core.training.engine import TEST_BATCH, Engine, Plan

IMAGE = torch.zeros(1, 3, 32, 32)
CIFAR10 = Work({256: 50 * 49_920, 80: 50 * 80})
SMALL = {  # every network, narrow, and the smallest image that its normalisation takes
    "convnet3": ({"width": 16}, 8),
    "resnet10": ({"width": 16}, 16),
    "densenet121": ({"growth": 8, "blocks": [1, 1, 1, 1]}, 32),
    "efficientnetv2s": ({"width": 0.3, "depth": 0.1}, 64),
}


def convnet(width=128):
    return networks.build("convnet3", channels=3, size=32, classes=10, width=width)


def small(name, seed=0):
    settings, size = SMALL[name]
    return networks.build(name, channels=3, size=size, classes=10, seed=seed, **settings), torch.zeros(1, 3, size, size)


def batch(image, size, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(size, *image.shape[1:], generator=generator), torch.arange(size) % 10


def gradient(forward, network, x, y):
    """Loss and gradient, (P,), of `network` run by `forward`; in double precision."""
    loss = cross_entropy(forward(x), y)
    parts = torch.autograd.grad(loss, list(network.parameters()))
    return float(loss.detach()), torch.cat([part.reshape(-1) for part in parts]).double()


@pytest.fixture
def capable(monkeypatch):
    """Say what the CPU can do and which programs are there."""

    def set_up(bfloat16=False, programs=("g++",)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": bfloat16})
        monkeypatch.setattr("shutil.which", lambda name: name if name in programs else None)
        monkeypatch.delenv("CXX", raising=False)

    return set_up


@pytest.fixture
def traced(monkeypatch):
    """The whole path but for the C++ that torch would write: a full compilation takes a minute. Gives the sizes that are traced."""
    sizes = []

    def compiled(function, dynamic):
        fast = torch._dynamo.optimize("aot_eager", dynamic=dynamic)(function)
        return lambda images: (sizes.append(len(images)), fast(images))[1]

    monkeypatch.setattr(torch, "compile", compiled)
    return sizes


def test_a_gpu_compiles_a_training_only_where_a_few_percent_pay_for_it(monkeypatch):
    monkeypatch.setattr(engine, "missing_compiler", lambda device: "")
    network, cuda = convnet(), torch.device("cuda")
    forward = engine._operations(network, IMAGE)
    for work, sizes in ((CIFAR10, ()), (Work({256: int(1.01e16 / 3 / forward)}), (256,))):
        assert engine._compiled(network, cuda, work, forward, "auto", "experts")[0] == sizes


def test_large_work_is_compiled_and_small_is_not(capable):
    capable()
    large = engine.plan(convnet(), IMAGE, CIFAR10, "auto")
    assert large == Plan("float32", compiled=(256,), channels_last=True)
    small_one = engine.plan(convnet(8), IMAGE, Work({256: 2000}), "auto")
    assert small_one == Plan("float32")
    assert any(note.startswith("not compiled: ") and "too few" in note for note in small_one.notes)
    assert engine.plan(convnet(8), IMAGE, Work({256: 2000}), "bfloat16").precision == "bfloat16"


def test_an_odd_batch_and_the_test_pass_are_compiled_where_they_come_often_enough(capable):
    capable()
    seeds = 5  # of 1000 epochs on 800 images, tested on 10,000
    work = Work({256: seeds * 1000 * 768, 32: seeds * 1000 * 32}, seeds * 10_000)
    assert engine.plan(convnet(), IMAGE, work, "auto") == Plan("float32", (256, 32), True, True)
    fewer = engine.plan(convnet(), IMAGE, Work({256: 100 * 768, 32: 100 * 32}, 10_000), "auto")
    assert fewer == Plan("float32", (256,), False, True)
    tests = engine.plan(convnet(), IMAGE, Work({10: 5 * 1000 * 10}, seeds * 10_000), "auto")
    assert tests == Plan("float32", (), True)


def test_without_a_compiler_the_log_says_so(capable):
    capable(programs=())
    chosen = engine.plan(convnet(), IMAGE, CIFAR10, "auto")
    assert not chosen.compiled
    assert "not compiled: there is no compiler g++" in chosen.notes
    with pytest.raises(UserError, match=r"evaluation.compile: always, but there is no compiler g\+\+; use auto"):
        engine.plan(convnet(), IMAGE, CIFAR10, "auto", "always", section="evaluation")


def test_bfloat16_is_chosen_where_the_processor_has_it_and_is_faster_with_it(capable):
    capable(bfloat16=True)
    assert engine.plan(convnet(), IMAGE, CIFAR10, "auto") == Plan("bfloat16", (256,), channels_last=True)
    assert engine.plan(convnet(), IMAGE, CIFAR10, "float32").precision == "float32"
    tiny, image = small("convnet3")
    assert engine.plan(tiny, image, Work({10: 10**6}), "auto").precision == "float32"  # a step of too little work


def test_what_is_chosen_for_the_other_networks(capable):
    """Batch norm: eager in channels_last. Depthwise convolutions: float32."""
    capable(bfloat16=True)
    for name, precision in (("resnet10", "bfloat16"), ("densenet121", "bfloat16"), ("efficientnetv2s", "float32")):
        tiled = precision == "bfloat16"
        network = networks.build(name, 3, 32, 10)
        before = {key: value.clone() for key, value in network.state_dict().items()}
        assert engine.plan(network, IMAGE, CIFAR10, "auto") == Plan(precision, channels_last=True, tiled=tiled)
        assert network.training and all(torch.equal(before[key], value) for key, value in network.state_dict().items())


@pytest.mark.parametrize(
    ("precision", "compiled", "message"),
    [
        ("float16", "auto", "evaluation.precision: float16 is unknown; use one of auto, float32, bfloat16"),
        ("auto", "yes", "evaluation.compile: yes is unknown; use one of auto, always, never"),
    ],
)
def test_an_unknown_wish_is_one_line(precision, compiled, message):
    with pytest.raises(UserError, match=message):
        engine.plan(convnet(8), IMAGE, CIFAR10, precision, compiled, section="evaluation")


def test_the_estimate_of_work_is_that_of_the_paper_s_network():
    # Three convolutions of 3x3 at 32, 16 and 8 pixels and a classifier, two operations a product.
    by_hand = 2 * (32**2 * 27 * 128 + 16**2 * 1152 * 128 + 8**2 * 1152 * 128 + 2048 * 10)
    network = convnet()
    assert compile_policy.operations(lambda: network(IMAGE)) == by_hand


@pytest.mark.parametrize(
    ("plan", "bounds"),
    [
        (Plan("float32"), (1e-6, 1e-4)),
        (
            Plan("float32", channels_last=True),
            (1e-6, 2e-2),
        ),  # sums in another order: a value at the kink of a ReLU may fall on its other side
        (
            Plan("bfloat16", channels_last=True, tiled=True),
            (1e-2, 0.35),
        ),  # of labels at random, whose gradients nearly cancel; a wrong one is off by 1
    ],
    ids=["float32", "channels_last", "bfloat16"],
)
@pytest.mark.parametrize("name", SMALL)
def test_loss_and_gradient_are_those_of_float64(name, plan, bounds):
    network, image = small(name)
    exact, _ = small(name)
    ours = Engine(network, plan, image)
    x, y = batch(image, 12)
    torch.manual_seed(1)
    loss, found = gradient(ours, network, x, y)
    torch.manual_seed(1)
    true, wanted = gradient(exact.double(), exact, x.double(), y)
    assert loss == pytest.approx(true, rel=bounds[0])
    assert float((found - wanted).norm() / wanted.norm()) < bounds[1]
    assert (plan.precision == "float32") == (loss == pytest.approx(true, rel=1e-6))
    assert all(p.dtype == torch.float32 for p in network.parameters())


@pytest.mark.parametrize("name", ["convnet3", "resnet10"])
def test_compiled_batches_odd_ones_and_tests_give_the_eager_results(traced, name):
    network, image = small(name)
    plain, _ = small(name)
    ours = Engine(network, Plan("float32", (12, 7), True, True), image)
    assert traced == [12, 7, TEST_BATCH]
    for size in (12, 7, 5):  # the last is left to eager code
        x, y = batch(image, size)
        loss, found = gradient(ours, network, x, y)
        true, wanted = gradient(plain, plain, x, y)
        assert loss == pytest.approx(true, rel=1e-5)
        assert float((found - wanted).norm() / wanted.norm()) < 1e-2
    network.eval(), plain.eval()
    with torch.no_grad():
        for size in (TEST_BATCH, 12):
            x, _ = batch(image, size)
            torch.testing.assert_close(ours(x), plain(x), rtol=1e-4, atol=1e-4)
    assert traced[3:] == [12, 7, TEST_BATCH]


def test_compiling_leaves_no_trace_in_the_network(traced):
    network, image = small("resnet10")
    before = {key: value.clone() for key, value in network.state_dict().items()}
    Engine(network, Plan("float32", (12,), True, True), image)
    assert traced and network.training
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    assert all(p.grad is None for p in network.parameters())


def test_weights_and_statistics_of_another_network_take_their_turn():
    network, image = small("resnet10")
    other, _ = small("resnet10", seed=1)
    x, _ = batch(image, 12)
    other(x)  # moves its running statistics
    ours = Engine(network, Plan(channels_last=True), image)
    ours.load(other)
    network.eval(), other.eval()
    torch.testing.assert_close(ours(x), other(x), rtol=1e-5, atol=1e-5)


def test_code_that_cannot_be_compiled_stays_eager_and_says_so(monkeypatch, capsys):
    def broken(function, dynamic):
        def run(images):
            raise RuntimeError("no such vector\ninstruction")

        return run

    monkeypatch.setattr(torch, "compile", broken)
    network, image = small("convnet3")
    ours = Engine(network, Plan("float32", (12,), True), image)
    assert "not compiled, RuntimeError: no such vector\n" in capsys.readouterr().err
    x, _ = batch(image, 12)
    torch.testing.assert_close(ours(x), network(x))
    assert not ours.plan.compiled


def test_the_operations_of_dropout_are_counted_without_a_draw():
    network = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(3 * 32 * 32, 10))
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    engine.plan(network, IMAGE, CIFAR10, "auto")
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("wish", [None, "7"])
def test_a_job_compiles_in_its_own_threads_unless_told_otherwise(wish):
    code = "import torch; torch.set_num_threads(3); from esp_core.training.compile_policy import compile_in_own_threads as own; own(); "
    code += "import torch._inductor.config as c; print(c.compile_threads)"
    environment = {key: value for key, value in os.environ.items() if key != "TORCHINDUCTOR_COMPILE_THREADS"}
    environment |= {"TORCHINDUCTOR_COMPILE_THREADS": wish} if wish else {}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == (wish or "3")
