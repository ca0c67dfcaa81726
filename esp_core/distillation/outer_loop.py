"""The one outer loop of all methods: state, backward pass, outer step (Eq. 10), inner step (Eq. 6)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from esp_core import networks, objectives, parametrisations, teachers
from esp_core.augment import dsa
from esp_core.datasets import Dataset
from esp_core.distillation.micro_batcher import MicroBatcher
from esp_core.distillation.outer_optimiser import OuterOptimiser
from esp_core.distillation.passes import Outcome, Weighted
from esp_core.distillation.selection import Selector
from esp_core.networks import trial
from esp_core.networks.flat import FlatNetwork, flatten
from esp_core.objectives import NonAdditive, Objective, OuterStep
from esp_core.parametrisations import Parametrisation, Task
from esp_core.runtime import seeds
from esp_core.runtime.errors import UserError
from esp_core.study import methods
from esp_core.training.compile_policy import compiles, missing_compiler, operations
from esp_core.training.traced import Traced

if TYPE_CHECKING:
    from esp_core.trajectories import Trajectories

CHECK_EVERY = 20  # steps between two checks of the loss; each waits for the device


class Distillation:
    """Distils one cell with one method, step by step. `checkpoint` returns the complete state.

    The random draws of step i depend on (study seed, dataset, IPC, i) and not on the method. Methods that differ in one choice
    therefore see the same real images, augmentations and segments, and can be compared in pairs.
    """

    def __init__(self, spec: dict[str, Any], data: Dataset, experts: Trajectories | None, device: torch.device):
        self.spec, self.recipe, self.data, self.device = spec, spec["recipe"], data, device
        channels, size, _ = data.shape
        self.names = (spec["study_seed"], "distill", spec["dataset"], spec["ipc"])
        self.step = 0
        self.classes = len(data.classes)
        task = Task(self.classes, spec["ipc"], channels, size, data.normalisation.to("cpu"))
        if methods.uses_network(self.recipe):
            trial.check(spec["network"], channels, size, self.classes, trial.TEACHES)
        fresh = partial(_fresh, {**spec["network"], "channels": channels, "size": size, "classes": self.classes})
        self.network = FlatNetwork(fresh(0).to(device), self.recipe["precision"])
        self.synthetic = parametrisations.build(task, **self.recipe["parametrisation"])
        self._build_objectives()
        trained = experts.snapshot(0, experts.snapshots - 1) if experts is not None else None
        self.selector = Selector(data, seeds.generator(*self.names, "selection"), self.network, trained)
        self.synthetic.initialise(seeds.generator(*self.names, "initialisation"), self.selector)
        self.synthetic.to(device)
        context = teachers.Context(
            network=self.network,
            classes=self.classes,
            fresh=lambda seed: flatten(fresh(seed)),
            seed=self.names,
            device=device,
            synthetic=self.synthetic,
            real=self.selector,
            augment=self.recipe["augment"],
            compiles=self._compiles,
            experts=experts,
            needs_basis=any(term.objective.needs_basis for term in self.objectives),
        )
        self.teacher = teachers.build(context, **self.recipe["teacher"]) if self.objectives or self.non_additive else None
        real = self.recipe["real_batch"] * self.classes
        passes = max((term.forward_passes(self.synthetic.images, real) for _, term, _ in self.non_additive), default=0)
        self.traced = Traced() if self._compiles(passes) else None
        self.optimiser = OuterOptimiser(self.synthetic, self.recipe, self.learned)
        wants = self.teacher.wants if self.teacher is not None else ()
        self.batcher = MicroBatcher(self.objectives, wants, self.synthetic, self.recipe, device, self.title)

    def _build_objectives(self) -> None:
        self.objectives: list[Weighted] = []
        self.non_additive: list[tuple[str, NonAdditive, float]] = []
        for kind, settings in self.recipe["objectives"].items():
            made = objectives.build(kind, **{key: value for key, value in settings.items() if key != "weight"})
            weight = settings.get("weight", 1.0)
            if isinstance(made, Objective):
                self.objectives.append(Weighted(kind, made, weight))
            elif weight:
                self.non_additive.append((kind, made, weight))
        self.learned = {name: t.detach().to(self.device) for _, term, _ in self.non_additive for name, t in term.tensors.items()}
        for _, term, _ in self.non_additive:
            term.tensors = {name: self.learned[name] for name in term.tensors}

    def _compiles(self, passes: int) -> bool:
        """Whether to compile work that takes `passes` forward passes of one image per outer step."""
        if passes == 0:
            return False
        theta, image = (torch.zeros(*size, device=self.device) for size in ((self.network.parameters,), (1, *self.data.shape)))
        work = self.recipe["iterations"] * passes * operations(lambda: self.network(theta, image))
        return compiles(self.recipe["compile"], work, self.device, missing_compiler(self.device), self.title)

    @property
    def compiled(self) -> list[str]:
        """The names of all compiled functions."""
        teacher = self.teacher.compiled if self.teacher is not None else ()
        return [*self.batcher.compiled, *(f"teacher {name}" for name in teacher), *(self.traced.names if self.traced is not None else ())]

    def run(self, each: Callable[[Distillation, Outcome], None]) -> Parametrisation:
        """Run the remaining steps, calling `each` after every one; return the synthetic set."""
        while self.step < self.recipe["iterations"]:
            outcome = self._take_step()
            self.step += 1
            if self.step % CHECK_EVERY == 0 or self.step == self.recipe["iterations"]:
                self._refuse_divergence(outcome)
            each(self, outcome)
        return self.synthetic

    def _take_step(self) -> Outcome:
        assert self.teacher is not None
        generator = seeds.generator(*self.names, "step", self.step)
        draw = dsa.draw(self.recipe["augment"], self.classes, generator)
        state = self.teacher.state(self.step, draw)
        images, labels, real = None, None, {}
        summed = bool(self.batcher.over_real.terms)
        if summed or any(term.needs_real for _, term, _ in self.non_additive):
            images, labels = self.selector.batch(self.recipe["real_batch"], generator)
        self.batcher.prepare(state, 0 if images is None else len(images))
        if summed and images is not None and labels is not None:
            real = self.batcher.real(images, labels, state)
        units = self._units(generator)
        outcome = self.batcher.backward(real, state, units, self.optimiser.zero)
        step = OuterStep(self.synthetic, units, state, images, labels, self.recipe["augment"], generator, self.traced)
        for name, term, weight in self.non_additive:
            outcome = self._backward_non_additive(outcome, name, term, weight, step)
        self.optimiser.step(self.step)
        for _, term, _ in self.non_additive:
            term.restrict()
        self.teacher.advance(outcome.synthetic)
        return outcome

    def _backward_non_additive(self, outcome: Outcome, name: str, term: NonAdditive, weight: float, step: OuterStep) -> Outcome:
        try:
            value = term.backward(step, weight)
        except torch.OutOfMemoryError:
            raise UserError(
                f"{self.title}: out of device memory in objectives.{name}; lower synthetic_batch, or see its settings in config/README.md"
            ) from None
        return replace(outcome, total=outcome.total.to(value) + weight * value, values=outcome.values | {name: value})

    def _units(self, generator: torch.Generator) -> Tensor:
        """The synthetic units of this step: all, or random ones by `synthetic_per_class` (IDC) and `synthetic_batch` (Figure 8)."""

        def some(units: Tensor, images: int | None) -> Tensor:
            if images is None or images >= len(units) * self.synthetic.images_per_unit:
                return units
            count = max(1, images // self.synthetic.images_per_unit)
            return units[torch.randperm(len(units), generator=generator)[:count].sort().values]

        own = [(self.synthetic.unit_labels == label).nonzero().squeeze(1) for label in range(self.classes)]
        units = torch.cat([some(members, self.recipe["synthetic_per_class"]) for members in own])
        return some(units, self.recipe["synthetic_batch"])

    def _refuse_divergence(self, outcome: Outcome) -> None:
        if not math.isfinite(float(outcome.total)):
            rates = ", ".join(f"optimiser.{k}" for k in self.recipe["optimiser"] if k.startswith("lr"))
            raise UserError(
                f"{self.title}: the loss is {float(outcome.total)} at step {self.step}; lower {rates} or the objectives' weights"
            )

    @property
    def at_floor(self) -> list[str]:
        """Names of the learned numbers of the objectives that have reached their lower bound."""
        floors = {name: low for _, term, _ in self.non_additive for name, low in term.floors.items()}
        return [name for name, t in self.learned.items() if name in floors and bool((t <= floors[name]).any())]

    @property
    def title(self) -> str:
        return f"{self.spec['dataset']} ipc {self.spec['ipc']} {self.spec['method']}"

    def checkpoint(self) -> dict[str, Tensor]:
        """All that a later job needs to continue bit by bit: stored numbers, optimiser, teacher, step. On a CPU they are not copied."""
        parts = {"synthetic": self.synthetic.tensors, "learned": self.learned, "outer": self.optimiser.checkpoint()}
        if self.teacher is not None:
            parts["teacher"] = self.teacher.checkpoint()
        flat = {f"{part}/{name}": t.detach().cpu().contiguous() for part, tensors in parts.items() for name, t in tensors.items()}
        return flat | {"step": torch.tensor(self.step)}

    def resume(self, saved: dict[str, Tensor]) -> None:
        """Restore what `checkpoint` returned."""
        self.step = int(saved["step"])
        with torch.no_grad():
            for part, tensors in (("synthetic", self.synthetic.tensors), ("learned", self.learned)):
                for name, value in _part(saved, part).items():
                    tensors[name].copy_(value)
        self.optimiser.resume(_part(saved, "outer"))
        if self.teacher is not None:
            self.teacher.resume(_part(saved, "teacher"))


def _fresh(settings: dict[str, Any], seed: int) -> nn.Module:
    return networks.build(**settings, seed=seed)


def _part(saved: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key.partition("/")[2]: value for key, value in saved.items() if key.startswith(f"{name}/")}
