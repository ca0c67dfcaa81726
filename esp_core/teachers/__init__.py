"""Teachers: the networks under which real and synthetic data are compared, one state per outer step. Each kind is a module of this
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
    """What a teacher may use: a network, its initialisation, the seeds, the images and, if there are any, the experts."""

    network: FlatNetwork
    classes: int
    fresh: Any  # seed -> theta (P,), a new random initialisation
    seed: tuple[str | int, ...]
    device: torch.device
    synthetic: Parametrisation
    real: Selector
    augment: str  # the method's strategy, for `dsa.draw`
    compiles: Callable[[int], bool]  # whether to compile work of so many forward passes of an image per outer step
    experts: Trajectories | None = None
    needs_basis: bool = True  # whether an objective uses the basis of a segment


class Teacher(ABC):
    """Returns a state for every outer step; `wants` are the synthetic statistics that its inner step needs."""

    wants: Sequence[Statistic] = ()

    @property
    def compiled(self) -> Sequence[str]:
        """The names of its compiled functions; none by default."""
        return ()

    @abstractmethod
    def state(self, step: int, draw: Draw | Chain) -> State:
        """The state for outer step `step` (from 0), under the augmentation `draw`."""

    def advance(self, synthetic: Statistics) -> None:
        """The inner step (Eq. 6), taken after an outer step from the synthetic sums; none by default."""

    def resume(self, saved: dict[str, Tensor]) -> None:
        """Restore what `checkpoint` returned."""

    def checkpoint(self) -> dict[str, Tensor]:
        """The state that a resumed job cannot derive from the step number; empty by default."""
        return {}


def build(context: Context, kind: str, **settings: Any) -> Teacher:
    """The teacher `kind`. Raises UserError for an unknown kind or setting, or if it needs experts and there are none."""
    return cast(Teacher, kinds.factory("teacher", kind, settings, "teacher.")(context, **settings))


__all__ = ["Context", "State", "Teacher", "build"]
