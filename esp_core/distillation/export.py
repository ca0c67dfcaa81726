"""Condensed sets as files that any other program reads: PNGs in one folder, an ImageFolder tree, one .npz, or one .pt."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from esp_core.datasets.folders import folder_names
from esp_core.distillation.condensed import load_condensed
from esp_core.runtime.errors import UserError
from esp_core.runtime.files import replacing


def export(path: Path, folder: Path, form: str) -> str:
    """Write the condensed set at `path` into `folder`; returns one line that says what lies there.

    "imagefolder" is folder/<class>/<number>.png, "png" is folder/<number>-<class>.png, with classes as `folder_names` writes them;
    "npz" is folder/<name>.npz with images uint8 (n, H, W, C) and labels int64 (n,), or soft ones float32 (n, K). Eight bits a channel:
    values outside [0, 1] as the nearest that can be shown. "pt" is folder/<name>.pt as the code of DC, DSA and DM saves sets,
    {"data": [[images, labels]]}, with images float32 (n, C, H, W), normalised, all their bits kept. Raises UserError where the set is
    damaged, or `folder` holds something.
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
