"""CIFAR-10: 50,000 and 10,000 colour images of 32 x 32 in ten classes."""

from typing import Literal

from esp_core.datasets import cifar_binary
from esp_core.datasets.source import Request, Source

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def read(request: Request, *, size: Literal[32, 16, 8] = 32) -> Source:
    """The five training files and the test file of the binary distribution.

    size: pixels along a side, to which the images are averaged, for small studies
    """
    train = [f"data_batch_{k}.bin" for k in range(1, 6)]
    return cifar_binary.source(request, train, ["test_batch.bin"], CLASSES, size=size)
