"""Teachers: the stream of networks under which real and synthetic data are compared. Each kind is a module of this
package with `build(context, **settings)`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from esp_core.augment.dsa import Chain, Draw
from esp_core.networks.flat import FlatNetwork
from esp_core.objectives import State, Statistic, Statistics
from esp_core.study import kinds

if TYPE_CHECKING:
    from esp_core.distillation.selection import Selector
    from esp_core.parametrisations import Parametrisation
    from esp_core.trajectories import Trajectories


@dataclass(frozen=True)
class Context:
    """What a teacher may use: how to make a network, the names of its seeds, the images, and experts where there are any."""

    network: FlatNetwork
    classes: int
    fresh: Any  # seed -> theta (P,), a new random initialisation
    seed: tuple[str | int, ...]
    device: torch.device
    synthetic: Parametrisation
    real: Selector
    augment: str  # the method's strategy, as `dsa.draw` takes it
    compiles: Callable[[int], bool]  # whether to compile what takes so many forward passes of an image an outer step
    experts: Trajectories | None = None
    needs_basis: bool = True  # whether an objective asks for the basis of a segment


class Teacher(ABC):
    """Gives a state for every outer step; `wants` are the synthetic statistics that its inner step needs."""

    wants: Sequence[Statistic] = ()

    @property
    def compiled(self) -> Sequence[str]:
        """What of it runs as compiled code; nothing by default."""
        return ()

    @abstractmethod
    def state(self, step: int, draw: Draw | Chain) -> State:
        """What outer step `step` (from 0) sees of the teacher, under the augmentation `draw`."""

    def advance(self, synthetic: Statistics) -> None:
        """The inner step (Eq. 6) after an outer step, from the synthetic sums; none by default."""

    def resume(self, saved: dict[str, Tensor]) -> None:
        """Take up what `checkpoint` gave."""

    def checkpoint(self) -> dict[str, Tensor]:
        """What a resumed job cannot derive from the step number; nothing by default."""
        return {}


def build(context: Context, kind: str, **settings: Any) -> Teacher:
    """The teacher `kind`. Raises UserError for a setting that it does not have, or where it lacks experts."""
    return cast(Teacher, kinds.factory("teacher", kind, settings, "teacher.")(context, **settings))


__all__ = ["Context", "State", "Teacher", "build"]
