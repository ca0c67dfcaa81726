"""Condensed sets as files that any other program reads: PNGs in one folder, an ImageFolder tree, or one .npz."""

from pathlib import Path

import numpy as np
from PIL import Image

from esp_core.condensed import Condensed, load_condensed
from esp_core.errors import UserError
from esp_core.files import replacing


def export(path: Path, folder: Path, form: str) -> str:
    """Write the condensed set at `path` into `folder`; returns one line that says what lies there.

    "imagefolder" is folder/<class>/<number>.png, "png" is folder/<number>-<class>.png, "npz" is folder/<name>.npz with
    images uint8 (n, H, W, C) and labels int64 (n,). Eight bits a channel, values outside [0, 1] as the nearest that can be shown.
    """
    data = load_condensed(path)
    pixels = (data.images.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    if form == "npz":
        target = folder / f"{path.stem}.npz"
        with replacing(target) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, images=pixels, labels=data.labels.numpy(), classes=np.array(data.classes))
        return f"{len(pixels)} images in {target}"
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder}: not empty; export into a new folder")
    for i, (image, name) in enumerate(zip(pixels, _names(data, form), strict=True)):
        target = folder / name.format(number=f"{i:05}")
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).save(target)
    return f"{len(pixels)} images in {folder}"


def _names(data: Condensed, form: str) -> list[str]:
    safe = ["".join(c if c.isalnum() or c in "-_" else "_" for c in name) for name in data.classes]
    pattern = "{name}/{{number}}.png" if form == "imagefolder" else "{{number}}-{name}.png"
    return [pattern.format(name=safe[label]) for label in data.labels.tolist()]
