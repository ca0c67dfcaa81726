"""A network of the user's: it is found without importing it, may import torchvision, and what is wrong with it is one line."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from esp_core import networks
from esp_core.networks import trial
from esp_core.runtime.errors import UserError
from esp_core.study import declarations

ROOT = Path(__file__).resolve().parents[2]
SOURCE = """
raise_at_import = None
import torch
from torch import nn
from torch.nn import Identity as same


def resnet(channels, size, classes):
    from torchvision.models import resnet18

    return resnet18(num_classes=classes)


def plain(channels, size, classes):
    return nn.Sequential(nn.Conv2d(channels, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, classes))


class Good(nn.Module):
    def __init__(self, channels, size, classes, norm=None, outputs=None):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(channels, 4, 3), *([norm] if norm else []), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classifier = nn.Linear(4, outputs or classes)

    def features(self, images):
        return self.body(images)

    def forward(self, images):
        return self.classifier(self.features(images))


def batch(channels, size, classes):
    return Good(channels, size, classes, nn.BatchNorm2d(4))


def single(channels, size, classes):
    network = Good(channels, size, classes)
    network.body.append(nn.BatchNorm1d(4, track_running_stats=False))
    return network


def seven(channels, size, classes):
    return Good(channels, size, classes, outputs=7)


def nothing(channels, size, classes):
    pass


def fails(channels, size, classes):
    raise ValueError("two\\nlines")
"""
SHAPE = {"channels": 3, "size": 16, "classes": 10}


@pytest.fixture
def mine(tmp_path, monkeypatch):
    for name, text in {"own_nets": SOURCE, "own_broken": "def net(:", "own_exits": "import no_such_package\n\ndef net(): ...\n"}.items():
        (tmp_path / f"{name}.py").write_text(text)
    (tmp_path / "own_package").mkdir()
    (tmp_path / "own_package/inner.py").write_text("from math import *\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("own_")]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("own_nets:plain", ""),
        ("own_nets:same", ""),  # imported there
        ("own_package.inner:anything", ""),  # perhaps from math
        ("torch.nn:Module", ""),
        ("own_nets:nope", r"defines no nope; name a function of it$"),
        ("own_nots:plain", r"^no module own_nots in "),
        ("own_package.outer:net", r"^no module own_package\.outer in "),
        ("own_nets.deeper:net", r"^no module own_nets\.deeper in "),
        ("own_broken:net", r"own_broken\.py is not Python that can be read"),
        ("../../tmp/x:net", "^is no import path; write package.module:factory"),
        ("own_nets:", "^is no import path"),
        (":net", "^is no import path"),
        ("own_nets:a:b", "^is no import path"),
    ],
)
def test_a_factory_is_looked_for_without_importing_its_module(path, why, mine):
    module, _, factory = path.partition(":")
    found = declarations.unimportable(module, factory)
    assert re.search(why, found) if why else found == ""
    assert not any(name.startswith("own_") for name in sys.modules)


def test_a_factory_that_is_missing_is_told_at_the_plan(mine):
    config = {"study": "a", "datasets": {"digits": {"ipc": [1]}}, "methods": {"dm": {}}, "networks": ["own_nets:nope"]}
    (mine / "study.yaml").write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "esp_core", "study", "study.yaml"]
    done = subprocess.run(command, cwd=mine, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: networks.own_nets:nope: own_nets:nope: ") and done.stderr.count("\n") == 1


def test_a_factory_may_import_torchvision(mine):
    program = (
        "import torch\nfrom esp_core.networks import build\nprint(*build('own_nets:resnet', 3, 16, 10)(torch.zeros(2, 3, 16, 16)).shape)"
    )
    env = {"PYTHONPATH": f"{ROOT}:{mine}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", program], cwd=mine, env=env, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["2", "10"], done.stderr


@pytest.mark.parametrize(
    ("settings", "teaches", "told"),
    [
        ({"name": "own_nets:Good"}, True, ""),
        ({"name": "own_nets:plain"}, False, ""),
        ({"name": "own_nets:batch"}, False, ""),
        ({"name": "own_nets:plain"}, True, r"has no features\(images\), which distillation needs; see config/README.md"),
        ({"name": "own_nets:batch"}, True, "it keeps running statistics, which a network that teaches must not have"),
        ({"name": "own_nets:single"}, True, "fails on 1 image of 3 x 16 x 16: ValueError: Expected more than 1 value per channel"),
        ({"name": "own_nets:seven"}, False, r"gives \(2, 7\) for 2 images of 10 classes; give \(2, 10\)"),
        ({"name": "own_nets:nothing"}, False, "its factory gives NoneType; let it return a torch.nn.Module"),
        ({"name": "own_nets:fails"}, False, "cannot be built for 3 x 16 x 16 images: ValueError: two lines; correct"),
        ({"name": "own_nets:nope"}, False, "cannot be imported: AttributeError"),
        ({"name": "own_broken:net"}, False, "cannot be imported: SyntaxError"),
        ({"name": "own_exits:net"}, False, "cannot be imported: ModuleNotFoundError: No module named 'no_such_package'"),
        ({"name": "own_nets:Good", "depth": 1}, False, "got an unexpected keyword argument 'depth'"),
        ({"name": "convnet3", "width": 0}, True, "width: 0 is not allowed; allowed: at least 1"),
        ({"name": "convnet3", "depth": 5}, True, "fails on 2 images of 3 x 16 x 16: RuntimeError"),
        ({"name": "convnet3", "width": "8"}, True, "width: '8' is not a whole number"),
        ({"name": "resnet10", "width": 2}, True, "network resnet10: it keeps running statistics"),
        ({"name": "resnet10", "width": 2, "norm": "instance"}, True, ""),
    ],
)
@pytest.mark.filterwarnings("ignore:Initializing zero-element")
def test_a_trial_tells_in_one_line_what_is_wrong(settings, teaches, told, mine):
    state = torch.get_rng_state()
    needs = trial.TEACHES if teaches else ()
    if told:
        with pytest.raises(UserError, match=told) as error:
            trial.check(settings, **SHAPE, needs=needs)
        assert str(error.value).startswith(f"network {settings['name']}: ") and "\n" not in str(error.value)
    else:
        trial.check(settings, **SHAPE, needs=needs)
    assert torch.equal(torch.get_rng_state(), state), "a trial draws nothing from torch's own generator"


def test_a_lack_of_memory_stays_what_it_is():
    with pytest.raises(torch.OutOfMemoryError), networks.told("own", "fails"):
        raise torch.OutOfMemoryError("full")
