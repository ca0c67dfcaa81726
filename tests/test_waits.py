"""How often a step makes a GPU wait: copies to it and numbers read back. These may fall, and never rise."""

from dataclasses import replace

import pytest
import torch
from pretend_device import DEVICE, Pretended, there
from small import NETWORK, Experts, dataset, spec

from esp_core import networks
from esp_core.distillation.outer_loop import Distillation
from esp_core.runtime import seeds
from esp_core.study import methods
from esp_core.training.epoch import Images
from esp_core.training.protocol import Protocol, train

STEPS = {"mtt": 1, "tesla": 1}  # outer steps that are counted, 5 where nothing is said: as many as a segment of the experts serves
READS = {"cafe_dsa": 13}  # its network learns until its accuracy has moved enough, which has to be looked at after each epoch
CHANGES = {
    "mtt": {"objectives": {"trajectory": {"steps": 50}}, "teacher": {"length": 2, "start_max": 2}},
    "tesla": {"objectives": {"trajectory": {"steps": 50}}, "teacher": {"length": 2, "start_max": 2}},
    "idc": {"teacher": {"images": 32, "batch": 8}},
    "esp": {"teacher": {"length": 2, "start_max": 2}},
    "esp_signed": {"teacher": {"length": 2, "start_max": 2}},
    "kip": {"teacher": {"count": 2}},
}
SMALL = {"parametrisation": {"decoders": 2, "code_channels": 1, "width": 2, "upsamplings": 1}}


class OnDevice(Experts):
    """Experts that are read from the disk, so that each segment is a copy."""

    def segment(self, expert, start, length):
        return super().segment(expert, start, length).to(DEVICE)

    def snapshot(self, expert, index):
        return super().snapshot(expert, index).to(DEVICE)


def on_device(data):
    """The data as `load` puts them onto a device."""
    for split in (data.train, data.test):
        there((split.images, split.labels))
    return replace(data, normalisation=data.normalisation.to(DEVICE))


def waits(method, micro_batch):
    """Copies and reads of each of some outer steps, the first, which sets things up, left out."""
    changes = CHANGES.get(method, {})
    if method in ("esp", "esp_signed", "kfs"):
        changes = methods.merge(changes, SMALL)
    recipe = methods.recipe(method, "digits", 1, custom={method: changes}, flip=False)
    steps = STEPS.get(method, 5)
    recipe |= {"iterations": steps + 1, "real_batch": 8, "micro_batch": micro_batch, "compile": "never", "precision": "float32"}
    counts = []
    with Pretended() as seen:
        job = Distillation({**spec("dm"), "recipe": recipe}, on_device(dataset(per_class=48)), OnDevice(), DEVICE)
        job.run(lambda job, outcome: counts.append((seen.copies, seen.reads)))
    return [(last - first) / steps for first, last in zip(counts[0], counts[-1], strict=True)]


@pytest.mark.parametrize("micro_batch", [None, 4], ids=["whole", "micro-batches"])
@pytest.mark.parametrize("method", ["dm", "kfs", "esp", "esp_signed", "dc", "dsa", "idc", "cafe_dsa", "mtt", "tesla", "kip"])
def test_an_outer_step_copies_at_most_four_times_and_reads_back_once(method, micro_batch):
    copies, reads = waits(method, micro_batch)
    print(f"{method}: {copies:g} copies, {reads:g} reads")
    assert copies <= 4 and reads <= READS.get(method, 1)


@pytest.mark.parametrize(("augment", "cutmix"), [("color_crop_cutout_flip_scale_rotate", 0.0), ("flip+color+crop_scale_rotate", 1.0)])
def test_an_epoch_of_training_copies_once(augment, cutmix):
    settings = {"name": "own", "epochs": 3, "lr": 0.01, "momentum": 0.9, "weight_decay": 0.0, "batch": 8, "augment": augment}
    protocol = Protocol.from_spec({**settings, "milestones": [0.5], "gamma": 0.1, "cutmix": cutmix})
    with Pretended() as seen:
        data = on_device(dataset())
        network = networks.build(**NETWORK, channels=1, size=8, classes=3, seed=0).to(DEVICE)
        images = Images(data.train.images, data.train.labels, data)
        before = seen.copies
        train(network, images, protocol, seeds.generator("a"))
    assert seen.copies - before <= protocol.epochs and seen.reads <= protocol.epochs  # the mean loss of an epoch is read


def test_the_pretended_device_sees_what_a_gpu_would_wait_for():
    with Pretended() as seen:
        values, index = torch.arange(4.0).to(DEVICE), torch.tensor([1, 2])
        assert values.device == DEVICE and (values + 1).device == DEVICE and index.device != DEVICE
        assert float(values[index].sum()) == 3.0 and (seen.copies, seen.reads) == (2, 1)
        assert values[values > 1].tolist() == [2.0, 3.0] and (seen.copies, seen.reads) == (2, 3)
        with pytest.raises(AssertionError, match="processor and of the device"):
            values * torch.ones(4)
