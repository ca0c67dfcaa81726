"""The expert subspace: an orthonormal basis of a segment, projection onto it, and the residual (ESP Section 3.2).

Neighbouring snapshots are almost parallel, so the basis is built from theta*_t and the differences, which span the same
space. E E^T (P x P) is never formed. Sums over P are accumulated in float64, a slice of P at a time.
"""

from typing import Literal

import torch
from torch import Tensor

SLICE = 1 << 14  # entries of P that a CPU converts to float64 at once
RANK_TOLERANCE = 1e-6  # directions shorter than this, relative to the longest, do not count

Kind = Literal["raw", "difference"]


def basis(segment: Tensor, kind: Kind = "raw") -> Tensor:
    """Orthonormal basis E (P, k) float32 of the span of a segment (T+1, P).

    "raw" spans the snapshots (k = T+1), "difference" the steps between them (k = T). k is smaller if the snapshots are
    linearly dependent. Raises ValueError for an unknown kind and for a segment that spans nothing.
    """
    if kind not in ("raw", "difference"):
        raise ValueError(f"basis: unknown kind {kind!r}; use raw or difference")
    rows = segment.diff(dim=0)
    if kind == "raw":
        rows = torch.cat([segment[:1], rows])
    first = _orthonormal(rows)
    return _orthonormal(first).T  # the second pass removes the rounding errors of the first


def project(basis: Tensor, vector: Tensor) -> Tensor:
    """E E^T v: the part of a vector (P,) that lies in the subspace. Differentiable in the vector."""
    return basis @ (basis.T @ vector)


def residual(basis: Tensor, vector: Tensor) -> Tensor:
    """(I - E E^T) v: the part of a vector (P,) that is orthogonal to the subspace."""
    return vector - project(basis, vector)


def _orthonormal(rows: Tensor) -> Tensor:
    """(k, P) -> orthonormal rows (r, P) float32 of the same span, from the eigenvectors of the k x k Gram matrix."""
    gram = _products(rows, rows)
    lengths = gram.diagonal().sqrt()
    scale = torch.where(lengths > 0, 1 / lengths, 0.0)
    values, vectors = torch.linalg.eigh((gram * torch.outer(scale, scale)).cpu())  # k x k: microseconds on a CPU, many kernels on a GPU
    kept = values > RANK_TOLERANCE**2
    if not kept.any():
        raise ValueError("basis: the segment spans nothing: its snapshots are all zero or all equal")
    mix = (vectors[:, kept] / values[kept].sqrt()).T.to(scale.device) * scale  # (r, k)
    return _combine(mix, rows)


def _products(a: Tensor, b: Tensor) -> Tensor:
    """(k, P), (l, P) -> a b^T (k, l) in float64."""
    return torch.stack([x.double() @ y.double().T for x, y in zip(_slices(a), _slices(b), strict=True)]).sum(0)


def _combine(mix: Tensor, rows: Tensor) -> Tensor:
    """mix (r, k) float64 times rows (k, P), rounded once to float32."""
    return torch.cat([(mix @ part.double()).float() for part in _slices(rows)], dim=1).to(rows.device)


def _slices(rows: Tensor) -> tuple[Tensor, ...]:
    """Slices of P on a device that has float64; on CUDA one slice."""
    if rows.device.type == "cuda":
        return (rows,)
    return tuple(part.cpu() if rows.device.type == "mps" else part for part in rows.split(SLICE, dim=1))
