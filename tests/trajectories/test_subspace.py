import pytest
import torch

from esp_core.trajectories import subspace
from esp_core.trajectories.reader import Trajectories

P = 40_000  # more than one slice


def nearly_parallel(snapshots, move=1e-4):
    """A walk whose steps are 1e-4 of the weights' length, and share most of their direction."""
    generator = torch.Generator().manual_seed(0)
    drift = torch.randn(P, generator=generator)
    steps = move * (drift + 0.3 * torch.randn(snapshots, P, generator=generator))
    return torch.randn(P, generator=generator) + steps.cumsum(0)


def exact_span(segment):
    """An orthonormal basis by Householder QR in float64, columns scaled so that each counts."""
    columns = torch.cat([segment[:1], segment.diff(dim=0)]).double().T
    return torch.linalg.qr(columns / columns.norm(dim=0))[0]


def off_orthonormal(basis):
    gram = basis.double().T @ basis.double()
    return float((gram - torch.eye(len(gram))).abs().max())


def test_basis_of_51_nearly_parallel_snapshots_is_orthonormal_in_float32():
    basis = subspace.basis(nearly_parallel(51))
    assert basis.shape == (P, 51)
    assert basis.dtype == torch.float32
    assert off_orthonormal(basis) < 1e-6


def test_basis_of_a_real_trajectory_is_orthonormal(stored):
    experts = Trajectories(stored / "manifest.json")
    basis = subspace.basis(experts.segment(1, 0, experts.snapshots - 1))
    assert basis.shape[1] == experts.snapshots
    assert off_orthonormal(basis) < 1e-6


def test_basis_spans_the_snapshots_and_no_more():
    segment = nearly_parallel(6)
    ours, exact = subspace.basis(segment).double(), exact_span(segment)
    outside = exact - ours @ (ours.T @ exact)
    assert float(outside.norm()) < 1e-5
    for snapshot in segment:
        assert float(subspace.residual(subspace.basis(segment), snapshot).norm() / snapshot.norm()) < 1e-5


def test_differences_leave_the_weights_themselves_out():
    segment = nearly_parallel(6)
    basis = subspace.basis(segment, "difference")
    assert basis.shape == (P, 5)
    step = segment[5] - segment[2]
    assert float(subspace.residual(basis, step).norm() / step.norm()) < 1e-4
    assert float(subspace.residual(basis, segment[0]).norm() / segment[0].norm()) > 0.9


def test_dependent_snapshots_give_fewer_directions():
    a, b = torch.randn(2, 100, generator=torch.Generator().manual_seed(1))
    basis = subspace.basis(torch.stack([a, a + b, a + 2 * b, a]))
    assert basis.shape == (100, 2)
    assert off_orthonormal(basis) < 1e-6


def test_nothing_spanned_and_unknown_kinds_are_refused():
    with pytest.raises(ValueError, match="spans nothing"):
        subspace.basis(torch.ones(3, 10), "difference")
    with pytest.raises(ValueError, match="unknown kind 'rows'"):
        subspace.basis(torch.ones(3, 10), "rows")


def test_projection_equals_the_matrix_in_float64_and_is_differentiable():
    generator = torch.Generator().manual_seed(2)
    q = torch.linalg.qr(torch.randn(30, 4, generator=generator, dtype=torch.float64))[0]
    v = torch.randn(30, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.allclose(subspace.project(q, v), (q @ q.T) @ v, atol=1e-14)
    assert torch.allclose(subspace.residual(q, v), (torch.eye(30) - q @ q.T) @ v, atol=1e-14)
    assert torch.autograd.gradcheck(lambda x: subspace.residual(q, x), v)
