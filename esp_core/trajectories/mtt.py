"""Read experts from the files of MTT's code (Cazenavette et al., 2022, buffer.py) as shards of ours, and write such files.

`replay_buffer_<n>.pt` is a list of trajectories. A trajectory is a list of snapshots, the initialisation first; a snapshot is a list of
the parameters of a ConvNet in the order of torch's `parameters()`, as in ours. No code in such a file is run: it may hold only tensors.
"""

import math
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils import vector_to_parameters

from esp_core import networks
from esp_core.datasets.dataset import Dataset, load
from esp_core.datasets.official import sha256
from esp_core.networks.flat import FlatNetwork
from esp_core.runtime import devices, files
from esp_core.runtime.errors import UserError
from esp_core.runtime.progress import Progress
from esp_core.training.epoch import Images, accuracy
from esp_core.trajectories import manifest, store
from esp_core.trajectories.reader import Trajectories

NAME = "replay_buffer_{}.pt"
BLOCK = 4  # parameters of a ConvNet block: weight and bias of its convolution and of its norm


def read(folder: Path, data_path: Path, out: Path, *, whitened: bool = False, device: str = "auto") -> str:
    """Write the buffers in `folder` to `out`, a shard for each, with a manifest.json; return a line that says what was written.

    A buffer does not say what it was trained on. So each expert is tested on the prepared dataset's test images, and the user says by
    `whitened` whether its images were whitened. Raises UserError for other content, or if the networks are not ConvNets for such images.
    """
    buffers = sorted(folder.glob(NAME.format("*")), key=lambda path: (len(path.name), path.name))
    if not buffers:
        raise UserError(f"{folder}: holds no {NAME.format('*')}; give the folder in which MTT's buffer.py saved")
    data = load(data_path, devices.pick(device))
    _check_space(data, whitened)
    shards, first, spec = [], 0, dict[str, Any]()
    for number, path in enumerate(buffers):
        trajectories = _opened(path)
        if not number:
            network = _network(trajectories[0][0], path, data)
            spec = {
                "dataset": data.name,
                "network": network,
                "keep": len(trajectories[0]),
                "imported": {"from": "mtt", "whitened": whitened},
            }
        shards.append(out / f"shard-{number:03}.h5")
        _write(shards[-1], path, trajectories, spec | {"first": first, "count": len(trajectories)}, data)
        first += len(trajectories)
    made = manifest.build(out / "manifest.json", spec | {"total": first, "shard": len(trajectories)}, shards)
    found = [expert["accuracy"] for expert in made["experts"]]
    return f"{out / 'manifest.json'}: {first} experts of {spec['keep']} snapshots, accuracy {min(found):.1f} to {max(found):.1f} %"


def write(path: Path, folder: Path) -> str:
    """Write the experts of the manifest at `path` to `folder`, a buffer for each shard; return a line that says so. Raises UserError."""
    experts = Trajectories(path)
    if [*folder.glob(NAME.format("*"))]:
        raise UserError(f"{folder}: holds buffers already; give another folder")
    sizes = [math.prod(shape) for _, shape in experts.layout]
    for number, shard in enumerate(experts.manifest["shards"]):
        trajectories = [
            [
                [part.reshape(shape).clone() for part, (_, shape) in zip(snapshot.split(sizes), experts.layout, strict=True)]
                for snapshot in experts.segment(expert, 0, experts.snapshots - 1)
            ]
            for expert in range(shard["first"], shard["first"] + shard["count"])
        ]
        with files.replacing(folder / NAME.format(number)) as temporary:
            torch.save(trajectories, temporary)
    return f"{folder}: {len(experts)} experts of {experts.snapshots} snapshots in {number + 1} buffers"


def _check_space(data: Dataset, whitened: bool) -> None:
    space = data.normalisation.space
    if whitened and space != "zca":
        raise UserError(f"--whitened: {data.name} is not whitened; prepare it with whiten: zca, or leave --whitened out")
    if not whitened and space == "zca":
        way = "give it if the experts were trained on whitened images, else prepare the data without whiten"
        raise UserError(f"--whitened: missing, but {data.name} is whitened; {way}")


def _opened(path: Path) -> list[list[list[Tensor]]]:
    """The trajectories of a buffer."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, AttributeError, RuntimeError, ValueError, KeyError, EOFError, OSError) as error:
        raise UserError(f"{path}: damaged, or holds more than tensors, and is not opened ({type(error).__name__})") from None
    if not _nested(content, 3):
        raise UserError(f"{path}: no list of trajectories of snapshots of parameters; give what MTT's buffer.py saved")
    return cast(list[list[list[Tensor]]], content)


def _nested(value: Any, depth: int) -> bool:
    """Whether `value` is a tensor inside `depth` nested lists."""
    return isinstance(value, list) and bool(value) and all(_nested(one, depth - 1) for one in value) if depth else isinstance(value, Tensor)


def _network(snapshot: list[Tensor], path: Path, data: Dataset) -> dict[str, Any]:
    """Name and settings of the ConvNet whose parameters are `snapshot`."""
    if len(snapshot) % BLOCK != 2 or snapshot[0].ndim != 4:
        raise UserError(f"{path}: {len(snapshot)} parameters, the first {tuple(snapshot[0].shape)}: no ConvNet with instance norm")
    return {"name": "convnet3", "width": len(snapshot[0]), "depth": len(snapshot) // BLOCK}


def _write(out: Path, path: Path, trajectories: list[list[list[Tensor]]], spec: dict[str, Any], data: Dataset) -> None:
    """Write the trajectories of the buffer at `path` as the shard `out`."""
    channels, size, _ = data.shape
    place = data.train.images.device
    network = networks.build(**spec["network"], channels=channels, size=size, classes=len(data.classes), seed=0).to(place)
    layout, test = FlatNetwork(network).layout, Images(data.test.images, data.test.labels, data)

    def experts() -> Iterator[store.Expert]:
        progress = Progress(str(path), len(trajectories), unit="experts")
        for number, trajectory in enumerate(trajectories):
            snapshots = _stacked(trajectory, layout, spec["keep"], f"{path}: trajectory {number}", data)
            vector_to_parameters(torch.from_numpy(snapshots[-1]).to(place), network.parameters())
            unknown = [math.nan] * (len(snapshots) - 1)
            yield store.Expert(*store.encode(snapshots), accuracy(network, test), unknown, 0.0)
            progress.step()

    engine = {"file": path.name, "sha256": sha256(path), **devices.describe(place)}
    facts = {"spec": spec, "code": "", "data": data.digest, "layout": layout, "engine": engine}
    store.write(out, facts, experts(), len(trajectories), spec["keep"], spec["keep"] - 1)


def _stacked(trajectory: list[list[Tensor]], layout: Any, keep: int, where: str, data: Dataset) -> NDArray[np.float32]:
    """A trajectory as snapshots (S, P). Raises UserError if it does not have `keep` snapshots of networks of `layout`."""
    if len(trajectory) != keep:
        raise UserError(f"{where}: {len(trajectory)} snapshots, but the first one has {keep}; import alike trajectories only")
    for snapshot in trajectory:
        shapes = [tuple(p.shape) for p in snapshot]
        if len(shapes) != len(layout):
            raise UserError(
                f"{where}: {len(shapes)} parameters, but a ConvNet for {data.name} has {len(layout)}; import alike networks only"
            )
        for (name, shape), found in zip(layout, shapes, strict=True):
            if shape != found:
                raise UserError(f"{where}: {name} is {found}, but {shape} in a ConvNet for {data.name}; give the data of these experts")
    snapshots = torch.stack([torch.cat([p.detach().float().reshape(-1) for p in snapshot]) for snapshot in trajectory]).numpy()
    if not np.isfinite(snapshots).all():
        raise UserError(f"{where}: weights that are not finite; leave its buffer out")
    return snapshots
