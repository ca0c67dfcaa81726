"""Compiled forward and backward passes. Decoding and augmentation stay outside, since they change from step to step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from esp_core.augment.dsa import Chain
from esp_core.distillation.passes import Outcome, Passes, Weighted
from esp_core.objectives import Batch, State, Statistic, Statistics, parameter_gradient
from esp_core.training.traced import Pure, Traced

NO_AUGMENTATION = Chain(())
IN_STATE = ("theta", "basis", "direction", "target", "ensemble")  # the tensors of a `State`


class _Compiling(Passes):
    """Passes whose functions of a batch are compiled by `traced`: functions of a state's tensors, images, labels and `given` statistics."""

    def __init__(self, terms: Sequence[Weighted], also: Sequence[Statistic] = ()):
        super().__init__(terms, also)
        self.traced = Traced()

    @property
    def names(self) -> list[str]:
        """The functions that run compiled."""
        return self.traced.names

    def forget(self) -> None:
        """Drop the compiled code; the next call compiles for its own number of images."""
        self.traced.forget()

    def _fast(self, name: str, pure: Pure, state: State, images: Tensor, labels: Tensor, given: Statistics) -> Any:
        """The result of `pure`, or None if it has to run eagerly."""
        tensors = {key: value for key in IN_STATE if (value := getattr(state, key)) is not None}
        return self.traced(name, pure, len(images), tensors, images.detach(), labels, dict(given))


class CompiledClasses(_Compiling):
    """Eager passes. Only the parameter gradient of one class's images is compiled, where it needs no graph: for real images."""

    def sums(self, batch: Batch) -> dict[str, Tensor]:
        batch.of_class = self._gradient
        return super().sums(batch)

    def _gradient(self, state: State, images: Tensor, labels: Tensor) -> Tensor:
        def run(tensors: dict[str, Any], images: Tensor, labels: Tensor, given: dict[str, Tensor]) -> Any:
            return parameter_gradient(replace(state, **tensors), images.contiguous(memory_format=torch.channels_last), labels)

        found = self._fast("gradient of a class", run, state, images, labels, {})
        return parameter_gradient(state, images, labels) if found is None else found


class CompiledPasses(_Compiling):
    """`Passes`, with every pass compiled."""

    def sums(self, batch: Batch) -> dict[str, Tensor]:
        found: dict[str, Tensor] = self._run("sums", lambda again, _: Passes.sums(self, again), batch, {})
        return found

    def back(self, batch: Batch, cotangents: Mapping[str, Tensor]) -> Tensor:
        gradient: Tensor = self._run("back", partial(Passes.back, self), batch, cotangents)
        return gradient

    def whole(self, batch: Batch, real: Statistics) -> tuple[Outcome, Tensor]:
        def parts(again: Batch, given: Statistics) -> tuple[dict[str, Any], Tensor]:
            outcome, gradient = Passes.whole(self, again, given)
            return vars(outcome), gradient

        fields, gradient = self._run("whole", parts, batch, real)
        return Outcome(**fields), gradient

    def _run(self, name: str, eager: Callable[[Batch, Statistics], Any], batch: Batch, given: Statistics) -> Any:
        found = self._fast(name, self._pure(eager, batch.state), batch.state, batch.images, batch.labels, given)
        return eager(batch, given) if found is None else found

    def _pure(self, eager: Callable[[Batch, Statistics], Any], state: State) -> Pure:
        """`eager` as a function of tensors only."""

        def run(tensors: dict[str, Any], images: Tensor, labels: Tensor, given: dict[str, Tensor]) -> Any:
            leaf = images.contiguous(memory_format=torch.channels_last).detach().requires_grad_()
            bare = replace(state, draw=NO_AUGMENTATION, **tensors)
            return eager(self.batch(bare, leaf, labels), given)

        return run
