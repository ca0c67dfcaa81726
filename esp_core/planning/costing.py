"""The cost of a job, from its spec: seconds, bytes on disk and peak bytes on the device."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from esp_core import objectives
from esp_core.datasets import catalogue
from esp_core.distillation.condensed import load_condensed
from esp_core.distillation.memory import DOUBLE_BACKWARD, SHARE
from esp_core.objectives import Objective
from esp_core.planning.counting import Count, Shape, network, shape, synthetic
from esp_core.planning.rates import Device, rate, rates
from esp_core.study.config import Study
from esp_core.study.job_specs import Spec, spec
from esp_core.training.compile_policy import TRAINING, WORTH_COMPILING, Work, worth_compiling
from esp_core.training.epoch import sizes
from esp_core.trajectories.trainer import LONG

FLOAT, INT16 = 4, 2


@dataclass(frozen=True)
class Cost:
    """Cost of one job; `device` says whether it runs on the device or on the CPU. `notes`: what had to be guessed."""

    seconds: float
    disk: float = 0.0
    memory: float = 0.0
    device: bool = False
    notes: tuple[str, ...] = ()


def cost(study: Study, on: Device, stage: str, *arguments: str) -> Cost:
    """Cost of the job in a line of `study.jobs()`."""
    if stage in _STAGES:
        job = spec(study, stage, *arguments)
        found = _STAGES[stage](study, on, job, shape(study, job["dataset"]))
    else:
        found = _small(study, on, stage, *arguments)
    return replace(found, disk=found.disk + rate("disk", "job"))


def _small(study: Study, on: Device, stage: str, *arguments: str) -> Cost:
    """Cost of a job that only reads and writes, without the disk space that every job needs."""
    start = on.values["start"]
    if stage == "download":
        entry = catalogue.ENTRIES[study.datasets[arguments[0]]["kind"]]
        size = sum(member.size for member in entry.members) + (entry.archive.size if entry.archive else 0)
        return Cost(size / rate("workflow", "megabytes"), size)
    if stage == "manifest":
        return Cost(start, study.experts(arguments[0])["count"] * rate("disk", "manifest"))
    if stage == "grids":
        return Cost(start, len(study.figures[arguments[0]].cells) * rate("disk", "grid"))
    if stage in ("plots", "losses", "import_set"):
        return Cost(start, rate("disk", "condensed" if stage == "import_set" else "plot"))
    if stage in ("tables", "comparisons", "claims", "settings"):
        return Cost(on.values["light"], rate("disk", "table"))
    return Cost(start, notes=("a stage without rates is taken as the start of a job",))


def _prepare(study: Study, on: Device, job: Spec, data: Shape) -> Cost:
    images, labels = data.train + data.test, 16 if job["kind"] == "cifar100" else 8
    notes = () if data.known else (f"{job['dataset']}: taken as {images:,} images of {data.size}x{data.size}, 10 classes",)
    seconds = on.values["start"] + images / rate("workflow", "images")
    return Cost(seconds, images * (data.values + labels) + _matrix(job, data) + rate("disk", "prepared"), notes=notes)


def _matrix(job: Spec, data: Shape) -> float:
    """Bytes of the whitening matrix, which is stored with the data and in every condensed set."""
    return FLOAT * data.values**2 if "whiten" in job else 0


def _experts(study: Study, on: Device, job: Spec, data: Shape) -> Cost:
    training, net = job["training"], network(job["network"], data)
    images = round(data.train * (1 - job.get("validation", 0)))
    one = _Training(on, net, data.size, images, data.test, training["batch"], training["epochs"])
    chosen = worth_compiling(on.type, net.operations, Work(sizes(images, training["batch"], LONG)), net.batch_norm)
    seconds = on.values["start"] + on.values["first"] + one.seconds(job["count"], *chosen)
    disk = job["count"] * (net.parameters * job["keep"] * INT16 + rate("disk", "expert"))
    kept = net.parameters * job["keep"] * FLOAT  # the trajectory of one expert
    return Cost(seconds, disk, _training_memory(on, net, data, training["batch"]) + kept, True)


@dataclass(frozen=True)
class _Training:
    """The training of a network of `size` pixels on `images`, and its test on `tested` images."""

    on: Device
    net: Count
    size: int
    images: int
    tested: int
    batch: int
    epochs: int

    def work(self, networks: int) -> Work:
        """The images of so many such trainings, by batch size, and those of their tests."""
        trained = sizes(self.images, self.batch, self.epochs)
        return Work({size: count * networks for size, count in trained.items()}, self.tested * networks)

    def seconds(self, networks: int, compiled: tuple[int, ...], tests: bool) -> float:
        """Seconds for so many networks, where batches of the sizes `compiled`, and the test pass where `tests`, are compiled once."""
        work, forward, faster = self.work(networks), self.on.forward(self.net) / self.on.speed_up(self.size), self.on.values["compiled"]
        steps = networks * self.epochs * math.ceil(self.images / self.batch) * self.on.step(self.net)
        trained = sum(TRAINING * count / (faster if size in compiled else 1) for size, count in work.trained.items())
        tested = work.tested / (faster if tests else 1)
        return (self.on.values["compilation"] if compiled or tests else 0) + steps + (trained + tested) * forward


def _trial(study: Study, on: Device, job: Spec, data: Shape) -> Cost:
    """Cost of starting a job and of one step of each network."""
    networks = [network(one["network"], data) for one in job["networks"]]
    return Cost(on.values["start"] + sum(3 * on.forward(net) + on.step(net) for net in networks))


def _distill(study: Study, on: Device, job: Spec, data: Shape) -> Cost:
    recipe = job["recipe"]
    disk = job["ipc"] * data.classes * data.values * FLOAT + _matrix(job, data) + rate("disk", "condensed")
    seconds, memory = on.values["start"], on.values["memory"] + (data.train + data.test) * data.values
    if not (recipe["iterations"] and recipe["objectives"]):
        return Cost(seconds, disk, memory, True)
    net, (images, decoding) = network(job["network"], data), synthetic(recipe["parametrisation"], job["ipc"], data)
    batch = min(recipe["synthetic_batch"] or images, (recipe["synthetic_per_class"] or images) * data.classes, images)
    step = _outer_step(on, net, decoding, data, recipe, batch)
    work = recipe["iterations"] * sum(_passes(data, recipe, batch)) * net.operations
    if work >= WORTH_COMPILING[on.type] and _compiles(recipe):
        seconds, step = seconds + on.values["compilation"], step / on.values["traced"]
    seconds += on.values["first"] + recipe["iterations"] * step
    return Cost(seconds, disk, memory + _distill_memory(on, net, decoding, data, recipe, batch), True, tuple(_unfamiliar(recipe)))


def _compiles(recipe: Mapping[str, Any]) -> bool:
    """Whether the steps of a recipe can be compiled."""
    own = {kind: {key: value for key, value in settings.items() if key != "weight"} for kind, settings in recipe["objectives"].items()}
    made = [objectives.build(kind, **settings) for kind, settings in own.items()]
    return recipe["compile"] != "never" and all(isinstance(one, Objective) and one.traceable for one in made)


def _outer_step(on: Device, net: Count, decoding: Count, data: Shape, recipe: Mapping[str, Any], batch: int) -> float:
    """Seconds of one outer step over `batch` synthetic images."""
    forward, teacher = on.forward(net) / on.speed_up(data.size), recipe["teacher"]
    real, synthetic = _passes(data, recipe, batch)
    seconds = on.values["augmented"] * (2 if real else 1) + _factors("teachers", teacher.get("kind"))["seconds"]
    seconds += (real + synthetic) * forward + batch * rates()["decoding"]["synthetic"] * on.forward(decoding)
    if trajectory := recipe["objectives"].get("trajectory"):
        taken = min(trajectory.get("batch") or batch, batch)
        step = _factors("objectives", "trajectory")["synthetic"] * taken * forward + on.step(net, "student")
        seconds += trajectory.get("steps", 1) * step
    # Training of the teacher between two outer steps; dynamic loops count with their upper bounds.
    if teacher.get("kind") == "trained_on_real":
        learned = min(teacher.get("images", 2048), data.train)
        seconds += math.ceil(learned / teacher.get("batch", 64)) * on.step(net) + TRAINING * learned * forward
    if teacher.get("kind") == "trained_on_synthetic":
        steps = math.ceil(batch / teacher.get("batch", 256))
        seconds += teacher.get("inner_loop", 1) * (steps * on.step(net) + TRAINING * batch * forward)
    return float(seconds)


def _passes(data: Shape, recipe: Mapping[str, Any], batch: int) -> tuple[float, float]:
    """Cost of an outer step in forward passes of one image, over real and over synthetic images, without those of a student."""
    factors = {kind: _factors("objectives", kind) for kind in recipe["objectives"]}
    teacher = _factors("teachers", recipe["teacher"].get("kind"))
    real = recipe["real_batch"] * data.classes * max((factor["real"] for factor in factors.values()), default=0)
    passes = 1 + teacher["synthetic"] + sum(factor["synthetic"] for kind, factor in factors.items() if kind != "trajectory")
    alone = [*factors] == ["trajectory"]
    return real, 0 if alone else batch * passes * max(1, recipe["teacher"].get("count", 1))


def _factors(section: str, kind: str | None) -> dict[str, Any]:
    """The factors in rates.yaml for a kind of objective or teacher, or the default for an unknown one."""
    return dict(rates()[section].get(kind, rates()[section]["default"]))


def _evaluate(study: Study, on: Device, job: Spec, data: Shape) -> Cost:
    net, protocol, images = network(job["network"], data), job["protocol"], data.train
    if job["ipc"]:
        images = _decoded(study, (job["dataset"], job["ipc"], job["method"]), data)
    training = _Training(on, net, data.size, images, data.test, protocol["batch"], protocol["epochs"])
    chosen = worth_compiling(on.type, net.operations, training.work(job["seeds"]), net.batch_norm)
    seconds = on.values["start"] + on.values["first"] + training.seconds(job["seeds"], *chosen)
    return Cost(seconds, rate("disk", "rows") * job["seeds"] / 5, _training_memory(on, net, data, min(images, protocol["batch"])), True)


def _decoded(study: Study, cell: tuple[str, int, str], data: Shape) -> int:
    """The number of images of a condensed set, as its recipe or, for one that is imported, its file says."""
    if study.is_imported(cell[2]) and study.is_own_format(cell[2]):
        return len(load_condensed(study.files(*cell)[0]).images)
    images, _ = synthetic(study.recipe(*cell)["parametrisation"], cell[1], data)
    return images


def _footprint(study: Study, on: Device, job: Spec, data: Shape) -> Cost:
    """Each case takes `steps` outer steps twice, in micro-batches and at once; with a student, a single outer step."""
    net = network(job["network"], data)
    cases = [(ipc, job["steps"][0]) for ipc in job["ipc"]] + [(job["at"], steps) for steps in job["steps"]]
    seconds = on.values["start"] + on.values["first"]
    for recipes, (ipc, steps) in product(job["recipes"].values(), cases):
        recipe = recipes[str(ipc)]
        own = {kind: settings | {"steps": steps} for kind, settings in recipe["objectives"].items() if "steps" in settings}
        images, decoding = synthetic(recipe["parametrisation"], ipc, data)
        step = _outer_step(on, net, decoding, data, recipe | {"objectives": recipe["objectives"] | own}, images)
        seconds += (1 if own else 2 * steps) * step
    return Cost(seconds * rate("workflow", "following"), rate("disk", "table"), 0.0, True)


_STAGES: dict[str, Callable[[Study, Device, Spec, Shape], Cost]] = {
    **dict.fromkeys(("trial", "network"), _trial),
    **{"prepare": _prepare, "experts": _experts, "distill": _distill, "evaluate": _evaluate, "footprint": _footprint},
}


def _training_memory(on: Device, net: Count, data: Shape, batch: int) -> float:
    """Data as bytes, values saved for the backward pass and gradients of a batch, and weights with gradient, momentum and a copy."""
    return on.values["memory"] + (data.train + data.test) * data.values + 2 * batch * net.kept + 4 * net.parameters * FLOAT


def _distill_memory(on: Device, net: Count, decoding: Count, data: Shape, recipe: Mapping[str, Any], batch: int) -> float:
    """The synthetic set, as far as it fits the job's share of the device; the student's complete graph if `trajectory` stores it."""
    image = (net.kept + decoding.kept) * DOUBLE_BACKWARD
    graph = min(min(recipe["micro_batch"] or batch, batch) * image, on.total_memory * SHARE / on.share)
    trajectory = recipe["objectives"].get("trajectory")
    if trajectory and trajectory.get("memory", "graph") == "graph":
        graph = min(trajectory.get("batch") or batch, batch) * image * trajectory.get("steps", 1)
    basis = 2 * (recipe["teacher"].get("length", 0) + 1) * net.parameters * FLOAT
    return graph + basis + 3 * recipe["real_batch"] * data.classes * data.values * FLOAT


def _unfamiliar(recipe: Mapping[str, Any]) -> Iterator[str]:
    """A note for each kind that is counted by the default rates."""
    kinds = [("objectives", kind) for kind in recipe["objectives"]] + [("teachers", recipe["teacher"].get("kind", "default"))]
    for section, kind in kinds:
        if kind not in rates()[section]:
            yield f"{section} {kind} has no entry in esp_core/planning/rates.yaml: the default is used"
