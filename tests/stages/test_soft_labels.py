"""Losses on soft labels against closed forms in float64; soft labels that are one-hot teach bit for bit what hard ones do."""

import pytest
import torch
import torch.nn.functional as F
from small import CLASSES, NETWORK, SIZE, dataset

from esp_core import datasets, load_condensed, parametrisations
from esp_core.distillation.condensed import save_condensed
from esp_core.parametrisations import Task
from esp_core.runtime.errors import UserError
from esp_core.stages import evaluate
from esp_core.study import job_specs
from esp_core.study.config import Study
from esp_core.training.epoch import draw_mix, mixed_loss
from esp_core.training.protocol import Protocol, soft_loss

PROTOCOL = {
    "name": "dsa",
    "epochs": 5,
    "lr": 0.05,
    "momentum": 0.9,
    "weight_decay": 0.0005,
    "batch": 4,
    "augment": "color_crop",
    "milestones": [],
    "gamma": 1.0,
    "cutmix": 0.5,
}
SPEC = {"study_seed": 0, "dataset": "small", "ipc": 2, "method": "own", "network": NETWORK, "seeds": 2}


def protocol(**changes):
    return Protocol.from_spec({**PROTOCOL, **changes})


@pytest.mark.parametrize(
    ("changes", "value", "gradient"),
    [
        ({}, lambda z, y: -(y * z.log_softmax(1)).sum() / len(z), lambda z, y: (z.softmax(1) - y) / len(z)),
        (
            {"soft_labels": "kl", "temperature": 3.0},
            lambda z, y: 9 * (q(y) * (q(y).log() - (z / 3).log_softmax(1))).sum() / len(z),
            lambda z, y: 3 * ((z / 3).softmax(1) - q(y)) / len(z),
        ),
        ({"soft_labels": "mse"}, lambda z, y: ((z - y) ** 2).sum() / z.numel(), lambda z, y: 2 * (z - y) / z.numel()),
    ],
)
def test_a_loss_and_its_gradient_are_the_closed_forms(changes, value, gradient):
    draws = torch.Generator().manual_seed(0)
    z = torch.randn(6, 5, generator=draws, dtype=torch.float64, requires_grad=True)
    y = torch.rand(6, 5, generator=draws, dtype=torch.float64)
    y = y / y.sum(1, keepdim=True)
    loss = soft_loss(protocol(**changes))(z, y)
    loss.backward()
    with torch.no_grad():
        torch.testing.assert_close(loss.detach(), value(z, y), rtol=1e-12, atol=0)
        torch.testing.assert_close(z.grad, gradient(z, y), rtol=1e-12, atol=1e-15)


def q(y):
    """Probabilities at temperature 3: y^(1/3), normalised."""
    return y ** (1 / 3) / (y ** (1 / 3)).sum(1, keepdim=True)


@pytest.mark.parametrize("soft_labels", ["cross_entropy", "mse"])
def test_cutmix_mixes_soft_labels_by_the_share_of_the_pixels(soft_labels):
    draws = torch.Generator().manual_seed(0)
    x = torch.rand(4, 1, 8, 8, generator=draws, dtype=torch.float64)
    y = torch.rand(4, 3, generator=draws, dtype=torch.float64).softmax(1)
    weight = torch.randn(64, 3, generator=draws, dtype=torch.float64, requires_grad=True)
    loss = soft_loss(protocol(soft_labels=soft_labels))
    mix = draw_mix(4, 8, 1.0, torch.Generator().manual_seed(3))
    found = torch.autograd.grad(mixed_loss(lambda images: images.flatten(1) @ weight, x, y, mix, loss), weight)[0]
    cut, own, other, share = mix(x), y, y[mix.other], mix.share
    assert 0 < share < 1 and not torch.equal(own, other)
    z = cut.flatten(1) @ weight
    mixed = share * own + (1 - share) * other
    error = (z - mixed) * 2 / 3 if soft_labels == "mse" else z.softmax(1) - mixed
    torch.testing.assert_close(found, cut.flatten(1).T @ error / len(x), rtol=1e-9, atol=1e-12)


@pytest.fixture
def stored(tmp_path, monkeypatch):
    """A function that writes a set with soft labels, or without, and gives its path."""
    monkeypatch.setattr(datasets, "load", lambda *_: dataset())

    def write(soft=None, **metadata):
        task = Task(CLASSES, 2, 1, SIZE, dataset().normalisation)
        synthetic = parametrisations.build(task, kind="pixels")
        synthetic.initialise(torch.Generator().manual_seed(0), None)
        path = tmp_path / f"set-{len(list(tmp_path.iterdir()))}.safetensors"
        save_condensed(path, synthetic, {"kind": "pixels"}, dataset().classes, metadata, soft)
        return path

    return write


def rows(path, **protocol):
    found = evaluate.run({**SPEC, "protocol": {**PROTOCOL, **protocol}}, None, path)
    return [{key: row[key] for key in ("accuracy", "curve", "protocol")} for row in found]


ONE_HOT = F.one_hot(torch.arange(CLASSES).repeat_interleave(2), CLASSES).float()


def test_one_hot_labels_give_the_rows_of_hard_ones(stored):
    hard, soft = stored(), stored(ONE_HOT)
    assert rows(soft) == rows(hard)
    smooth = stored(ONE_HOT * 0.9 + 0.1 / CLASSES)
    assert rows(smooth)[0]["curve"] != rows(hard)[0]["curve"]
    ignored = rows(smooth, soft_labels="hard")
    assert [row["curve"] for row in ignored] == [row["curve"] for row in rows(hard)]
    assert ignored[0]["protocol"].endswith(", soft_labels hard") and "," not in rows(hard)[0]["protocol"]
    assert rows(hard, soft_labels="mse")[0]["curve"] == rows(hard)[0]["curve"]


def test_soft_labels_are_read_back_and_counted(stored):
    soft = ONE_HOT * 0.9 + 0.1 / CLASSES
    data = load_condensed(stored(soft))
    assert torch.equal(data.soft, soft) and data.labels.tolist() == soft.argmax(1).tolist()
    assert data.metadata["budget_used"] == 2 * CLASSES * SIZE**2 + soft.numel()
    assert load_condensed(stored()).soft is None
    with pytest.raises(UserError, match="its tensors do not fit its parametrisation"):
        load_condensed(stored(soft[:, :2].contiguous()))


@pytest.mark.parametrize("asked", [{}, {"soft_labels": "kl"}])
def test_labels_that_are_no_probabilities_are_refused_where_the_loss_needs_them(stored, asked):
    path = stored(ONE_HOT - 0.1)
    with pytest.raises(UserError, match=r"^small ipc \d+ \w+: its labels, from -0.1 to 0.9, are no probabilities.*soft_labels to mse"):
        rows(path, **asked)
    assert rows(path, soft_labels="mse")


def test_the_learned_rate_is_used_where_the_protocol_asks_for_it(stored):
    with_rate, without = stored(learned={"step_size": 0.002}), stored()
    assert load_condensed(with_rate).lr == 0.002 and load_condensed(without).lr is None
    curves = [[row["curve"] for row in rows(*job, **asked)] for *job, asked in (
        (with_rate, {}),
        (without, {}),
        (without, {"learned_lr": True}),
        (with_rate, {"learned_lr": True}),
        (without, {"lr": 0.002}),
    )]  # fmt: skip
    assert curves[0] == curves[1] == curves[2] != curves[3] == curves[4]


def test_a_study_that_asks_for_nothing_has_the_protocol_that_it_had():
    study = {"study": "small", "datasets": {"digits": {"ipc": [1]}}, "methods": {"random": {}}}
    job = ("evaluate", "digits", "1", "random", "convnet3")
    plain = job_specs.spec(Study(study), *job)["protocol"]
    assert not {"soft_labels", "temperature", "learned_lr"} & plain.keys()
    asked = {"soft_labels": "kl", "temperature": 2.0, "learned_lr": True}
    assert job_specs.spec(Study(study | {"evaluation": asked}), *job)["protocol"] == plain | asked
    with pytest.raises(UserError, match=r"^evaluation.temperature: has no meaning here; allowed: with evaluation.soft_labels kl$"):
        Study(study | {"evaluation": {"networks": {"convnet3": {"temperature": 2.0}}}})
