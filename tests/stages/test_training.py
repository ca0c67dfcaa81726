"""The evaluation protocol: rates, a plain training loop as reference, cutmix, accuracy by counting."""

import pytest
import torch
import torch.nn.functional as F
from small import CLASSES, NETWORK, SIZE, dataset

from esp_core import networks
from esp_core.runtime.errors import UserError
from esp_core.training.epoch import Images, accuracy, batches, draw_mix, mixed_loss
from esp_core.training.protocol import Protocol, train

SETTINGS = {
    "name": "dsa",
    "epochs": 4,
    "lr": 0.05,
    "momentum": 0.9,
    "weight_decay": 0.0005,
    "batch": 10,
    "augment": "none",
    "milestones": [0.5],
    "gamma": 0.1,
}


def network():
    return networks.build(**NETWORK, channels=1, size=SIZE, classes=CLASSES, seed=3)


def test_rates_step_at_the_milestones():
    rates = [Protocol.from_spec({**SETTINGS, "epochs": 10, "milestones": [0.5, 0.8]}).rate(e) for e in range(10)]
    assert rates == pytest.approx([0.05] * 5 + [0.005] * 3 + [0.0005] * 2)


def test_training_is_sgd_with_momentum_and_decay_written_out():
    data = dataset()
    images = Images(data.train.images, data.train.labels, data)
    ours, theirs = network(), network()
    train(ours, images, Protocol.from_spec(SETTINGS), torch.Generator().manual_seed(7))
    generator = torch.Generator().manual_seed(7)
    x, y = data.normalise(data.train.images), data.train.labels
    velocity = [torch.zeros_like(p) for p in theirs.parameters()]
    for epoch in range(4):
        order = torch.randperm(len(y), generator=generator)
        for i in range(0, len(y), 10):
            at = order[i : i + 10]
            torch.randint(1, (1,), generator=generator), torch.rand(len(at), 4, generator=generator)  # the augmentation's draws
            gradients = torch.autograd.grad(F.cross_entropy(theirs(x[at]), y[at]), list(theirs.parameters()))
            with torch.no_grad():
                for p, g, v in zip(theirs.parameters(), gradients, velocity, strict=True):
                    v.mul_(0.9).add_(g + 0.0005 * p)
                    p -= (0.05 if epoch < 2 else 0.005) * v
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("n", "sizes"), [(20, [10, 10]), (21, [10, 11]), (22, [10, 10, 2]), (1, [1])])
def test_no_batch_of_one_is_left_over(n, sizes):
    parts = batches(torch.arange(n), 10)
    assert [len(part) for part in parts] == sizes and torch.cat(parts).tolist() == list(range(n))


def test_accuracy_counts():
    data = dataset()
    model = network()
    right = sum(int(model(data.normalise(data.test.images[i : i + 1])).argmax()) == int(data.test.labels[i]) for i in range(len(data.test)))
    assert accuracy(model, Images(data.test.images, data.test.labels, data), batch=5) == pytest.approx(100 * right / len(data.test))


def test_cutmix_loss_weighs_by_the_area_that_was_pasted():
    """Logits that are certain of the own label: what the loss is above zero is the share of pixels that came from another class."""
    y = torch.arange(6) % CLASSES
    x = torch.arange(6.0).view(6, 1, 1, 1).expand(6, 1, 16, 16)
    certain = 100.0

    class Certain(torch.nn.Module):
        def forward(self, seen):
            self.seen = seen
            return F.one_hot(y, CLASSES) * certain

    model, mixed = Certain(), 0
    for seed in range(20):
        loss = mixed_loss(model, x, y, draw_mix(6, 16, 1.0, torch.Generator().manual_seed(seed)))
        foreign = (y[model.seen.long()] != y.view(6, 1, 1, 1)).double().mean()
        assert float(loss) == pytest.approx(certain * float(foreign), rel=1e-5)
        mixed += int(foreign > 0)
    assert mixed > 10
    mixed_loss(model, x, y, draw_mix(6, 16, 0.0, torch.Generator()))
    assert torch.equal(model.seen, x)


def test_an_unknown_key_is_one_line():
    with pytest.raises(UserError, match="evaluation: .*epoch_count"):
        Protocol.from_spec({**SETTINGS, "epoch_count": 3})
