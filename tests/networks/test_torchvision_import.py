"""Each case needs a fresh interpreter: an operator is declared once a process."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run(program):
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout.split()


def test_torchvision_can_be_imported_and_used():
    printed = run("""
from esp_core.networks import torchvision_import
torchvision_import.load()
torchvision_import.load()
import torch
from torchvision.models import densenet121
from torchvision.transforms import v2
from torchvision.utils import make_grid
print(*densenet121(num_classes=3).eval()(torch.zeros(1, 3, 32, 32)).shape)
print(*v2.Resize(4)(torch.zeros(3, 8, 8)).shape, *make_grid(torch.zeros(4, 3, 2, 2), nrow=2, padding=0).shape)
""")
    assert printed == ["1", "3", "3", "4", "4", "3", "4", "4"]


def test_declares_operators_only_where_the_compiled_ones_do_not_load():
    program = """
import torch
from esp_core.networks import torchvision_import
def {name}(path): {body}
torch.ops.load_library = {name}
torchvision_import.load()
print(len(torchvision_import._DECLARED), hasattr(torch.ops.torchvision, "nms"), hasattr(torch.ops.torchvision, "qnms"))
"""
    assert run(program.format(name="loads", body="pass")) == ["0", "False", "False"]
    assert run(program.format(name="fails", body="raise OSError('libtorch_cuda.so: cannot open')")) == ["1", "True", "True"]
