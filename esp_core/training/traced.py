"""Functions of tensors as compiled code, their derivatives included.

torch.compile knows no second derivative. So a function is traced first, with all its derivatives, to one graph of plain operations, in
which what no one reads is left out and neighbours are joined into one loop.
"""

import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._pytree import tree_flatten

from esp_core.training.compile_policy import compile_in_own_threads

AGREE = 0.05  # of the norm: how far compiled code may be from eager; bfloat16 and the kinks of ReLU are good for 0.014

Pure = Callable[..., Any]  # tensors, or dictionaries of them, to such


class Traced:
    """Functions by name, each compiled for the first number of images that it meets; other numbers are left to eager code.

    The first result of each is held against eager's. Where they differ, or where compiling fails, it stays eager; a line says which.
    """

    def __init__(self) -> None:
        compile_in_own_threads()
        self._made: dict[str, tuple[int, Pure | None]] = {}

    @property
    def names(self) -> list[str]:
        """What runs compiled."""
        return [name for name, (_, fast) in self._made.items() if fast is not None]

    def forget(self) -> None:
        """Compile anew, for the number of images that comes next."""
        self._made.clear()

    def __call__(self, name: str, pure: Pure, images: int, *arguments: Any) -> Any:
        """What `pure` gives for `arguments`, which hold so many `images`; None where it is to run eagerly."""
        count, fast = self._made.get(name, (images, None))
        if count != images or (name in self._made and fast is None):
            return None
        with torch.no_grad():
            if fast is not None:
                return fast(*arguments)
            result, fast = _compiled(name, pure, images, arguments)
        self._made[name] = (count, fast)
        return result


def _compiled(name: str, pure: Pure, images: int, arguments: tuple[Any, ...]) -> tuple[Any, Pure | None]:
    """The result of `pure`, and its compiled form, or None where there is none that agrees.

    The result is that of the form that later calls use, so that a resumed job gives the same bits.
    """
    result = pure(*arguments)
    start = time.monotonic()
    try:
        fast = torch.compile(make_fx(lambda *given: pure(*given), tracing_mode="fake")(*arguments), dynamic=False, fullgraph=True)
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
    _say(f"{name}: compiled for {images} images in {time.monotonic() - start:.0f} s")
    return ours, fast


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _difference(ours: Any, theirs: Any) -> float:
    """The largest difference of two tensors of the same place, relative to the norm of the second; of float tensors."""
    pairs = [(a, b) for a, b in zip(_flat(ours), _flat(theirs), strict=True) if b.is_floating_point()]
    return max((float((a - b).norm() / b.norm().clamp(min=torch.finfo(b.dtype).tiny)) for a, b in pairs), default=0.0)


def _flat(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_flatten(tree)[0] if isinstance(leaf, Tensor)]
