"""CIFAR-10: 50,000 training and 10,000 test colour images of 32 x 32 in ten classes."""

from functools import partial

from esp_core.datasets import cifar_binary

TRAIN, TEST = tuple(f"data_batch_{k}.bin" for k in range(1, 6)), ("test_batch.bin",)
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

read = partial(cifar_binary.source, TRAIN, TEST, CLASSES, 1)
