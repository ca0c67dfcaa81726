"""The embedded dataset: the 1,797 handwritten digits of scikit-learn, 8 x 8 with values 0 to 16; 1,400 for training, 397 for test.

Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998 (its test part).
CC BY 4.0.
"""

from typing import Annotated

import torch
from torch.nn.functional import interpolate

from esp_core.datasets.source import Part, Request, Source
from esp_core.datasets.splitting import stratified

TEST = 397


def read(request: Request, *, size: Annotated[int, ">= 8"] = 16) -> Source:
    """Grey images (1, size, size). The stratified split does not depend on the study's seed.

    size: pixels along a side, to which the images are resized bilinearly
    """
    from sklearn.datasets import load_digits

    values, targets = load_digits(return_X_y=True)
    grey = torch.from_numpy(values).view(-1, 1, 8, 8) * (255 / 16)
    images = interpolate(grey, size=(size, size), mode="bilinear", align_corners=False).round().to(torch.uint8)
    labels = torch.from_numpy(targets).long()
    halves = stratified(labels, TEST / len(labels), "digits", "split")
    train, test = (Part("scikit-learn's digits", images[some].numpy(), labels[some].numpy()) for some in halves)
    return Source(tuple("0123456789"), train, test, {"from": "sklearn.datasets.load_digits"})
