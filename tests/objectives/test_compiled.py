"""Compiled passes against a plain double backward, for states that they were not traced with, and what becomes of a failed compilation."""

import pytest
import torch
from outer_loss import KINDS, plain, setting, weighted
from torch.utils._pytree import tree_map

from esp_core import objectives
from esp_core.distillation.compiled_passes import CompiledClasses, CompiledPasses
from esp_core.distillation.exact_gradient import backward, real_passes, real_statistics
from esp_core.distillation.passes import Passes, Weighted

compile_for_real = torch.compile


@pytest.fixture(autouse=True)
def double_precision():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture(autouse=True)
def no_code_is_written(monkeypatch):
    """The whole path but for the C++ that torch would write, which takes half a minute."""
    monkeypatch.setattr(torch, "compile", lambda f, **options: compile_for_real(f, backend="aot_eager", **options))


def passes(terms, also=()):
    return CompiledPasses([t for t in terms if t.objective.needs_real]), CompiledPasses(terms, also)


def gradients(terms, synthetic, state, real, labels, over, micro_batch=None, units=None):
    for tensor in synthetic.tensors.values():
        tensor.grad = None
    sums = real_statistics(over[0], real, labels, state, micro_batch)
    outcome = backward(over[1], synthetic, sums, state, micro_batch=micro_batch, units=units)
    return outcome, [t.grad for t in synthetic.tensors.values()]


@pytest.mark.parametrize("micro_batch", [None, 5])
@pytest.mark.parametrize(
    ("choice", "loss"), [("distribution logits, sum", "bce"), ("projection relative", "ce"), ("direction", "bce"), ("esp", "bce")]
)
def test_the_plain_gradient_under_states_that_were_not_traced(choice, loss, micro_batch):
    terms = weighted(choice)
    over = passes(terms)
    for seed in range(3):  # another theta, subspace, augmentation, set and order of the classes each time
        synthetic, state, real, labels = setting("latent", loss, seed)
        wanted = plain(choice, synthetic, state, real, labels)
        reference = torch.autograd.grad(wanted, list(synthetic.tensors.values()))
        outcome, found = gradients(terms, synthetic, state, real, labels, over, micro_batch)
        assert float(outcome.total) == pytest.approx(float(wanted.detach()), rel=1e-10)
        for ours, theirs in zip(found, reference, strict=True):
            assert (ours - theirs).norm() <= 1e-8 * theirs.norm()
    assert over[1].names == (["whole"] if micro_batch is None else ["sums", "back"])
    assert over[0].names == ["sums"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("micro_batch", [None, 4])
def test_the_sums_and_values_of_eager_passes(kind, micro_batch):
    terms, also = weighted("distribution logits, sum"), (objectives.build("projection"),)
    case = setting(kind)
    ours, _ = gradients(terms, *case, passes(terms, also), micro_batch)
    theirs, _ = gradients(terms, *case, (real_passes(terms), Passes(terms, also)), micro_batch)
    torch.testing.assert_close(vars(ours), vars(theirs))
    assert set(ours.synthetic) == {"class_logits", "class_count", "gradient"}


def test_the_rest_of_a_split_runs_eagerly_and_forgetting_compiles_anew(capsys):
    terms = weighted("esp")
    case, over = setting("pixels"), passes(terms)
    units = torch.arange(11)
    _, whole = gradients(terms, *case, over, units=units)
    for size in (4, 5):
        for one in over:
            one.forget()
        _, parts = gradients(terms, *case, over, size, units)  # 11 images: 4, 4, 3 and 5, 5, 1
        torch.testing.assert_close(parts, whole)
        assert f"back: compiled for {size} images" in capsys.readouterr().err


@pytest.mark.parametrize("failure", ["raises", "differs"])
def test_eager_goes_on_where_compiling_fails_or_gives_another_result(monkeypatch, capsys, failure):
    def broken(function, **_):
        if failure == "raises":
            raise RuntimeError("no such instruction\nand a long story")
        return lambda *given: tree_map(lambda x: 1.2 * x, function(*given))

    terms, case = weighted("projection"), setting("pixels")
    _, reference = gradients(terms, *case, (real_passes(terms), Passes(terms)))
    monkeypatch.setattr(torch, "compile", broken)
    over = passes(terms)
    for _ in range(2):
        _, found = gradients(terms, *case, over)
        assert all(torch.equal(a, b) for a, b in zip(found, reference, strict=True))
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("whole")]
    assert over[1].names == [] and len(said) == 1, "said once, and not tried again"
    assert (
        said[0]
        == {
            "raises": "whole: not compiled, RuntimeError: no such instruction",
            "differs": "whole: not compiled, its result differs from eager's by 0.2 of the norm",
        }[failure]
    )


def test_the_first_result_is_that_of_the_code_that_goes_on(monkeypatch):
    """So a job that was resumed at a step gives the bits of one that came there in one go."""
    monkeypatch.setattr(torch, "compile", lambda f, **_: lambda *given: tree_map(lambda x: 1.001 * x, f(*given)))
    terms, case = weighted("projection"), setting("pixels")
    over = passes(terms)
    (_, first), (_, second) = gradients(terms, *case, over), gradients(terms, *case, over)
    _, eager = gradients(terms, *case, (real_passes(terms), Passes(terms)))
    assert torch.equal(first[0], second[0]) and not torch.equal(first[0], eager[0])


def test_out_of_memory_is_not_taken_for_a_failed_compilation(monkeypatch):
    def full(function, **_):
        raise torch.OutOfMemoryError("stand-in for a full device")

    monkeypatch.setattr(torch, "compile", full)
    terms = weighted("projection")
    with pytest.raises(torch.OutOfMemoryError):
        gradients(terms, *setting("pixels"), passes(terms))


class Peeking(objectives.build("distribution").__class__):
    """Takes another way where the sums say so, which no trace can follow."""

    def loss(self, synthetic, real, state):
        return super().loss(synthetic, real, state) * (2 if float(synthetic["class_features"].detach().sum()) > 0 else 3)


def test_an_objective_that_cannot_be_traced_stays_eager(capsys):
    terms = [Weighted("mine", Peeking("features", "mean"), 1.0)]
    case, over = setting("pixels"), passes(terms)
    _, found = gradients(terms, *case, over)
    assert over[1].names == [] and over[0].names == ["sums"] and "whole: not compiled" in capsys.readouterr().err
    _, reference = gradients(terms, *case, (real_passes(terms), Passes(terms)))
    assert all(torch.equal(a, b) for a, b in zip(found, reference, strict=True))


def test_gradients_of_single_classes_under_states_that_were_not_traced():
    terms = [Weighted("gradient", objectives.build("gradient"), 1.0)]
    over = CompiledClasses(terms)
    for seed in range(3):
        _, state, real, _ = setting("pixels", "ce", seed)
        labels = (torch.arange(15) % 5).sort().values.clamp(max=2)  # 3, 3 and 9 images a class, which the first code is not for
        found = over.sums(over.batch(state, real, labels))["class_gradient"]
        theta = state.theta.clone().requires_grad_()
        images = torch.cat([state.draw(one[None], label[None]) for one, label in zip(real, labels, strict=True)])
        losses = torch.nn.functional.cross_entropy(state.network(theta, images)[1], labels, reduction="none")
        for label in range(3):
            wanted = torch.autograd.grad(losses[labels == label].sum(), theta, retain_graph=True)[0]
            assert (found[label] - wanted).norm() <= 1e-10 * wanted.norm()
    assert over.names == ["gradient of a class"]


def devices():
    return ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"))]


@pytest.mark.parametrize("device", devices())
def test_code_that_is_really_compiled_agrees(monkeypatch, device):
    monkeypatch.setattr(torch, "compile", compile_for_real)
    terms = weighted("esp")
    over = passes(terms)
    for seed in range(2):
        synthetic, state, real, labels = setting("latent", seed=seed, device=device)
        _, found = gradients(terms, synthetic, state, real, labels, over)
        _, reference = gradients(terms, synthetic, state, real, labels, (real_passes(terms), Passes(terms)))
        for ours, theirs in zip(found, reference, strict=True):
            assert (ours - theirs).norm() <= 1e-8 * theirs.norm()
    assert over[1].names == ["whole"] and over[0].names == ["sums"]
