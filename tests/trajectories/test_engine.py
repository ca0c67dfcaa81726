import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from esp_core import compiling, networks
from esp_core.trajectories import engine

CPU = torch.device("cpu")
IMAGE = torch.zeros(1, 3, 32, 32)
CIFAR10 = 50 * 50_000


def convnet(width=128):
    return networks.build("convnet3", channels=3, size=32, classes=10, width=width)


@pytest.fixture
def capable(monkeypatch):
    """Say what the CPU can do and which programs are there."""

    def set_up(bfloat16=False, programs=("g++",)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": bfloat16})
        monkeypatch.setattr("shutil.which", lambda name: name if name in programs else None)
        monkeypatch.delenv("CXX", raising=False)

    return set_up


def test_large_work_is_compiled_and_small_is_not(capable):
    capable()
    large = engine.plan(convnet(), IMAGE, CIFAR10, "auto")
    assert (large.precision, large.compiled, large.channels_last, large.winograd) == ("float32", True, True, True)
    small = engine.plan(convnet(8), IMAGE, 2000, "auto")
    assert (small.compiled, small.channels_last, small.winograd) == (False, False, False)
    assert any(note.startswith("not compiled: ") and "too few" in note for note in small.notes)
    asked = engine.plan(convnet(8), IMAGE, 2000, "bfloat16")
    assert asked.notes[0] == "precision bfloat16: this device has no instructions for bfloat16 products"


def test_without_a_compiler_the_log_says_so(capable):
    capable(programs=())
    chosen = engine.plan(convnet(), IMAGE, CIFAR10, "auto")
    assert not chosen.compiled
    assert "not compiled: there is no compiler g++" in chosen.notes


def test_bfloat16_is_chosen_where_the_processor_has_it(capable):
    capable(bfloat16=True)
    chosen = engine.plan(convnet(), IMAGE, CIFAR10, "auto")
    assert (chosen.precision, chosen.compiled, chosen.winograd) == ("bfloat16", True, False)
    assert engine.plan(convnet(), IMAGE, CIFAR10, "float32").precision == "float32"


def test_the_estimate_of_work_is_that_of_the_paper_s_network():
    # Three convolutions of 3x3 at 32, 16 and 8 pixels and a classifier, two operations a product.
    by_hand = 2 * (32**2 * 27 * 128 + 16**2 * 1152 * 128 + 8**2 * 1152 * 128 + 2048 * 10)
    network = convnet()
    assert compiling.operations(lambda: network(IMAGE)) == by_hand


def test_weights_stay_float32_under_bfloat16():
    network, chosen = convnet(8), engine.Plan("bfloat16", compiled=False, channels_last=False, winograd=False)
    fast, _ = engine.losses(network, chosen, CPU)
    x, y = torch.randn(4, 3, 32, 32), torch.arange(4)
    loss = fast(x, y)
    loss.backward()
    assert loss.dtype == torch.float32
    assert all(p.dtype == p.grad.dtype == torch.float32 for p in network.parameters())
    exact = nn.functional.cross_entropy(network(x), y).detach()
    assert float(loss.detach()) == pytest.approx(float(exact), rel=0.02)
    assert float(loss.detach()) != float(exact)


def test_a_compiled_step_gives_the_eager_loss_and_gradient(monkeypatch):
    # The whole path but for the C++ that torch would write: a full compilation takes a minute.
    monkeypatch.setattr(torch, "compile", lambda function, dynamic: torch._dynamo.optimize("aot_eager", dynamic=dynamic)(function))
    network = networks.build("convnet3", channels=1, size=8, classes=10, width=16, depth=2, seed=0)
    fast, plain = engine.losses(network, engine.Plan("float32", compiled=True, channels_last=True, winograd=True), CPU)
    x, y = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(6)
    a, b = fast(x, y), plain(x, y)
    assert float(a.detach()) == pytest.approx(float(b.detach()), rel=1e-5)
    weights = list(network.parameters())
    ours, theirs = (torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss, weights)]) for loss in (a, b))
    assert float((ours - theirs).norm() / theirs.norm()) < 1e-4


@pytest.mark.parametrize("wish", [None, "7"])
def test_a_job_compiles_in_its_own_threads_unless_told_otherwise(wish):
    code = "import torch; torch.set_num_threads(3); from esp_core.compiling import compile_in_own_threads as own; own(); "
    code += "import torch._inductor.config as c; print(c.compile_threads)"
    environment = {key: value for key, value in os.environ.items() if key != "TORCHINDUCTOR_COMPILE_THREADS"}
    environment |= {"TORCHINDUCTOR_COMPILE_THREADS": wish} if wish else {}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == (wish or "3")
