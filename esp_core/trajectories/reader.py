"""Reading segments of expert trajectories onto a device."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from esp_core.runtime.errors import UserError
from esp_core.trajectories import codec, manifest
from esp_core.trajectories.seal import REBUILD
from esp_core.trajectories.shard import Shard
from esp_core.trajectories.store import groups

HOLD_SHARE = 0.5  # of the free device memory, what the store may take to be held there

Request = tuple[int, int, int]  # expert, start, length


class Trajectories:
    """The experts of one manifest. `len` is their number.

    On CUDA the whole store is held in device memory where it takes less than half of what is free (`hold` decides otherwise);
    elsewhere a segment is read from its file, which the system's page cache holds.
    """

    def __init__(self, path: str | Path, device: str | torch.device = "cpu", hold: bool | None = None):
        """Raises UserError for a missing or foreign manifest and for a shard that is missing, truncated or of another study."""
        self.path = path = Path(path)
        self.manifest = manifest.load(path)
        self.device = torch.device(device)
        self.layout = [(str(name), tuple(shape)) for name, shape in self.manifest["layout"]]
        self.parameters: int = self.manifest["parameters"]
        self.snapshots: int = self.manifest["snapshots"]
        self._groups = groups(self.manifest["layout"])
        self._shards = [self._open(path.parent / entry["file"], entry) for entry in self.manifest["shards"]]
        self._rows = [(shard, row) for shard in self._shards for row in range(len(shard))]
        self._held = self._hold() if (self._fits() if hold is None else hold) else None

    def __len__(self) -> int:
        return len(self._rows)

    def check(self, spec: dict[str, Any], data: str) -> None:
        """Raise UserError where these are not the experts of the distillation `spec` on data of digest `data`."""
        manifest.check_use(self.path, self.manifest, spec, data)

    def segment(self, expert: int, start: int, length: int) -> Tensor:
        """Snapshots start .. start + length of an expert, (length + 1, P) float32 on the device. Raises IndexError outside."""
        if not 0 <= expert < len(self) or start < 0 or length < 0 or start + length >= self.snapshots:
            raise IndexError(
                f"expert {expert}, snapshots {start} to {start + length}: the store has {len(self)} experts of {self.snapshots} snapshots"
            )
        shard, row = self._rows[expert]
        wanted = codec.needed(start, length)
        columns = shard.read(row, wanted).to(self.device) if self._held is None else self._held[expert][wanted]
        return codec.decode(columns, length + 1, shard.scales[row], self._groups)

    def snapshot(self, expert: int, index: int) -> Tensor:
        """Snapshot `index` of an expert, (P,) float32 on the device."""
        return self.segment(expert, index, 0)[0]

    def segments(self, requests: Iterable[Request], ahead: int = 2) -> Iterator[Tensor]:
        """The segments of `requests` in order; while one is in use, the next `ahead` are being read on a thread."""
        waiting = iter(requests)
        with ThreadPoolExecutor(max_workers=1) as pool:
            pending: deque[Future[Tensor]] = deque(pool.submit(self.segment, *request) for request in islice(waiting, ahead))
            while pending:
                segment = pending.popleft().result()
                pending.extend(pool.submit(self.segment, *request) for request in islice(waiting, 1))
                yield segment

    def random(self, length: int, start_max: int, generator: torch.Generator) -> Iterator[Request]:
        """Without end: a random expert and a random start in [0, start_max], as a request for `segments`."""
        while True:
            expert, start = (int(torch.randint(n, (1,), generator=generator)) for n in (len(self), start_max + 1))
            yield expert, start, length

    def _open(self, path: Path, entry: dict[str, object]) -> Shard:
        shard = Shard(path)
        manifest.check_spec(shard, self.manifest["spec"])
        if shard.digest != entry["digest"] or path.stat().st_size != entry["bytes"]:
            raise UserError(f"{path}: not the shard that the manifest lists; {REBUILD}")
        if shard.layout != [(name, shape) for name, shape in self.manifest["layout"]] or shard.shape[1] != self.snapshots:
            raise UserError(f"{path}: its parameters or snapshots are not those that the manifest lists; {REBUILD}")
        return shard

    def _fits(self) -> bool:
        if self.device.type != "cuda":
            return False
        free, _ = torch.cuda.mem_get_info(self.device)
        return 2 * len(self) * self.snapshots * self.parameters < HOLD_SHARE * free

    def _hold(self) -> list[Tensor]:
        return [shard.read(row, range(self.snapshots)).to(self.device) for shard, row in self._rows]
