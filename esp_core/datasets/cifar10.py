"""CIFAR-10: 50,000 and 10,000 colour images of 32 x 32 in ten classes."""

from typing import Literal

from esp_core.datasets import cifar_binary, official
from esp_core.datasets.source import Request, Source

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def read(request: Request, *, size: Literal[32, 16, 8] = 32) -> Source:
    """The five training files and the test file of the binary distribution.

    size: pixels along a side, to which the images are averaged, for small studies
    """
    found = official.opened(request)
    train = cifar_binary.part(found.folder, [f"data_batch_{k}.bin" for k in range(1, 6)], label_bytes=1, size=size)
    test = cifar_binary.part(found.folder, ["test_batch.bin"], label_bytes=1, size=size)
    return Source((3, size, size), CLASSES, train, test, found.origin)
