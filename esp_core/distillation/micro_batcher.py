"""The passes of one job in micro-batches: how many images at once, compiled or not, and what to do when the device runs out of memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from esp_core.distillation.compiled_passes import CompiledClasses, CompiledPasses
from esp_core.distillation.exact_gradient import backward, real_passes, real_statistics
from esp_core.distillation.memory import images_that_fit
from esp_core.distillation.passes import Outcome, Passes, Weighted
from esp_core.objectives import Batch, State, Statistic
from esp_core.parametrisations import Parametrisation
from esp_core.runtime.errors import UserError
from esp_core.training.compile_policy import COMPILE, compiles, missing_compiler, operations

T = TypeVar("T")


class MicroBatcher:
    """Runs the passes over real and synthetic images for the objectives `terms` and the statistics `also`, as the recipe says."""

    def __init__(
        self,
        terms: Sequence[Weighted],
        also: Sequence[Statistic],
        synthetic: Parametrisation,
        recipe: dict[str, Any],
        device: torch.device,
        title: str,
    ):
        if recipe["compile"] not in COMPILE:
            raise UserError(f"compile: {recipe['compile']!r}; use {', '.join(COMPILE)}")
        self.terms, self.also, self.synthetic, self.recipe, self.device, self.title = list(terms), also, synthetic, recipe, device, title
        self.micro_batch: int | None = recipe["micro_batch"]
        self.real_part = self.micro_batch
        self.over_real, self.over_synthetic = real_passes(self.terms), Passes(self.terms, also)
        self._ready = False

    @property
    def compiled(self) -> list[str]:
        """The passes that run compiled."""
        over = {"real": self.over_real, "synthetic": self.over_synthetic}
        return [f"{which} {name}" for which, passes in over.items() for name in passes.names]

    def prepare(self, state: State, images: int) -> None:
        """On the first call, measure how many images fit and choose whether to compile; `images` is the number of real images in a step."""
        if self._ready:
            return
        self._ready = True
        if self.micro_batch is None:
            fits = images_that_fit(self.synthetic, state, self.device)
            self.micro_batch, self.real_part = (None if fits >= self.synthetic.images else fits), fits
        if self.over_synthetic.wanted and self._compiles(state, images):
            if all(term.objective.traceable for term in self.over_synthetic.terms):
                self.over_real, self.over_synthetic = CompiledPasses(self.over_real.terms), CompiledPasses(self.terms, self.also)
            else:
                self.over_real = CompiledClasses(self.over_real.terms)

    def _compiles(self, state: State, images: int) -> bool:
        wanted = self.recipe["compile"]
        work = self.recipe["iterations"] * self._step_operations(state, images) if wanted == "auto" else 0
        return compiles(wanted, work, self.device, self._obstacle(), self.title)

    def _obstacle(self) -> str:
        """Why the passes cannot be compiled; empty if they can."""
        fixed = [term.name for term in self.over_synthetic.terms if not (term.objective.traceable or term.objective.by_class)]
        return f"objectives.{fixed[0]} is not traceable" if fixed else missing_compiler(self.device)

    def _step_operations(self, state: State, images: int) -> float:
        """Floating-point operations of a step over `images` real images, extrapolated from the images of one synthetic unit."""

        def batch() -> Batch:
            units = torch.arange(1)
            return self.over_synthetic.batch(state, self.synthetic.decode(units), self.synthetic.labels(units))

        sums = Passes(self.terms).sums(batch()) if self.terms else {}
        cotangents = {name: t for name, t in sums.items() if t.is_floating_point() and not name.startswith("each_")}
        synthetic = operations(lambda: self.over_synthetic.sums(batch()))
        synthetic += operations(lambda: self.over_synthetic.back(batch(), cotangents)) if cotangents else 0
        decoded = batch()
        real = operations(lambda: self.over_real.sums(decoded)) if self.over_real.terms else 0
        most = [self.recipe["synthetic_batch"], (self.recipe["synthetic_per_class"] or 0) * state.classes]
        used = min([self.synthetic.images, *(images for images in most if images)])
        return (synthetic * used + real * images) / self.synthetic.images_per_unit

    def real(self, images: Tensor, labels: Tensor, state: State) -> dict[str, Tensor]:
        """Sums over normalised real images (n, C, H, W) with labels (n,) on the CPU."""

        def attempt() -> dict[str, Tensor]:
            return real_statistics(self.over_real, images, labels, state, self.real_part)

        def fewer() -> None:
            smaller = min(self.real_part or len(images), len(images)) // 2
            self._insist(smaller > 0, "one real image")
            print(f"out of device memory: {self.real_part} -> {smaller} real images at a time; the sums stay the same", flush=True)
            self.real_part = smaller

        return self._until_it_fits(attempt, fewer)

    def backward(self, real: dict[str, Tensor], state: State, units: Tensor, zero: Callable[[], None]) -> Outcome:
        """Call `zero`, which clears the gradients, then compute the gradient of the weighted loss at the stored numbers."""

        def attempt() -> Outcome:
            zero()
            return backward(self.over_synthetic, self.synthetic, real, state, units=units, micro_batch=self.micro_batch)

        def fewer() -> None:
            images = len(units) * self.synthetic.images_per_unit
            smaller = min(self.micro_batch or images, images) // 2
            self._insist(smaller >= self.synthetic.images_per_unit, "one unit")
            print(f"out of device memory: micro-batch {self.micro_batch} -> {smaller} images; the gradient stays the same", flush=True)
            self.micro_batch = smaller

        return self._until_it_fits(attempt, fewer)

    def _until_it_fits(self, attempt: Callable[[], T], fewer: Callable[[], None]) -> T:
        while True:
            try:
                return attempt()
            except torch.OutOfMemoryError:
                pass  # continue below, where no traceback holds the tensors of the attempt
            fewer()
            for passes in (self.over_real, self.over_synthetic):
                passes.forget()
            torch.cuda.empty_cache()

    def _insist(self, possible: bool, least: str) -> None:
        if not possible:
            raise UserError(f"{self.title}: out of device memory with {least} at a time; use a device with more") from None
