"""What a job will cost: counts against torch, and sums against sums done by hand."""

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from toy_device import DIGITS, FORWARD, KEPT, OPERATIONS, PARAMETERS, PIXELS, SMALL, VALUES, cost, on

from esp_core import networks, parametrisations
from esp_core.parametrisations import Task
from esp_core.planning import costing, counting, plan, rates
from esp_core.runtime.errors import UserError
from esp_core.study import kinds
from esp_core.study.config import Study


@pytest.fixture
def study():
    return Study(SMALL)


IMAGES = counting.Shape(classes=10, channels=3, size=32, train=100, test=10)


@pytest.mark.parametrize(("size", "channels", "width", "depth"), [(16, 1, 8, 3), (64, 3, 128, 4)])
def test_convnet3_is_counted_as_by_hand(size, channels, width, depth):
    found = counting.network({"name": "convnet3", "width": width, "depth": depth}, replace(IMAGES, channels=channels, size=size))
    sides = [size // 2**i for i in range(depth + 1)]
    inputs = [channels] + [width] * (depth - 1)
    features = width * sides[-1] ** 2
    assert found.operations == sum(18 * i * width * side**2 for i, side in zip(inputs, sides[:-1], strict=True)) + 20 * features
    norms = 2 * width * depth  # means and deviations
    assert found.activations == sum(width * (3 * side**2 + (side // 2) ** 2) for side in sides[:-1]) + norms + 10
    assert found.parameters == sum(9 * i * width + 3 * width for i in inputs) + 10 * features + 10
    assert found.calls == 4 * depth + 1
    # Each convolution's input and output, each ReLU's output, and what the classifier sees.
    assert found.kept == 4 * (sum((i + 2 * width) * side**2 for i, side in zip(inputs, sides[:-1], strict=True)) + norms + features)


@pytest.mark.parametrize("name", ["resnet10", "tests.small:dropping"])
def test_a_network_is_counted_as_it_runs(name):
    found = counting.network({"name": name}, IMAGES)
    network = networks.build(name, channels=3, size=32, classes=10, seed=0).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, 32, 32))
    assert found.operations == counter.get_total_flops() > 0
    assert found.parameters == sum(p.numel() for p in network.parameters()) and found.calls > 0 and found.kept > 0


def test_a_network_that_fails_is_named():
    with pytest.raises(UserError, match=r"^network convnet3: fails on an image of 3 x 32 x 32: .*; correct its settings or its code$"):
        counting.network({"name": "convnet3", "depth": 6}, IMAGES)


@pytest.mark.parametrize(("ipc", "size"), [(1, 32), (10, 16)])
@pytest.mark.parametrize(
    "settings",
    [
        {"kind": "pixels"},
        {"kind": "formation", "factor": 2},
        {"kind": "latent", "decoders": 3, "code_channels": 2, "width": 2, "upsamplings": 3},
    ],
)
def test_synthetic_images_and_their_decoding_are_those_of_the_parametrisation(settings, ipc, size):
    found, decoding = counting.synthetic(settings, ipc, replace(IMAGES, size=size))
    made = parametrisations.build(Task(10, ipc, 3, size), **settings)
    with FlopCounterMode(display=False) as counter:
        made.decode(torch.arange(made.units))
    assert (found, decoding.operations * made.images) == (made.images, pytest.approx(counter.get_total_flops()))
    assert decoding.activations >= 3 * size**2 and decoding.parameters == made.used


def test_experts_cost_epochs_of_images_steps_and_a_test_each(study):
    one = 2 * 2 * 0.01 + (2 * 1400 * 3 + 397) * FORWARD
    found = [cost(study, "experts", "digits", shard) for shard in "01"]
    assert [c.seconds for c in found] == pytest.approx([3 + 2 + 3 * one, 3 + 2 + 2 * one])
    assert found[1].disk == pytest.approx(2 * (PARAMETERS * 3 * 2 + 2500) + 600)
    assert found[0].device and found[0].memory == pytest.approx(1e8 + 1797 * 256 + 2 * 700 * KEPT + 4 * PARAMETERS * 4 + PARAMETERS * 3 * 4)


def test_large_experts_are_compiled_and_threads_count_from_32_pixels_on():
    large = Study(
        {**SMALL, "datasets": {"cifar10": {"ipc": [1]}}, "distill_network": {"name": "convnet3"}, "experts": {"count": 1, "epochs": 50}}
    )
    net = counting.network({"name": "convnet3"}, IMAGES)
    steps, forward = 50 * 196 * 0.01, on().forward(net)
    fast = (50 * 3 * (49_920 / 4 + 80) + 10_000) * forward  # the odd batch of 80 and the test stay eager
    assert cost(large, "experts", "cifar10", "0", device_memory=0.0).seconds == pytest.approx(3 + 2 + 20 + steps + fast)
    slow = (50 * 3 * 50_000 + 10_000) * forward  # a GPU gains too little by it
    assert cost(large, "experts", "cifar10", "0").seconds == pytest.approx(3 + 2 + steps + slow)
    twice = rates.Device("toy", VALUES, threads=2)
    assert (twice.speed_up(32), twice.speed_up(16)) == (2.0, 1.0)


@pytest.mark.parametrize(
    ("network", "epochs", "gpu", "compiled", "tests"),
    [
        ("convnet3", 1000, True, 9216, False),  # 1.4e16 operations; in the odd batch too few, 3.4e14
        ("convnet3", 500, True, 0, False),
        ("convnet3", 10, False, 9440, True),
        ("resnet10", 10, False, 0, False),  # batch norm
    ],
)
def test_an_evaluation_is_compiled_where_the_engine_compiles_it(network, epochs, gpu, compiled, tests):
    """`compiled`: of the 9440 images of an epoch, in 36 batches of 256 and one of 224."""
    asked = {"study": "few", "datasets": {"cifar10": {"ipc": [10]}}, "methods": {"esp": {}}}
    study = Study({**asked, "networks": [network], "evaluation": {"epochs": epochs}})
    forward = on().forward(counting.network({"name": network}, IMAGES))
    epoch = 37 * 0.01 + 3 * (9440 - compiled + compiled / 4) * forward
    seconds = 3 + 2 + (20 if compiled else 0) + 5 * (epochs * epoch + 10_000 * forward / (4 if tests else 1))
    assert cost(study, "evaluate", "cifar10", "10", "esp", network, device_memory=1e9 * gpu).seconds == pytest.approx(seconds)


def test_an_evaluation_costs_each_seed_its_epochs_of_the_condensed_set(study):
    seed = 10 * 1 * 0.01 + (10 * 10 * 3 + 397) * FORWARD
    found = cost(study, "evaluate", "digits", "1", "dm", "convnet3")
    assert found.seconds == pytest.approx(3 + 2 + 3 * seed)
    assert found.disk == pytest.approx(870 * 3 / 5 + 600)
    full = 1 * 6 * 0.01 + (1 * 1400 * 3 + 397) * FORWARD  # 1400 images in batches of 256
    assert cost(study, "evaluate", "digits", "0", "full", "convnet3").seconds == pytest.approx(3 + 2 + 3 * full)


def test_a_distillation_costs_the_real_images_forward_and_the_synthetic_ones_by_objective(study):
    dm = cost(study, "distill", "digits", "1", "dm")
    assert dm.seconds == pytest.approx(3 + 2 + 4 * (2 * 0.1 + 160 * FORWARD + 10 * (3 * FORWARD + PIXELS)))
    assert dm.disk == pytest.approx(10 * 256 * 4 + 1500 + 600)
    assert cost(study, "distill", "digits", "1", "random").seconds == 3.0
    white = Study({**SMALL, "datasets": {"digits": SMALL["datasets"]["digits"] | {"whiten": "zca"}}})
    for job in (("prepare", "digits"), ("distill", "digits", "1", "dm")):
        assert cost(white, *job).disk - cost(study, *job).disk == pytest.approx(256 * 256 * 4)


def test_the_projection_loss_needs_no_real_images_but_a_second_derivative_and_an_inner_step(study):
    # Codes of 4x4 numbers; a decoder has 9 x 1 x 2 + 2 + 4 and 9 x 2 x 1 + 1 numbers, 43: (2560 - 86) // 160 = 15 codes a class.
    images = 15 * 10 * 2
    found, decoding = counting.synthetic(study.recipe("digits", 1, "esp_proj")["parametrisation"], 1, DIGITS)
    assert (found, decoding.operations) == (images, 2 * 9 * (1 * 2 * 64 + 2 * 1 * 256))
    step = 0.1 + 0.005 + images * (12 * on().forward(decoding) + (1 + 7 + 1) * FORWARD)
    assert cost(study, "distill", "digits", "1", "esp_proj").seconds == pytest.approx(3 + 2 + 4 * step)


@pytest.mark.parametrize(
    ("device_memory", "iterations", "changes", "compiled"),
    # A step is worth 160 real and 10 x 3 synthetic forward passes; compiling pays from 2e13 operations on, on a GPU from 20 times as many.
    [
        (0.0, 2e13 / 190 / OPERATIONS + 1, {}, True),
        (0.0, 2e13 / 190 / OPERATIONS - 1, {}, False),
        (1e9, 4e14 / 190 / OPERATIONS + 1, {}, True),
        (1e9, 4e14 / 190 / OPERATIONS - 1, {}, False),
        (0.0, 1e9, {"compile": "never"}, False),
        (0.0, 1e9, {"objectives": {"distribution": None, "gradient": {}}}, False),
    ],
)
def test_an_outer_step_is_compiled_where_that_pays(device_memory, iterations, changes, compiled):
    count = int(iterations)
    study = Study({**SMALL, "methods": {"dm": {"iterations": count, "real_batch": 16, **changes}}})
    found = cost(study, "distill", "digits", "1", "dm", device_memory=device_memory)
    real, synthetic = (3, 8) if "objectives" in changes else (1, 3)
    step = 2 * 0.1 + (160 * real + 10 * synthetic) * FORWARD + 10 * PIXELS
    assert found.seconds == pytest.approx(3 + 2 + (20 + count * step / 2.5 if compiled else count * step))


# docs/benchmarks.md, "On a GPU": CIFAR-10 at IPC 1, ConvNet-3 of width 128 unless another network is named.
CIFAR10 = {
    "study": "gpu",
    "datasets": {"cifar10": {"ipc": [1]}},
    "networks": ["convnet3", "resnet10"],
    "methods": {"esp": {}, "mtt": {}, "random": {}},
    "experts": {"count": 1, "epochs": 50},
    "evaluation": {"seeds": 1, "epochs": 1000},
}


def h100(*job, **methods):
    """Seconds of a job on an H100, less those that it takes to begin."""
    study = Study({**CIFAR10, "methods": {**CIFAR10["methods"], **methods}})
    device = rates.device("h100")
    return costing.cost(study, device, *job).seconds - device.values["start"] - device.values["first"]


def test_the_rates_of_an_h100_give_back_what_was_measured_on_one():
    eager = h100("distill", "cifar10", "1", "esp", esp={"iterations": 1, "real_batch": 256})
    compiled = h100("distill", "cifar10", "1", "esp", esp={"iterations": 100_000, "real_batch": 256})
    assert eager == pytest.approx(0.0626, rel=0.05) and compiled == pytest.approx(50 + 100_000 * 0.0319, rel=0.05)
    for steps, seconds in ((10, 0.0987), (50, 0.490)):
        objectives = {"trajectory": {"steps": steps}}
        found = h100("distill", "cifar10", "1", "mtt", mtt={"iterations": 100, "objectives": objectives}) / 100
        assert found == pytest.approx(seconds, rel=0.25)
    test = 10_000 * rates.device("h100").forward(counting.network({"name": "convnet3"}, IMAGES))
    images = 50 * 50_000 / (h100("experts", "cifar10", "0") - test)
    assert images == pytest.approx(54_800, rel=0.1)  # images/s of the same training in eager float32, on 800 images
    for method, network, seconds in (
        ("esp", "convnet3", 0.0165),
        ("random", "convnet3", 0.0030),
        ("esp", "resnet10", 0.0354),
        ("random", "resnet10", 0.0055),
    ):
        assert h100("evaluate", "cifar10", "1", method, network) / 1000 == pytest.approx(seconds, rel=0.15)


def test_trajectory_matching_costs_its_students_steps_and_keeps_their_graph():
    methods = {"mtt": {"iterations": 4, "teacher": {"start_max": 0}, "objectives": {"trajectory": {"steps": 6}}}}
    study = Study({**SMALL, "methods": methods})
    found = cost(study, "distill", "digits", "1", "mtt")
    step = 0.1 + 0.005 + 6 * (9 * 10 * FORWARD + 0.03) + 10 * PIXELS
    assert found.seconds == pytest.approx(3 + 2 + 4 * step)
    shorter = Study({**SMALL, "methods": {"mtt": {**methods["mtt"], "objectives": {"trajectory": {"steps": 3}}}}})
    more = found.memory - cost(shorter, "distill", "digits", "1", "mtt").memory
    assert more == pytest.approx(3 * 10 * KEPT * 3, rel=0.03)


def test_a_network_that_learns_from_real_images_costs_all_of_them():
    teacher = {"images": 1000, "batch": 64}
    few, many = (
        cost(
            Study({**SMALL, "methods": {"idc": {"iterations": 4, "teacher": {**teacher, **more}}}}), "distill", "digits", "1", "idc"
        ).seconds
        for more in ({"images": 64}, {})
    )
    # 16 batches instead of one; of more images than there are, all.
    assert many - few == pytest.approx(4 * (15 * 0.01 + 3 * 936 * FORWARD))
    all_of_them = Study({**SMALL, "methods": {"idc": {"iterations": 4, "teacher": {**teacher, "images": 10**6}}}})
    assert cost(all_of_them, "distill", "digits", "1", "idc").seconds - few == pytest.approx(4 * (21 * 0.01 + 3 * (1400 - 64) * FORWARD))


def test_the_synthetic_graph_never_takes_more_than_a_quarter_of_the_device(study):
    decoding = counting.synthetic(study.recipe("digits", 1, "esp_proj")["parametrisation"], 1, DIGITS)[1]
    small = cost(study, "distill", "digits", "1", "esp_proj", device_memory=1e6).memory
    large = cost(study, "distill", "digits", "1", "esp_proj", device_memory=1e12).memory
    assert large - small == pytest.approx(300 * (KEPT + decoding.kept) * 3 - 0.25e6)


def test_what_can_only_be_guessed_is_said(tmp_path):
    datasets = {"mine": {"kind": "imagefolder", "ipc": [1], "options": {"path": str(tmp_path), "size": 48}}}
    study = Study({**SMALL, "datasets": datasets, "networks": ["tests.small:dropping"], "methods": {"dm": {}}, "experts": {"count": 1}})
    rows, notes = plan.plan(study, "cpu", plan.Slots(2, 2, {}))
    assert notes == ["mine: taken as 12,000 images of 48x48, 10 classes"]
    assert rows[-1].jobs == len(list(study.jobs()))
    recipe = {"objectives": {"distribution": {}, "mine": {}}, "teacher": {"kind": "ours"}}
    assert list(costing._unfamiliar(recipe)) == [
        "objectives mine has no entry in esp_core/planning/rates.yaml: the default is used",
        "teachers ours has no entry in esp_core/planning/rates.yaml: the default is used",
    ]


def test_every_rate_has_its_unit_and_source_and_every_kind_its_factor():
    known = rates.rates()
    sections = [*(device["rates"] for device in known["devices"].values()), known["workflow"], known["disk"]]
    assert all({"value", "unit", "source"} == set(rate) for section in sections for rate in section.values())
    names = [set(device["rates"]) for device in known["devices"].values()]
    assert names.count(names[0]) == len(names) and names[0] == set(VALUES)
    assert all(set(device["estimated"]) < names[0] for device in known["devices"].values())
    for section, kind in (("objectives", "objectives"), ("teachers", "teacher")):
        assert set(kinds.names(kind)) <= set(known[section])
        assert all("source" in entry for entry in known[section].values())
