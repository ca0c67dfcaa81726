"""The gradient of objectives over the complete synthetic set, exact at any micro-batch size.

An objective is a loss on sums over images, so its gradient needs no graph of the complete set. One micro-batch: an ordinary
backward pass. Several: a first pass adds up the sums without a graph; differentiate the loss with respect to the sums; a second
pass, under the same augmentation, backpropagates these cotangents through each micro-batch (a vector-Jacobian product). Both
passes decode, so memory is that of one micro-batch, whatever the number of images and inner steps (Section 3.5).
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from esp_core.distillation.passes import Outcome, Passes, Weighted
from esp_core.objectives import Batch, Placed, State, Statistics, place
from esp_core.parametrisations import Parametrisation
from esp_core.runtime.transfer import send


def real_passes(objectives: Sequence[Weighted]) -> Passes:
    """The passes over real images: those of the objectives that compare with real images."""
    return Passes([term for term in objectives if term.objective.needs_real])


def real_statistics(passes: Passes, images: Tensor, labels: Tensor, state: State, micro_batch: int | None = None) -> dict[str, Tensor]:
    """Sums over normalised real images (n, C, H, W) with labels (n,) on the CPU, computed in micro-batches without a graph."""
    sums: dict[str, Tensor] = {}
    size = even(max(1, len(images)), micro_batch)
    names = labels.split(size)
    for part in zip(images.split(size), names, place(state, names, images.device), strict=True):
        with torch.no_grad():
            _add(sums, passes.sums(passes.batch(state, *part)))
    return sums


def backward(
    passes: Passes,
    synthetic: Parametrisation,
    real: Statistics,
    state: State,
    *,
    units: Tensor | None = None,
    micro_batch: int | None = None,
) -> Outcome:
    """Add the gradient of the weighted loss of `passes` to `synthetic.tensors[...].grad`; without objectives, add nothing.

    `units`: the synthetic units of this step, all by default. `micro_batch`: images in memory at once, all by default.
    """
    if not passes.wanted:
        return Outcome(torch.zeros(()), {}, {})
    units = torch.arange(synthetic.units) if units is None else units
    chosen = units.split(even(len(units), micro_batch and max(1, micro_batch // synthetic.images_per_unit)))
    labels = [synthetic.labels(part) for part in chosen]
    device = next(iter(synthetic.tensors.values())).device
    on_device = send([(part, Placed(one, state.draw.at(one))) for part, one in zip(chosen, labels, strict=True)], device)
    parts = [(part, own, placed) for own, (part, placed) in zip(labels, on_device, strict=True)]

    def batch(part: Tensor, labels: Tensor, placed: Placed) -> Batch:
        return passes.batch(state, synthetic.decode(part), labels, placed)

    def send_back(batch: Batch, gradient: Tensor) -> None:
        batch.images.backward(gradient, inputs=[t for t in synthetic.tensors.values() if t.requires_grad])

    if passes.terms and len(parts) == 1:
        outcome, gradient = passes.whole(complete := batch(*parts[0]), real)
        send_back(complete, gradient)
        return outcome
    sums: dict[str, Tensor] = {}
    for part in parts:
        with torch.no_grad():
            _add(sums, passes.sums(batch(*part)))
    if not passes.terms:
        return Outcome(torch.zeros(()), {}, sums)
    leaves = {name: t.requires_grad_(t.is_floating_point()) for name, t in sums.items()}
    outcome = passes.evaluate(leaves, real, state)
    outcome.total.backward()
    cotangents = {name: leaf.grad for name, leaf in leaves.items() if leaf.grad is not None}
    for part in parts:
        send_back(again := batch(*part), passes.back(again, cotangents))
    return outcome.detached()


def even(count: int, most: int | None) -> int:
    """The size of the parts into which to split `count`, at most `most` (default: no limit). Parts are equal if few more parts allow it.

    Code is compiled for one number of images, so a smaller last part would run eagerly.
    """
    fewest = -(-count // (most or max(1, count)))
    return next((count // parts for parts in range(max(1, fewest), 2 * fewest + 1) if count % parts == 0), most or count)


def _add(sums: dict[str, Tensor], more: Mapping[str, Tensor]) -> None:
    for name, value in more.items():
        if name not in sums:
            sums[name] = value
        elif name.startswith("each_"):
            sums[name] = torch.cat([sums[name], value])
        else:
            sums[name] = sums[name] + value
