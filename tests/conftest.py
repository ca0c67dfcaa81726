"""One thread a test, and the real image files for the tests that need them."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported, and for the commands that tests start

MAKER = Path(__file__).resolve().parents[2] / "shared" / "data" / "real_data.py"  # rebuilds the official files without their hosts
REAL = {"cifar10": "cifar-10-batches-bin", "cifar100": "cifar-100-binary", "tinyimagenet": "tiny-imagenet-200"}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Small tensors are slower on several threads, and sums differ with their number."""
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """A folder that holds what is at hand of the folders REAL, in the official layout (tiny-imagenet-200: a sample).

    It is ESP_REAL_DATA, or made once by `../shared/data/real_data.py`, where that is at hand, in the folder for temporary files.
    """
    if named := os.environ.get("ESP_REAL_DATA"):
        if not Path(named).is_dir():
            pytest.fail(f"ESP_REAL_DATA={named}: no such folder")
        return Path(named)
    if not MAKER.is_file():
        pytest.skip(f"no real images: set ESP_REAL_DATA to a folder that holds {', '.join(REAL.values())}")
    folder = Path(tempfile.gettempdir()) / "esp-real-data"
    for name, made in REAL.items():
        if not (folder / made).is_dir():
            _make(name, folder / made)
    return folder


def _make(name: str, made: Path) -> None:
    """Build one dataset and move it in whole; one that cannot be had is left out."""
    made.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=made.parent) as temporary:
        done = subprocess.run([sys.executable, MAKER, temporary, name], timeout=240, capture_output=True)
        if done.returncode == 0 and not made.exists():
            Path(temporary, made.name).rename(made)


@pytest.fixture
def real(real_data: Path) -> Callable[[str], Path]:
    """The folder of real images, for a test that needs its folder `name`; skips the test where that is not there."""

    def find(name: str) -> Path:
        if not (real_data / name).is_dir():
            pytest.skip(f"no real images: {real_data / name} is not there and could not be made")
        return real_data

    return find


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[Callable[..., object]]:
    """Compilation without the C++ that torch would write, which takes half a minute; what was compiled, in order."""
    import torch

    compile_for_real, made = torch.compile, []

    def stand_in(code: Callable[..., object], **options: bool) -> object:
        made.append(code)
        return compile_for_real(code, backend="aot_eager", **options)

    monkeypatch.setattr(torch, "compile", stand_in)
    return made
