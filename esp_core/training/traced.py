"""Compiled functions of tensors, derivatives included.

torch.compile does not support second derivatives. So a function is first traced with all its derivatives into one graph of plain
operations; compiling it removes unused results and fuses neighbouring operations.
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

AGREE = 0.05  # relative to the norm: allowed difference from eager; bfloat16 and the kinks of ReLU account for 0.014

Pure = Callable[..., Any]  # maps tensors, or dictionaries of them, to the same


class Traced:
    """Functions by name, each compiled for the first number of images that it is called with; other numbers run eagerly.

    The first result of each is compared with the eager one. If they differ, or compiling fails, it stays eager; the log says which.
    """

    def __init__(self) -> None:
        compile_in_own_threads()
        self._made: dict[str, tuple[int, Pure | None]] = {}

    @property
    def names(self) -> list[str]:
        """The functions that run compiled."""
        return [name for name, (_, fast) in self._made.items() if fast is not None]

    def forget(self) -> None:
        """Drop the compiled code; the next call compiles for its own number of images."""
        self._made.clear()

    def __call__(self, name: str, pure: Pure, images: int, *arguments: Any) -> Any:
        """The result of `pure` on `arguments`, which hold `images` images; None if it has to run eagerly."""
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
    """The result of `pure` and its compiled form; None in place of the form if it fails or disagrees.

    The result comes from the form that later calls will use, so a resumed job gives the same bits.
    """
    result = pure(*arguments)
    start = time.monotonic()
    try:
        fast = torch.compile(make_fx(lambda *given: pure(*given), tracing_mode="fake")(*arguments), dynamic=False, fullgraph=True)
        ours = fast(*arguments)
        difference = _difference(ours, result)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # compilers fail in many ways; fall back to eager code
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
    """The largest difference between two corresponding float tensors, relative to the norm of the second."""
    pairs = [(a, b) for a, b in zip(_flat(ours), _flat(theirs), strict=True) if b.is_floating_point()]
    return max((float((a - b).norm() / b.norm().clamp(min=torch.finfo(b.dtype).tiny)) for a, b in pairs), default=0.0)


def _flat(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_flatten(tree)[0] if isinstance(leaf, Tensor)]
