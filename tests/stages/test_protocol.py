"""Our evaluation protocol against the paper's Random row: ten random real CIFAR-10 images a class, ConvNet-3, 26.0 ± 1.2 (Table 1).

The paper quotes that row, which goes back to DC (Zhao et al., 2021), whose code trains on such images without augmentation. So it is
compared without; with DSA's augmentation, as all methods are tested here, the same images teach more. It trains for minutes on a
processor: `ESP_SLOW=1 ESP_REAL_DATA=… pytest -s tests/stages/test_protocol.py`. EPOCHS stand for the protocol's 1000: an epoch is one
step here, and the training loss is flat long before.
"""

import os
import statistics

import numpy as np
import pytest
import torch

from esp_core import networks
from esp_core.datasets import Dataset, Split
from esp_core.datasets.normalisation import Normalisation
from esp_core.runtime import devices, seeds
from esp_core.study import methods
from esp_core.training.epoch import Images, accuracy
from esp_core.training.protocol import Protocol, train

EPOCHS, DRAWS, IPC = 100, 3, 10
RECORD = 3073  # bytes of an image in CIFAR-10's binary files: a label, then 3 x 32 x 32


def split(folder, names):
    raw = np.concatenate([np.fromfile(folder / name, np.uint8).reshape(-1, RECORD) for name in names])
    return Split(torch.from_numpy(raw[:, 1:].reshape(-1, 3, 32, 32)), torch.from_numpy(raw[:, 0].astype(np.int64)))


@pytest.mark.timeout(3600)
@pytest.mark.skipif(not os.environ.get("ESP_SLOW"), reason="minutes of training; set ESP_SLOW=1, and ESP_REAL_DATA for the images")
def test_ten_random_images_a_class_teach_as_much_as_the_paper_says(real_data):
    devices.reuse_memory()
    folder = real_data / "cifar-10-batches-bin"
    training = split(folder, [f"data_batch_{i}.bin" for i in range(1, 6)])
    scaled = training.images.float() / 255
    mean, std = scaled.mean((0, 2, 3)), scaled.std((0, 2, 3))
    data = Dataset("cifar10", training, split(folder, ["test_batch.bin"]), tuple("0123456789"), Normalisation(mean, std), "")
    test = Images(data.test.images, data.test.labels, data)
    settings = Protocol.from_spec(methods.protocol("dsa", {"epochs": EPOCHS, "augment": "none"}))
    found = []
    for draw in range(DRAWS):
        generator = seeds.generator(0, "protocol", draw)
        members = [(training.labels == label).nonzero().squeeze(1) for label in range(10)]
        chosen = torch.cat([m[torch.randperm(len(m), generator=generator)[:IPC]] for m in members])
        network = networks.build("convnet3", 3, 32, 10, seed=draw)
        curve = train(network, Images(training.images[chosen], training.labels[chosen], data), settings, generator)
        found.append(accuracy(network, test))
        losses = " ".join(f"{epoch}:{curve[epoch - 1]:.2f}" for epoch in range(EPOCHS // 10, EPOCHS + 1, EPOCHS // 10))
        print(f"draw {draw}: {found[-1]:.2f} %, training loss {losses}", flush=True)
    print(f"{statistics.mean(found):.2f} ± {statistics.stdev(found):.2f} %, n = {DRAWS}, {EPOCHS} epochs")
    assert 24.0 <= statistics.mean(found) <= 28.0
