"""The passes of a walk as compiled code.

torch.compile knows no second derivative. So each pass is traced first, with all its derivatives, to one graph of plain operations, in
which what no one reads is left out and neighbours are joined into one loop. Decoding and augmentation, which change from step to step,
stay outside.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._pytree import tree_flatten

from esp_core.augment.dsa import Chain
from esp_core.distillation.passes import Outcome, Passes, Weighted
from esp_core.objectives import Batch, State, Statistic, Statistics, parameter_gradient
from esp_core.training.compiling import compile_in_own_threads

AGREE = 0.05  # of the norm: how far compiled code may be from eager; bfloat16 and the kinks of ReLU are good for 0.014
NO_AUGMENTATION = Chain(())
IN_STATE = ("theta", "basis", "direction", "target", "ensemble")  # the tensors of a `State`

Pure = Callable[[dict[str, Tensor], Tensor, Tensor, dict[str, Tensor]], Any]  # state, images, labels, what else is given


class _Compiling(Passes):
    """Functions of a batch, each compiled for the first number of images that it meets; other numbers, the rest of a split, run eagerly.

    The first result of each is held against eager's. Where they differ, or where compiling fails, it stays eager; a line says which.
    """

    def __init__(self, terms: Sequence[Weighted], also: Sequence[Statistic] = ()):
        super().__init__(terms, also)
        compile_in_own_threads()
        self._made: dict[str, tuple[int, Pure | None]] = {}

    @property
    def names(self) -> list[str]:
        """What runs compiled."""
        return [name for name, (_, fast) in self._made.items() if fast is not None]

    def forget(self) -> None:
        """Compile anew, for the number of images that comes next."""
        self._made.clear()

    def _fast(self, name: str, pure: Pure, state: State, images: Tensor, labels: Tensor, given: Statistics) -> Any:
        """What `pure` gives; None where it is to run eagerly."""
        count, fast = self._made.get(name, (len(images), None))
        if count != len(images) or (name in self._made and fast is None):
            return None
        tensors = {key: value for key in IN_STATE if (value := getattr(state, key)) is not None}
        arguments = (tensors, images.detach(), labels, dict(given))
        with torch.no_grad():
            if fast is not None:
                return fast(*arguments)
            result, fast = _compiled(name, pure, arguments)
        self._made[name] = (count, fast)
        return result


class CompiledClasses(_Compiling):
    """Eager passes, but for the gradient of the images of one class, where no graph is wanted: of real images."""

    def sums(self, batch: Batch) -> dict[str, Tensor]:
        batch.of_class = self._gradient
        return super().sums(batch)

    def _gradient(self, state: State, images: Tensor, labels: Tensor) -> Tensor:
        def run(tensors: dict[str, Any], images: Tensor, labels: Tensor, given: dict[str, Tensor]) -> Any:
            return parameter_gradient(replace(state, **tensors), images.contiguous(memory_format=torch.channels_last), labels)

        found = self._fast("gradient of a class", run, state, images, labels, {})
        return parameter_gradient(state, images, labels) if found is None else found


class CompiledPasses(_Compiling):
    """`Passes`, each compiled."""

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
        """A pass as a function of tensors alone."""

        def run(tensors: dict[str, Any], images: Tensor, labels: Tensor, given: dict[str, Tensor]) -> Any:
            leaf = images.contiguous(memory_format=torch.channels_last).detach().requires_grad_()
            bare = replace(state, draw=NO_AUGMENTATION, **tensors)
            return eager(self.batch(bare, leaf, labels), given)

        return run


def _compiled(name: str, pure: Pure, arguments: tuple[Any, ...]) -> tuple[Any, Pure | None]:
    """The result of `pure`, and its compiled form, or None where there is none that agrees.

    The result is that of the form that later calls use, so that a resumed job gives the same bits.
    """
    result = pure(*arguments)
    start = time.monotonic()
    try:
        fast = torch.compile(make_fx(pure, tracing_mode="fake")(*arguments), dynamic=False, fullgraph=True)
        ours = fast(*arguments)
        difference = _difference(ours, result)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # a compiler fails in many ways, and eager code is always there
        _say(f"{name}: not compiled, {type(error).__name__}: {str(error).strip().partition(chr(10))[0]}")
        return result, None
    if difference > AGREE:
        _say(f"{name}: not compiled, its result differs from eager's by {difference:.2g} of the norm")
        return result, None
    _say(f"{name}: compiled for {len(arguments[1])} images in {time.monotonic() - start:.0f} s")
    return ours, fast


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _difference(ours: Any, theirs: Any) -> float:
    """The largest difference of two tensors of the same place, relative to the norm of the second; of float tensors."""
    pairs = [(a, b) for a, b in zip(_flat(ours), _flat(theirs), strict=True) if b.is_floating_point()]
    return max((float((a - b).norm() / b.norm().clamp(min=torch.finfo(b.dtype).tiny)) for a, b in pairs), default=0.0)


def _flat(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_flatten(tree)[0] if isinstance(leaf, Tensor)]
