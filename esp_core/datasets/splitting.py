"""Stratified splits: every class keeps its share on both sides."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from esp_core.datasets.source import Labels, Request
from esp_core.runtime import seeds
from esp_core.runtime.errors import UserError

DEFAULT_FRACTION = 0.2


def made_test_part(
    labels: Labels, fraction: float | None, request: Request, classes: Sequence[str]
) -> tuple[NDArray[np.int64], NDArray[np.int64], dict[str, Any]]:
    """Indices of training and of test images for data that come in one piece, and the facts that the store keeps about the split."""
    share = DEFAULT_FRACTION if fraction is None else fraction
    kept, held = stratified(torch.from_numpy(labels), share, request.seed, "split", request.dataset, classes=classes)
    return kept.numpy(), held.numpy(), {"test_fraction": share, "seed": request.seed}


def refuse_fraction(fraction: float | None, request: Request, given: str) -> None:
    """Raise UserError where options.test_fraction stands beside the test images `given`."""
    if fraction is not None:
        raise UserError(f"dataset {request.dataset}: options.test_fraction has no meaning, since {given} holds test images; remove it")


def stratified(labels: Tensor, fraction: float, *names: str | int, classes: Sequence[str] = ()) -> tuple[Tensor, Tensor]:
    """Indices (kept, held), both ascending; `held` is `fraction` of `labels` (n,), drawn class by class with the seed `names`.

    The classes' shares are rounded by largest remainder, so that `held` has round(fraction * n) members unless a class is so small
    that it would be missing on one side. Raises UserError for a fraction outside (0, 1) and for a class of one image.
    """
    if not 0 < fraction < 1:
        raise UserError(f"split: a fraction of {fraction} is asked for; it must lie between 0 and 1")
    counts = torch.bincount(labels.cpu())
    if lonely := torch.nonzero(counts == 1).flatten().tolist():
        name = classes[lonely[0]] if classes else lonely[0]
        raise UserError(f"class {name}: one image cannot be split into two parts; add images or give the test part yourself")
    generator = seeds.generator(*names)
    held = []
    for label, quota in enumerate(_quotas(counts, fraction)):
        members = torch.nonzero(labels.cpu() == label).flatten()
        held.append(members[torch.randperm(len(members), generator=generator)[:quota]])
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    chosen[torch.cat(held)] = True
    return torch.nonzero(~chosen).flatten(), torch.nonzero(chosen).flatten()


def _quotas(counts: Tensor, fraction: float) -> list[int]:
    exact = counts.double() * fraction
    quotas = exact.floor().long()
    missing = round(float(counts.sum()) * fraction) - int(quotas.sum())
    quotas[torch.argsort(quotas - exact, stable=True)[:missing]] += 1
    smallest = (counts > 0).long()
    return [int(q) for q in torch.minimum(torch.maximum(quotas, smallest), counts - smallest)]
