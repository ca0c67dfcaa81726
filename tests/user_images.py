"""Images and labels as a user has them: arrays, or a torch Dataset."""

import torch
from small import dataset


def arrays():
    data = dataset(per_class=30)
    return data, data.train.images.numpy(), data.train.labels.numpy()


class Pairs(torch.utils.data.Dataset):
    """Images (n, C, H, W) uint8 as `form` of each."""

    classes = ("a", "b", "c")

    def __init__(self, images, labels, form):
        self.images, self.labels, self.form = images, labels, form

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return self.form(self.images[index]), self.labels[index]
