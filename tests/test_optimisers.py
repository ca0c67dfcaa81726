"""SGD and Adam against torch's own optimisers, bit by bit, and resumed; and without torch's compiler."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from esp_core.training.optimisers import SGD, Adam

KINDS = {
    "sgd": (lambda t: SGD(t), lambda groups: torch.optim.SGD(groups)),
    "momentum": (lambda t: SGD(t, 0.9, 0.01), lambda groups: torch.optim.SGD(groups, momentum=0.9, weight_decay=0.01)),
    "adam": (lambda t: Adam(t), lambda groups: torch.optim.Adam(groups)),
}
RATES = [0.1, 0.01, 0.1]


def tensors():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator).requires_grad_() for shape in ((3, 2), (4,), (2,))]


def loss(values):
    return sum((value**4).sum() + value.sum() for value in values)


def walk(values, step, count):
    for _ in range(count):
        for value in values:
            value.grad = None
        loss(values).backward()
        step()


@pytest.mark.parametrize("kind", KINDS)
def test_steps_are_those_of_torch(kind):
    ours, theirs = tensors(), tensors()
    make, reference = KINDS[kind]
    descent = make(ours)
    optimiser = reference([{"params": [value], "lr": rate} for value, rate in zip(theirs, RATES, strict=True)])
    walk(ours, lambda: descent.step(RATES), 5)
    walk(theirs, optimiser.step, 5)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_walk_is_the_same(kind):
    whole, parts = tensors(), tensors()
    make = KINDS[kind][0]
    first = make(whole)
    walk(whole, lambda: first.step(RATES), 5)
    second = make(parts)
    walk(parts, lambda: second.step(RATES), 2)
    third = make(parts)
    third.state = {name: value.clone() for name, value in second.state.items()}
    walk(parts, lambda: third.step(RATES), 3)
    assert all(torch.equal(a, b) for a, b in zip(whole, parts, strict=True))


def test_a_tensor_without_a_gradient_stays():
    values = tensors()
    before = [value.detach().clone() for value in values]
    descent = Adam(values)
    values[1].sum().backward()
    descent.step(0.1)
    assert torch.equal(values[0], before[0]) and not torch.equal(values[1], before[1])
    descent.zero()
    assert values[1].grad is None


def test_evaluation_and_distillation_import_no_compiler():
    program = """
import sys, torch
from esp_core.distillation import outer_optimiser
from esp_core.training import protocol
from esp_core.training.optimisers import SGD, Adam
t = [torch.zeros(2, requires_grad=True)]
t[0].sum().backward()
SGD(t, 0.9).step(0.1), Adam(t).step(0.1)
sys.exit("torch._dynamo" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[1]).returncode == 0
