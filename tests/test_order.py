"""The same numbers twice on a GPU: nothing runs that torch lists as adding up in no fixed order there, and two runs give the same bits."""

from dataclasses import replace

import pytest
import torch
from small import Experts, dataset, spec
from torch.utils._python_dispatch import TorchDispatchMode

from esp_core import networks
from esp_core.augment import dsa
from esp_core.distillation.outer_loop import Distillation
from esp_core.runtime import seeds
from esp_core.study import methods
from esp_core.training import epoch, protocol
from esp_core.training.epoch import Images

# What raises on CUDA under torch.use_deterministic_algorithms(True), by its documentation, as autograd calls it.
UNORDERED = {
    *(f"grid_sampler_{d}d_backward" for d in (2, 3)),
    *(f"upsample_{kind}_backward" for kind in ("linear1d", "bilinear2d", "bicubic2d", "trilinear3d")),
    *("_adaptive_avg_pool2d_backward", "_adaptive_avg_pool3d_backward", "adaptive_max_pool2d_backward", "avg_pool3d_backward"),
    *("reflection_pad1d_backward", "reflection_pad2d_backward", "max_unpool2d", "fractional_max_pool2d_backward"),
    *("nll_loss2d_forward", "_ctc_loss_backward", "put_", "histc", "median", "scatter_reduce"),
}
FLOATS_ONLY = {"cumsum", "bincount"}  # the latter with weights
ALL = "+".join(dsa.OPERATIONS)
SHORT = {"teacher": {"length": 2, "start_max": 2}}  # as short as the made-up experts
CHANGES = {
    **{name: {"objectives": {"trajectory": {"steps": 3}}, **SHORT} for name in ("mtt", "tesla")},
    **dict.fromkeys(("esp", "esp_proj", "esp_dm", "esp_signed"), SHORT),
    "idc": {"teacher": {"images": 32, "batch": 8}},
    "cafe_dsa": {"teacher": {"query": 4}},
    "kip": {"teacher": {"count": 2}},
}
LATENT = {"parametrisation": {"decoders": 2, "code_channels": 1, "width": 2, "upsamplings": 1}}
METHODS = [name for name in methods.names() if name not in ("random", "herding")]  # which compute nothing
cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")


class Unordered(TorchDispatchMode):
    """Collects the names of the unordered operations that are called."""

    def __init__(self):
        super().__init__()
        self.found, self.seen = set(), 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name, self.seen = func._schema.name.partition("::")[2], self.seen + 1
        floats = any(isinstance(arg, torch.Tensor) and arg.is_floating_point() for arg in args)
        if name in UNORDERED or (name in FLOATS_ONLY and floats):
            self.found.add(name)
        return func(*args, **(kwargs or {}))


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    monkeypatch.setattr(dsa, "ORDERED", ())


def distilled(method, device="cpu", micro_batch=4):
    """The stored numbers after three outer steps under every augmentation."""
    changes = methods.merge(CHANGES.get(method, {}), LATENT if method == "kfs" or method.startswith("esp") else {})
    recipe = methods.recipe(method, "digits", 1, custom={method: changes}, flip=False)
    recipe |= {"iterations": 3, "real_batch": 8, "micro_batch": micro_batch, "compile": "never", "precision": "float32", "augment": ALL}
    job = Distillation({**spec("dm"), "recipe": recipe}, there(dataset(per_class=48), device), OnDevice(device), torch.device(device))
    return job.run(lambda *_: None).tensors


class OnDevice(Experts):
    def __init__(self, device):
        super().__init__()
        self.weights = self.weights.to(device)


def there(data, device):
    """The data as `load` puts them onto a device."""
    train, test = (replace(split, images=split.images.to(device), labels=split.labels.to(device)) for split in (data.train, data.test))
    return replace(data, train=train, test=test, normalisation=data.normalisation.to(device))


def trained(name, settings, device="cpu"):
    """The weights of a network that is trained two epochs as evaluations are, and its accuracy."""
    data = there(dataset(), device)
    network = networks.build(name, channels=1, size=8, classes=3, seed=0, **settings).to(device)
    numbers = {"name": "own", "epochs": 2, "lr": 0.01, "momentum": 0.9, "weight_decay": 0.0005, "batch": 12, "gamma": 0.1, "cutmix": 0.5}
    torch.manual_seed(0)
    train, test = (Images(split.images, split.labels, data) for split in (data.train, data.test))
    protocol.train(network, train, protocol.Protocol.from_spec({**numbers, "augment": ALL}), seeds.generator("a"))
    return network.state_dict(), epoch.accuracy(network, test)


NETWORKS = {
    "convnet3": {"width": 4, "depth": 2},
    "resnet10": {},
    "densenet121": {"growth": 4, "blocks": [1, 1, 1, 1]},
    "efficientnetv2s": {"width": 0.25, "depth": 0.25},
}


@pytest.mark.usefixtures("as_on_a_gpu")
@pytest.mark.parametrize("method", METHODS)
def test_no_method_adds_up_in_no_fixed_order(method):
    with Unordered() as watched:
        distilled(method)
    assert watched.found == set() and watched.seen > 100


@pytest.mark.usefixtures("as_on_a_gpu")
@pytest.mark.parametrize("network", NETWORKS)
def test_no_training_adds_up_in_no_fixed_order(network):
    with Unordered() as watched:
        trained(network, NETWORKS[network])
    assert watched.found == set() and watched.seen > 100


def test_torchs_own_gradient_of_a_rotation_is_noticed():
    with Unordered() as watched:
        distilled("dm")
    assert watched.found == {"grid_sampler_2d_backward"}


@cuda
@pytest.mark.parametrize("method", METHODS)
def test_a_method_gives_the_same_bits_twice(method, deterministic):
    first, second = (distilled(method, "cuda") for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


@cuda
@pytest.mark.parametrize("network", NETWORKS)
def test_a_training_gives_the_same_bits_twice(network, deterministic):
    (first, a), (second, b) = (trained(network, NETWORKS[network], "cuda") for _ in range(2))
    assert a == b and all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture
def deterministic(monkeypatch):
    """Torch refuses what has no order."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)
