"""Condensed sets: what goes in comes out; what is no condensed set is refused in one line; exports hold the images."""

import numpy as np
import pytest
import torch
from PIL import Image
from small import CLASSES, LATENT, SIZE

from esp_core import load_condensed, parametrisations
from esp_core.condensed import save_condensed
from esp_core.errors import UserError
from esp_core.export import export
from esp_core.parametrisations import Task

TASK = Task(CLASSES, 2, 1, SIZE, torch.tensor([0.4]), torch.tensor([0.3]))


@pytest.fixture(params=["pixels", "latent"])
def stored(request, tmp_path):
    settings = LATENT if request.param == "latent" else {"kind": "pixels"}
    synthetic = parametrisations.build(TASK, **settings)
    synthetic.initialise(torch.Generator().manual_seed(0), None)
    path = tmp_path / "set.safetensors"
    save_condensed(path, synthetic, settings, ("a", "b/c", "d"), {"seconds": 1.5})
    return path, synthetic


def test_round_trip(stored):
    path, synthetic = stored
    data = load_condensed(path)
    units = torch.arange(synthetic.units)
    torch.testing.assert_close(data.normalise(data.images), synthetic.decode(units).detach(), rtol=1e-5, atol=1e-5)
    assert data.labels.tolist() == synthetic.labels(units).tolist()
    assert data.images.dtype == torch.float32 and 0 <= data.images.min() and data.images.max() <= 1
    assert data.metadata["seconds"] == 1.5 and data.metadata["budget"] == CLASSES * 2 * SIZE**2 >= data.metadata["budget_used"]


def test_damage_is_one_line(stored, tmp_path):
    path, _ = stored
    content = path.read_bytes()
    for name, damaged in {"cut": content[: len(content) // 2], "empty": b"", "text": b"hello" * 50}.items():
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(UserError, match=f"{name}: damaged or not a condensed set"):
            load_condensed(tmp_path / name)
    with pytest.raises(UserError, match="no such file"):
        load_condensed(tmp_path / "none")


def test_export_holds_the_images(stored, tmp_path):
    path, _ = stored
    data = load_condensed(path)
    export(path, tmp_path / "npz", "npz")
    arrays = np.load(tmp_path / "npz" / "set.npz")
    assert abs(arrays["images"][..., 0] / 255 - data.images[:, 0].numpy()).max() <= 0.5 / 255 + 1e-6
    assert arrays["labels"].tolist() == data.labels.tolist()
    export(path, tmp_path / "tree", "imagefolder")
    files = sorted((tmp_path / "tree" / "1-b_c").iterdir())
    assert len(files) == int((data.labels == 1).sum())
    first = int((data.labels == 1).nonzero()[0])
    assert (np.array(Image.open(files[0])) == arrays["images"][first, ..., 0]).all()
    with pytest.raises(UserError, match="not empty"):
        export(path, tmp_path / "tree", "png")
