"""Stratified splits: every class has the same share in both parts."""

from collections.abc import Sequence

import torch
from torch import Tensor

from esp_core.runtime import seeds
from esp_core.runtime.errors import UserError


def stratified(labels: Tensor, fraction: float, *names: str | int, classes: Sequence[str] = ()) -> tuple[Tensor, Tensor]:
    """Indices (kept, held), both ascending; `held` is `fraction` of `labels` (n,), drawn class by class with the seed `names`.

    Class sizes are rounded by largest remainder, so `held` has round(fraction * n) members, unless a class is so small that it would
    be missing on one side. Raises UserError for a fraction outside (0, 1) and for a class of one image.
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
