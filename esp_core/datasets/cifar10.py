"""CIFAR-10: 50,000 and 10,000 colour images of 32 x 32 in ten classes."""

from esp_core.datasets import cifar_binary
from esp_core.datasets.source import Request, Source

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def read(request: Request, *, size: int = 32) -> Source:
    """The five training files and the test file of the binary distribution, for small studies averaged to 16 or 8 pixels."""
    train = [f"data_batch_{k}.bin" for k in range(1, 6)]
    return cifar_binary.read(request, train, ["test_batch.bin"], CLASSES, size=size)
