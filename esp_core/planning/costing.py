"""What a job costs, from its spec: seconds, bytes on disk and peak bytes on the device. Light: no torch."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from esp_core.datasets import catalogue
from esp_core.planning.rates import Device, Network, Shape, decoder, network, rates, shape, synthetic_images
from esp_core.study.config import Study
from esp_core.study.specs import Spec, spec

FLOAT, INT16 = 4, 2
TRAINING = 3  # forward passes that forward and backward take
COMPILING_PAYS, ON_A_GPU = 2e13, 70  # operations, as in compiling.py and, times as many for outer steps on a GPU, in walking.py
EAGER = {"features", "gradient", "kernel", "trajectory"}  # objectives whose steps are never compiled
SHARE, DOUBLE_BACKWARD = 0.25, 3  # as in memory.py


@dataclass(frozen=True)
class Cost:
    """Of one job; `device` says whether it computes there, otherwise it is the processor's. `notes`: what could only be guessed."""

    seconds: float
    disk: float
    memory: float = 0.0
    device: bool = False
    notes: tuple[str, ...] = ()


def cost(study: Study, on: Device, stage: str, *arguments: str) -> Cost:
    """Of the job that a line of `study.jobs()` names."""
    return _STAGES.get(stage, _other)(study, on, spec(study, stage, *arguments))


def _disk(name: str) -> float:
    return float(rates()["disk"][name]["value"])


def _light(study: Study, on: Device, job: Spec) -> Cost:
    return Cost(on.values["light"], _disk("table") + _disk("job"))


def _download(study: Study, on: Device, job: Spec) -> Cost:
    entry = catalogue.ENTRIES[job["kind"]]
    size = sum(member.size for member in entry.members) + (entry.archive.size if entry.archive else 0)
    return Cost(size / rates()["workflow"]["megabytes"]["value"], size + _disk("job"))


def _prepare(study: Study, on: Device, job: Spec) -> Cost:
    data = shape(study, job["dataset"])
    images = data.train + data.test
    labels = 16 if job["kind"] == "cifar100" else 8
    notes = () if data.known else (f"{job['dataset']}: taken as {images:,} images of {data.size}x{data.size}, 10 classes",)
    seconds = on.values["start"] + images / rates()["workflow"]["images"]["value"]
    return Cost(seconds, images * (data.values + labels) + _disk("prepared") + _disk("job"), notes=notes)


def _experts(study: Study, on: Device, job: Spec) -> Cost:
    data, training = shape(study, job["dataset"]), job["training"]
    net = network(job["network"], data.channels, data.size, data.classes)
    images = data.train * (1 - job.get("validation", 0))
    compiled = TRAINING * images * training["epochs"] * net.operations >= COMPILING_PAYS
    forward = on.forward(net) / on.speed_up(data.size) / (on.values["compiled"] if compiled else 1)
    steps = training["epochs"] * math.ceil(images / training["batch"])
    one = steps * on.step(net) + (training["epochs"] * images * TRAINING + data.test) * forward
    seconds = on.values["start"] + on.values["first"] + (on.values["compilation"] if compiled else 0) + job["count"] * one
    disk = job["count"] * (net.parameters * job["keep"] * INT16 + _disk("expert")) + _disk("job")
    kept = net.parameters * job["keep"] * FLOAT  # the trajectory of one expert
    return Cost(seconds, disk, _training_memory(on, net, data, training["batch"]) + kept, True, _unknown(job["network"]))


def _trial(study: Study, on: Device, job: Spec) -> Cost:
    """The start of a job, and a step of each network."""
    data = shape(study, job["dataset"])
    networks = [network(one["network"], data.channels, data.size, data.classes) for one in job["networks"]]
    return Cost(on.values["start"] + sum(3 * on.forward(net) + on.step(net) for net in networks), _disk("job"))


def _manifest(study: Study, on: Device, job: Spec) -> Cost:
    return Cost(on.values["start"], job["total"] * _disk("manifest") + _disk("job"))


def _distill(study: Study, on: Device, job: Spec) -> Cost:
    data, recipe = shape(study, job["dataset"]), job["recipe"]
    net = network(job["network"], data.channels, data.size, data.classes)
    images = synthetic_images(recipe["parametrisation"], job["ipc"], data)
    batch = min(recipe["synthetic_batch"] or images, (recipe["synthetic_per_class"] or images) * data.classes, images)
    seconds = on.values["start"]
    if recipe["iterations"] and recipe["objectives"]:
        step, least = _outer_step(on, net, data, recipe, batch), COMPILING_PAYS * (ON_A_GPU if on.values["device_memory"] else 1)
        compiled = not EAGER & recipe["objectives"].keys() and recipe["compile"] != "never"
        if compiled and recipe["iterations"] * sum(_passes(data, recipe, batch)) * net.operations >= least:
            seconds, step = seconds + on.values["compilation"], step / on.values["traced"]
        seconds += on.values["first"] + recipe["iterations"] * step
    disk = job["ipc"] * data.classes * data.values * FLOAT + _disk("condensed") + _disk("job")
    notes = (*_unknown(job["network"]), *_unfamiliar(recipe))
    return Cost(seconds, disk, _distill_memory(on, net, data, recipe, batch), True, notes)


def _outer_step(on: Device, net: Network, data: Shape, recipe: Mapping[str, Any], batch: int) -> float:
    """Seconds of one outer step over `batch` synthetic images."""
    forward = on.forward(net) / on.speed_up(data.size)
    real, synthetic = _passes(data, recipe, batch)
    decoding = decoder(recipe["parametrisation"], data)
    seconds = on.values["walk"] * (2 if real else 1) + _teacher(recipe)["seconds"] + (real + synthetic) * forward
    seconds += batch * rates()["decoding"]["synthetic"] * on.forward(decoding)
    if trajectory := recipe["objectives"].get("trajectory"):
        taken = min(trajectory.get("batch") or batch, batch)
        step = _objective("trajectory")["synthetic"] * taken * forward + on.step(net, "student")
        seconds += trajectory.get("steps", 1) * step
    return seconds + _teacher_training(on, net, recipe["teacher"], batch, forward)


def _passes(data: Shape, recipe: Mapping[str, Any], batch: int) -> tuple[float, float]:
    """Forward passes of one image that an outer step is worth, over real and over synthetic images, without those of a student."""
    factors = {kind: _objective(kind) for kind in recipe["objectives"]}
    real = recipe["real_batch"] * data.classes * max((factor["real"] for factor in factors.values()), default=0)
    passes = 1 + _teacher(recipe)["synthetic"] + sum(factor["synthetic"] for kind, factor in factors.items() if kind != "trajectory")
    alone = [*factors] == ["trajectory"]
    return real, 0 if alone else batch * passes * max(1, recipe["teacher"].get("count", 1))


def _objective(kind: str) -> dict[str, Any]:
    known = rates()["objectives"]
    return dict(known.get(kind, known["default"]))


def _teacher(recipe: Mapping[str, Any]) -> dict[str, Any]:
    known = rates()["teachers"]
    return dict(known.get(recipe["teacher"].get("kind"), known["default"]))


def _teacher_training(on: Device, net: Network, teacher: Mapping[str, Any], batch: int, forward: float) -> float:
    """Seconds that a teacher which learns takes between two outer steps; loops that end by themselves are counted in full."""
    if teacher.get("kind") == "trained_on_real":
        return on.step(net) + TRAINING * teacher.get("batch", 64) * forward
    if teacher.get("kind") == "trained_on_synthetic":
        steps = math.ceil(batch / teacher.get("batch", 256))
        return float(teacher.get("inner_loop", 1) * (steps * on.step(net) + TRAINING * batch * forward))
    return 0.0


def _evaluate(study: Study, on: Device, job: Spec) -> Cost:
    data, protocol = shape(study, job["dataset"]), job["protocol"]
    net = network(job["network"], data.channels, data.size, data.classes)
    images = data.train
    if job["ipc"]:
        recipe = study.recipe(job["dataset"], job["ipc"], job["method"])
        images = synthetic_images(recipe["parametrisation"], job["ipc"], data)
    forward = on.forward(net) / on.speed_up(data.size)
    steps = protocol["epochs"] * math.ceil(images / protocol["batch"])
    one = steps * on.step(net) + (protocol["epochs"] * images * TRAINING + data.test) * forward
    disk = _disk("rows") * job["seeds"] / 5 + _disk("job")
    batch = min(images, protocol["batch"])
    seconds = on.values["start"] + on.values["first"] + job["seeds"] * one
    return Cost(seconds, disk, _training_memory(on, net, data, batch), True, _unknown(job["network"]))


def _figures(study: Study, on: Device, job: Spec) -> Cost:
    shown = [figure for figure in study.figures.values() if figure.number == job["figure"] and figure.dataset == job["dataset"]]
    sets = sum(len(figure.cells) for figure in shown)
    return Cost(on.values["start"], sets * _disk("grid") + _disk("job"))


def _plots(study: Study, on: Device, job: Spec) -> Cost:
    return Cost(on.values["start"], _disk("plot") + _disk("job"))


def _footprint(study: Study, on: Device, job: Spec) -> Cost:
    """Each case is as many outer steps as it has inner ones, in micro-batches and at once; one, where the student takes them itself."""
    data = shape(study, job["dataset"])
    net = network(job["network"], data.channels, data.size, data.classes)
    cases = [(ipc, job["steps"][0]) for ipc in job["ipc"]] + [(job["at"], steps) for steps in job["steps"]]
    seconds = on.values["start"] + on.values["first"]
    for recipes in job["recipes"].values():
        for ipc, steps in cases:
            recipe = recipes[str(ipc)]
            own = {kind: settings | {"steps": steps} for kind, settings in recipe["objectives"].items() if "steps" in settings}
            times = 1 if own else 2 * steps
            batch = synthetic_images(recipe["parametrisation"], ipc, data)
            seconds += times * _outer_step(on, net, data, recipe | {"objectives": recipe["objectives"] | own}, batch)
    return Cost(seconds * rates()["workflow"]["following"]["value"], _disk("table") + _disk("job"), 0.0, True)


def _other(study: Study, on: Device, job: Spec) -> Cost:
    return Cost(on.values["start"], _disk("job"), notes=("a stage without rates is taken as the start of a job",))


_STAGES: dict[str, Callable[[Study, Device, Spec], Cost]] = {
    "download": _download,
    "prepare": _prepare,
    "trial": _trial,
    "network": _trial,
    "experts": _experts,
    "manifest": _manifest,
    "distill": _distill,
    "evaluate": _evaluate,
    "tables": _light,
    "claims": _light,
    "settings": _light,
    "figures": _figures,
    "plots": _plots,
    "footprint": _footprint,
}


def _training_memory(on: Device, net: Network, data: Shape, batch: int) -> float:
    """Data in bytes, a batch's activations and their gradients, weights with gradient, momentum and a copy."""
    return on.values["memory"] + (data.train + data.test) * data.values + 2 * batch * net.activations * FLOAT + 4 * net.parameters * FLOAT


def _distill_memory(on: Device, net: Network, data: Shape, recipe: Mapping[str, Any], batch: int) -> float:
    """As much of the synthetic set as fits a quarter of the device; a student's whole graph where `trajectory` keeps it."""
    if not recipe["objectives"]:
        return on.values["memory"] + (data.train + data.test) * data.values
    image = net.activations * FLOAT * DOUBLE_BACKWARD
    graph = min(recipe["micro_batch"] or batch, batch) * image
    trajectory = recipe["objectives"].get("trajectory")
    limit = on.total_memory * SHARE
    if trajectory and trajectory.get("memory", "graph") == "graph":
        graph, limit = min(trajectory.get("batch") or batch, batch) * image * trajectory.get("steps", 1), math.inf
    basis = 2 * (recipe["teacher"].get("length", 0) + 1) * net.parameters * FLOAT
    real = 3 * recipe["real_batch"] * data.classes * data.values * FLOAT
    return on.values["memory"] + (data.train + data.test) * data.values + min(graph, limit) + basis + real


def _unknown(settings: Mapping[str, Any]) -> tuple[str, ...]:
    name = settings["name"]
    known = name == "convnet3" or name in rates()["networks"]
    return () if known else (f"network {name} has no entry in esp_core/planning/rates.yaml: taken as resnet10",)


def _unfamiliar(recipe: Mapping[str, Any]) -> Iterator[str]:
    kinds = {"objectives": recipe["objectives"], "teachers": [recipe["teacher"]["kind"]] if recipe["teacher"].get("kind") else []}
    for section, names in kinds.items():
        for name in names:
            if name not in rates()[section]:
                yield f"{section} {name} has no entry in esp_core/planning/rates.yaml: the default is used"
