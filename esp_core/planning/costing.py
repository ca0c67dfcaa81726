"""What a job costs, from its spec: seconds, bytes on disk and peak bytes on the device."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from esp_core import objectives
from esp_core.datasets import catalogue
from esp_core.distillation import walker
from esp_core.distillation.memory import DOUBLE_BACKWARD, SHARE
from esp_core.objectives import Objective
from esp_core.planning.counting import Count, Shape, network, shape, synthetic
from esp_core.planning.rates import Device, rates
from esp_core.study.config import Study
from esp_core.study.specs import Spec, spec
from esp_core.training import engine
from esp_core.training.compiling import WORTH_COMPILING

FLOAT, INT16 = 4, 2
TRAINING = 3  # forward passes that forward and backward take


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
    return _STAGES[stage](study, on, spec(study, stage, *arguments)) if stage in _STAGES else _small(on, stage)


def _disk(name: str) -> float:
    return float(rates()["disk"][name]["value"])


def _download(study: Study, on: Device, job: Spec) -> Cost:
    entry = catalogue.ENTRIES[job["kind"]]
    size = sum(member.size for member in entry.members) + (entry.archive.size if entry.archive else 0)
    return Cost(size / rates()["workflow"]["megabytes"]["value"], size + _disk("job"))


def _matrix(job: Spec, data: Shape) -> float:
    """Bytes of the whitening matrix beside the data, and in every condensed set."""
    return FLOAT * data.values**2 if "whiten" in job else 0


def _prepare(study: Study, on: Device, job: Spec) -> Cost:
    data = shape(study, job["dataset"])
    images = data.train + data.test
    labels = 16 if job["kind"] == "cifar100" else 8
    notes = () if data.known else (f"{job['dataset']}: taken as {images:,} images of {data.size}x{data.size}, 10 classes",)
    seconds = on.values["start"] + images / rates()["workflow"]["images"]["value"]
    return Cost(seconds, images * (data.values + labels) + _matrix(job, data) + _disk("prepared") + _disk("job"), notes=notes)


def _experts(study: Study, on: Device, job: Spec) -> Cost:
    data, training = shape(study, job["dataset"]), job["training"]
    net = network(job["network"], data)
    images = data.train * (1 - job.get("validation", 0))
    least = WORTH_COMPILING * (engine.CUDA_IS_FASTER if on.is_gpu else 1)
    compiled = TRAINING * images * training["epochs"] * net.operations >= least
    one = _training(on, net, data, images, training, on.values["compiled"] if compiled else 1)
    seconds = on.values["start"] + on.values["first"] + (on.values["compilation"] if compiled else 0) + job["count"] * one
    disk = job["count"] * (net.parameters * job["keep"] * INT16 + _disk("expert")) + _disk("job")
    kept = net.parameters * job["keep"] * FLOAT  # the trajectory of one expert
    return Cost(seconds, disk, _training_memory(on, net, data, training["batch"]) + kept, True)


def _training(on: Device, net: Count, data: Shape, images: float, settings: Mapping[str, Any], faster: float = 1) -> float:
    """Seconds in which a network is trained on `images` for the `epochs` of the settings, in batches, and tested."""
    forward = on.forward(net) / on.speed_up(data.size) / faster
    epochs = settings["epochs"]
    return epochs * math.ceil(images / settings["batch"]) * on.step(net) + (epochs * images * TRAINING + data.test) * forward


def _trial(study: Study, on: Device, job: Spec) -> Cost:
    """The start of a job, and a step of each network."""
    data = shape(study, job["dataset"])
    networks = [network(one["network"], data) for one in job["networks"]]
    return Cost(on.values["start"] + sum(3 * on.forward(net) + on.step(net) for net in networks), _disk("job"))


def _manifest(study: Study, on: Device, job: Spec) -> Cost:
    return Cost(on.values["start"], job["total"] * _disk("manifest") + _disk("job"))


def _distill(study: Study, on: Device, job: Spec) -> Cost:
    data, recipe = shape(study, job["dataset"]), job["recipe"]
    disk = job["ipc"] * data.classes * data.values * FLOAT + _matrix(job, data) + _disk("condensed") + _disk("job")
    seconds, memory = on.values["start"], on.values["memory"] + (data.train + data.test) * data.values
    if not (recipe["iterations"] and recipe["objectives"]):
        return Cost(seconds, disk, memory, True)
    net, (images, decoding) = network(job["network"], data), synthetic(recipe["parametrisation"], job["ipc"], data)
    batch = min(recipe["synthetic_batch"] or images, (recipe["synthetic_per_class"] or images) * data.classes, images)
    step = _outer_step(on, net, decoding, data, recipe, batch)
    work = recipe["iterations"] * sum(_passes(data, recipe, batch)) * net.operations
    if work >= WORTH_COMPILING * (walker.CUDA_IS_FASTER if on.is_gpu else 1) and _compiles(recipe):
        seconds, step = seconds + on.values["compilation"], step / on.values["traced"]
    seconds += on.values["first"] + recipe["iterations"] * step
    return Cost(seconds, disk, memory + _distill_memory(on, net, decoding, data, recipe, batch), True, tuple(_unfamiliar(recipe)))


def _compiles(recipe: Mapping[str, Any]) -> bool:
    """Whether nothing keeps the steps of a recipe from being compiled."""
    own = {kind: {key: value for key, value in settings.items() if key != "weight"} for kind, settings in recipe["objectives"].items()}
    made = [objectives.build(kind, **settings) for kind, settings in own.items()]
    return recipe["compile"] != "never" and all(isinstance(one, Objective) and one.traceable for one in made)


def _outer_step(on: Device, net: Count, decoding: Count, data: Shape, recipe: Mapping[str, Any], batch: int) -> float:
    """Seconds of one outer step over `batch` synthetic images."""
    forward = on.forward(net) / on.speed_up(data.size)
    real, synthetic = _passes(data, recipe, batch)
    seconds = (
        on.values["walk"] * (2 if real else 1)
        + _factors("teachers", recipe["teacher"].get("kind"))["seconds"]
        + (real + synthetic) * forward
    )
    seconds += batch * rates()["decoding"]["synthetic"] * on.forward(decoding)
    if trajectory := recipe["objectives"].get("trajectory"):
        taken = min(trajectory.get("batch") or batch, batch)
        step = _factors("objectives", "trajectory")["synthetic"] * taken * forward + on.step(net, "student")
        seconds += trajectory.get("steps", 1) * step
    return seconds + _teacher_training(on, net, recipe["teacher"], batch, forward)


def _passes(data: Shape, recipe: Mapping[str, Any], batch: int) -> tuple[float, float]:
    """Forward passes of one image that an outer step is worth, over real and over synthetic images, without those of a student."""
    factors = {kind: _factors("objectives", kind) for kind in recipe["objectives"]}
    teacher = _factors("teachers", recipe["teacher"].get("kind"))
    real = recipe["real_batch"] * data.classes * max((factor["real"] for factor in factors.values()), default=0)
    passes = 1 + teacher["synthetic"] + sum(factor["synthetic"] for kind, factor in factors.items() if kind != "trajectory")
    alone = [*factors] == ["trajectory"]
    return real, 0 if alone else batch * passes * max(1, recipe["teacher"].get("count", 1))


def _factors(section: str, kind: str | None) -> dict[str, Any]:
    """What rates.yaml says of a kind of objective or teacher, or of one that it does not know."""
    return dict(rates()[section].get(kind, rates()[section]["default"]))


def _teacher_training(on: Device, net: Count, teacher: Mapping[str, Any], batch: int, forward: float) -> float:
    """Seconds that a teacher which learns takes between two outer steps; loops that end by themselves are counted in full."""
    if teacher.get("kind") == "trained_on_real":
        return on.step(net) + TRAINING * teacher.get("batch", 64) * forward
    if teacher.get("kind") == "trained_on_synthetic":
        steps = math.ceil(batch / teacher.get("batch", 256))
        return float(teacher.get("inner_loop", 1) * (steps * on.step(net) + TRAINING * batch * forward))
    return 0.0


def _evaluate(study: Study, on: Device, job: Spec) -> Cost:
    data, protocol = shape(study, job["dataset"]), job["protocol"]
    net = network(job["network"], data)
    images = data.train
    if job["ipc"]:
        images, _ = synthetic(study.recipe(job["dataset"], job["ipc"], job["method"])["parametrisation"], job["ipc"], data)
    seconds = on.values["start"] + on.values["first"] + job["seeds"] * _training(on, net, data, images, protocol)
    memory = _training_memory(on, net, data, min(images, protocol["batch"]))
    return Cost(seconds, _disk("rows") * job["seeds"] / 5 + _disk("job"), memory, True)


def _figures(study: Study, on: Device, job: Spec) -> Cost:
    shown = [figure for figure in study.figures.values() if figure.number == job["figure"] and figure.dataset == job["dataset"]]
    sets = sum(len(figure.cells) for figure in shown)
    return Cost(on.values["start"], sets * _disk("grid") + _disk("job"))


def _footprint(study: Study, on: Device, job: Spec) -> Cost:
    """Each case is as many outer steps as it has inner ones, in micro-batches and at once; one, where the student takes them itself."""
    data = shape(study, job["dataset"])
    net = network(job["network"], data)
    cases = [(ipc, job["steps"][0]) for ipc in job["ipc"]] + [(job["at"], steps) for steps in job["steps"]]
    seconds = on.values["start"] + on.values["first"]
    for recipes in job["recipes"].values():
        for ipc, steps in cases:
            recipe = recipes[str(ipc)]
            own = {kind: settings | {"steps": steps} for kind, settings in recipe["objectives"].items() if "steps" in settings}
            times = 1 if own else 2 * steps
            images, decoding = synthetic(recipe["parametrisation"], ipc, data)
            recipe = recipe | {"objectives": recipe["objectives"] | own}
            seconds += times * _outer_step(on, net, decoding, data, recipe, images)
    return Cost(seconds * rates()["workflow"]["following"]["value"], _disk("table") + _disk("job"), 0.0, True)


def _small(on: Device, stage: str) -> Cost:
    """Of a job that draws or writes a little."""
    if stage not in _SMALL:
        return Cost(on.values["start"], _disk("job"), notes=("a stage without rates is taken as the start of a job",))
    seconds, disk = _SMALL[stage]
    return Cost(on.values[seconds], _disk(disk) + _disk("job"))


_SMALL = dict.fromkeys(("tables", "claims", "settings"), ("light", "table")) | {
    "plots": ("start", "plot"),
    "import_set": ("start", "condensed"),
}
_STAGES: dict[str, Callable[[Study, Device, Spec], Cost]] = {
    "download": _download,
    "prepare": _prepare,
    "trial": _trial,
    "network": _trial,
    "experts": _experts,
    "manifest": _manifest,
    "distill": _distill,
    "evaluate": _evaluate,
    "figures": _figures,
    "footprint": _footprint,
}


def _training_memory(on: Device, net: Count, data: Shape, batch: int) -> float:
    """Data in bytes, what a batch keeps for its backward pass, its gradients, weights with gradient, momentum and a copy."""
    return on.values["memory"] + (data.train + data.test) * data.values + 2 * batch * net.kept + 4 * net.parameters * FLOAT


def _distill_memory(on: Device, net: Count, decoding: Count, data: Shape, recipe: Mapping[str, Any], batch: int) -> float:
    """As much of the synthetic set as fits the share of the device; a student's whole graph where `trajectory` keeps it."""
    image = (net.kept + decoding.kept) * DOUBLE_BACKWARD
    graph = min(min(recipe["micro_batch"] or batch, batch) * image, on.total_memory * SHARE)
    trajectory = recipe["objectives"].get("trajectory")
    if trajectory and trajectory.get("memory", "graph") == "graph":
        graph = min(trajectory.get("batch") or batch, batch) * image * trajectory.get("steps", 1)
    basis = 2 * (recipe["teacher"].get("length", 0) + 1) * net.parameters * FLOAT
    return graph + basis + 3 * recipe["real_batch"] * data.classes * data.values * FLOAT


def _unfamiliar(recipe: Mapping[str, Any]) -> Iterator[str]:
    kinds = {"objectives": recipe["objectives"], "teachers": [recipe["teacher"]["kind"]] if recipe["teacher"].get("kind") else []}
    for section, names in kinds.items():
        for name in names:
            if name not in rates()[section]:
                yield f"{section} {name} has no entry in esp_core/planning/rates.yaml: the default is used"
