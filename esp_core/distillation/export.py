"""Condensed sets as files for other programs: PNGs in one folder, an ImageFolder tree, one .npz, or one .pt."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from esp_core.datasets.folders import folder_names
from esp_core.distillation.condensed import load_condensed
from esp_core.runtime.errors import UserError
from esp_core.runtime.files import replacing


def export(path: Path, folder: Path, form: str) -> str:
    """Write the condensed set at `path` into `folder`; return one line that says what was written.

    "imagefolder" writes folder/<class>/<number>.png and "png" folder/<number>-<class>.png, with class names from `folder_names`. "npz"
    writes folder/<name>.npz: images uint8 (n, H, W, C) and labels int64 (n,), or soft labels float32 (n, K). These three have 8 bits a
    channel and clip values to [0, 1]. "pt" writes folder/<name>.pt in the format of DC's, DSA's and DM's code,
    {"data": [[images, labels]]}, with normalised images float32 (n, C, H, W), not rounded. Raises UserError if the set is damaged, and for
    pictures if `folder` is not empty.
    """
    data = load_condensed(path)
    labels = data.labels if data.soft is None else data.soft
    if form == "pt":
        target = folder / f"{path.stem}.pt"
        with replacing(target) as temporary:
            torch.save({"data": [[data.normalise(data.images), labels]]}, temporary)
        return f"{len(labels)} images in {target}, {data.normalisation.space}"
    pixels = (data.images.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    if form == "npz":
        target = folder / f"{path.stem}.npz"
        with replacing(target) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, images=pixels, labels=labels.numpy(), classes=np.array(data.classes))
        return f"{len(pixels)} images in {target}"
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder}: not empty; export into a new folder")
    names = folder_names(data.classes)
    for i, (image, label) in enumerate(zip(pixels, data.labels.tolist(), strict=True)):
        target = folder / (f"{names[label]}/{i:05}.png" if form == "imagefolder" else f"{i:05}-{names[label]}.png")
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).save(target)
    return f"{len(pixels)} images in {folder}"
