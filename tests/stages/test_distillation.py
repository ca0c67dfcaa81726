"""The loop: resuming bit by bit, the order of Algorithm 1, divergence, memory, batches."""

import pytest
import torch
import torch.nn.functional as F
from small import CLASSES, SIZE, Experts, dataset, spec

from esp_core.distillation import memory
from esp_core.distillation.outer_loop import Distillation
from esp_core.networks.flat import FlatNetwork
from esp_core.runtime.errors import UserError
from esp_core.runtime.live_memory import LiveBytes
from esp_core.training import compile_policy

CPU = torch.device("cpu")


def job(method="esp", **changes):
    return Distillation(spec(method, **changes), dataset(), Experts(), CPU)


def run(made, stop=None):
    def each(job, outcome):
        if job.step == stop:
            raise KeyboardInterrupt

    try:
        made.run(each)
    except KeyboardInterrupt:
        pass
    return {name: t.detach().clone() for name, t in made.synthetic.tensors.items()}


@pytest.mark.parametrize("method", ["dm", "esp"])
@pytest.mark.parametrize("stop", [1, 3, 4, 6])
def test_resumed_run_ends_bit_identical(method, stop):
    whole = run(job(method))
    first = job(method)
    run(first, stop)
    saved = {name: t.clone() for name, t in first.checkpoint().items()}
    second = job(method)
    second.resume(saved)
    assert second.step == stop
    for name, tensor in run(second).items():
        assert torch.equal(tensor, whole[name]), name


def test_every_step_moves_the_images_and_seeds_decide_them():
    runs = [run(job("esp", iterations=n)) for n in (0, 1, 2)]
    assert not torch.equal(runs[0]["codes"], runs[1]["codes"]) and not torch.equal(runs[1]["codes"], runs[2]["codes"])
    assert torch.equal(run(job("esp"))["codes"], run(job("esp"))["codes"])
    other = Distillation({**spec("esp"), "study_seed": 1}, dataset(), Experts(), CPU)
    assert not torch.equal(run(other)["codes"], run(job("esp"))["codes"])


def test_micro_batches_give_the_same_set():
    whole, parts = run(job("esp", micro_batch=None)), run(job("esp", micro_batch=2))
    for name in whole:
        torch.testing.assert_close(parts[name], whole[name], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("projected", [True, False])
def test_inner_step_is_projected_gradient_descent(projected):
    """theta after one step against Eq. 4 to 6 written out, in the order of Algorithm 1: G is taken before the images move."""
    recipe = spec("esp")["recipe"]
    made = job("esp", teacher={**recipe["teacher"], "projected": projected}, augment="none")
    units = torch.arange(made.synthetic.units)
    images, labels = made.synthetic.decode(units).detach(), made.synthetic.labels(units)
    run(made, 1)
    experts = Experts()
    start = next(s for e in range(2) for s in range(3) if torch.equal(experts.segment(e, s, 0)[0], made.teacher._first))
    expert = next(e for e in range(2) if torch.equal(experts.segment(e, start, 0)[0], made.teacher._first))
    segment = experts.segment(expert, start, 2).double()
    theta = segment[0].clone().requires_grad_()
    network = FlatNetwork(made.network._heads.network)
    logits = network(theta.float(), images)[1]
    loss = F.binary_cross_entropy_with_logits(logits, torch.eye(CLASSES)[labels])
    gradient = torch.autograd.grad(loss, theta)[0]
    if projected:
        basis = []
        for vector in segment:  # Gram-Schmidt, as Eq. 3
            for e in basis:
                vector = vector - (e @ vector) * e
            basis.append(vector / vector.norm())
        gradient = sum((e @ gradient) * e for e in basis)
    torch.testing.assert_close(made.teacher._theta.double(), (theta - 0.1 * gradient).detach(), rtol=1e-4, atol=1e-6)


def test_a_new_segment_every_n_steps():
    made = job("esp", iterations=7)
    opened = []
    made.run(lambda job, outcome: opened.append(job.teacher._segment))
    assert opened == [0, 0, 0, 1, 1, 1, 2]


def test_divergence_names_step_cell_and_what_to_lower():
    optimiser = {"kind": "sgd", "lr_pixels": 1e30, "momentum": 0.5}
    made = job("dm", parametrisation={"kind": "pixels", "init": "random", "clamp": 0}, optimiser=optimiser, iterations=30)
    with pytest.raises(UserError, match=r"small ipc 2 dm: the loss is (nan|inf) at step 20; lower optimiser.lr_pixels"):
        run(made)


def test_out_of_memory_halves_the_micro_batch_and_says_so(monkeypatch, capsys):
    import esp_core.distillation.micro_batcher as module

    whole = run(job("esp"))
    real, calls = module.backward, []

    def scarce(*args, micro_batch, **kwargs):
        calls.append(micro_batch)
        if micro_batch is None or micro_batch > 40:
            raise torch.OutOfMemoryError("stand-in for a full device")
        return real(*args, micro_batch=micro_batch, **kwargs)

    monkeypatch.setattr(module, "backward", scarce)
    made = job("esp")
    assert made.synthetic.images > 40
    parts = run(made)
    assert "out of device memory: micro-batch" in capsys.readouterr().out
    assert calls[-1] <= 40
    for name in whole:
        torch.testing.assert_close(parts[name], whole[name], rtol=1e-3, atol=1e-4)


def test_out_of_memory_over_real_images_takes_fewer_at_a_time(monkeypatch, capsys):
    import esp_core.distillation.micro_batcher as module

    whole = run(job("dm"))
    real = module.real_statistics

    def scarce(passes, images, labels, state, part):
        if part is None or part > 5:
            raise torch.OutOfMemoryError("stand-in for a full device")
        return real(passes, images, labels, state, part)

    monkeypatch.setattr(module, "real_statistics", scarce)
    made = job("dm")
    parts = run(made)
    assert "real images at a time" in capsys.readouterr().out
    assert made.batcher.real_part <= 5
    torch.testing.assert_close(parts["pixels"], whole["pixels"], rtol=1e-3, atol=1e-4)


def test_nothing_of_a_step_stays_alive():
    alive = []
    with LiveBytes() as mode:
        job("esp", iterations=14).run(lambda job, outcome: alive.append(mode.alive))
    assert alive[3] == alive[6] == alive[12], "each is the first step of a segment"


def test_the_micro_batch_is_what_fits(monkeypatch):
    made = job("esp", iterations=1)
    monkeypatch.setattr(memory, "total_bytes", lambda device: 10**12)
    run(made)
    assert made.batcher.micro_batch is None
    monkeypatch.setattr(memory, "total_bytes", lambda device: 10**6)
    made = job("esp", iterations=1)
    run(made)
    assert made.synthetic.images_per_unit <= made.batcher.micro_batch < made.synthetic.images


def test_synthetic_batch_limits_the_units_of_a_step():
    made = job("dm", synthetic_batch=2, iterations=1, parametrisation={"kind": "pixels", "init": "random"})
    before = made.synthetic.tensors["pixels"].detach().clone()
    after = run(made)["pixels"]
    assert 1 <= int((after != before).any(3).any(2).any(1).sum()) <= 2


def test_a_window_past_the_store_is_named():
    with pytest.raises(UserError, match="start_max 4 \\+ length 2 needs 7 snapshots an expert, the store keeps 5"):
        job("esp", teacher={**spec("esp")["recipe"]["teacher"], "start_max": 4})


def test_compiled_steps_give_the_eager_set_and_resume_bit_by_bit(written):
    eager, made = run(job("esp", compile="never")), job("esp", compile="always")
    saved = {}

    def keep(job, outcome):
        if job.step == 3:
            saved.update({name: t.clone() for name, t in job.checkpoint().items()})

    compiled = {name: t.detach().clone() for name, t in made.run(keep).tensors.items()}
    assert made.batcher.compiled == ["real sums", "synthetic whole"]
    for name in eager:
        torch.testing.assert_close(compiled[name], eager[name], rtol=1e-3, atol=1e-4)
    again = job("esp", compile="always")
    again.resume(saved)
    resumed = run(again)
    assert all(torch.equal(resumed[name], compiled[name]) for name in compiled)


def test_gradients_of_real_classes_are_compiled_where_the_walk_cannot_be(written, monkeypatch):
    import esp_core.distillation.micro_batcher as module

    monkeypatch.setattr(module, "missing_compiler", lambda device: "")
    monkeypatch.setattr(compile_policy, "WORTH_COMPILING", {"cpu": 1.0})
    settings = {"objectives": {"gradient": {}}, "teacher": {"kind": "random"}}
    eager, made = run(job("dm", compile="never", **settings)), job("dm", **settings)
    compiled = run(made)
    assert made.batcher.compiled == ["real gradient of a class"] and len(written) == 1
    for name in eager:
        torch.testing.assert_close(compiled[name], eager[name], rtol=1e-3, atol=1e-4)


def test_what_is_small_or_untraceable_or_has_no_compiler_stays_eager(written, monkeypatch, capsys):
    import esp_core.distillation.micro_batcher as module

    def compiled(made):
        run(made)
        return made.batcher.compiled

    features = {"objectives": {"features": {}}}
    monkeypatch.setattr(module, "missing_compiler", lambda device: "")
    assert compiled(job("esp")) == [], "the work is not worth it"
    assert not capsys.readouterr().err
    monkeypatch.setattr(compile_policy, "WORTH_COMPILING", {"cpu": 1.0})
    assert compiled(job("esp", compile="never")) == []
    assert compiled(job("dm", **features)) == []
    assert capsys.readouterr().err == "not compiled: objectives.features is not traceable\n"
    with pytest.raises(UserError, match="small ipc 2 dm: compile: always, but objectives.features is not traceable; use auto"):
        run(job("dm", compile="always", **features))
    monkeypatch.setattr(module, "missing_compiler", lambda device: "there is no compiler g++")
    assert compiled(job("esp")) == []
    assert capsys.readouterr().err == "not compiled: there is no compiler g++\n"
    with pytest.raises(UserError, match="compile: always, but there is no compiler g"):
        run(job("esp", compile="always"))
    assert written == []
    monkeypatch.setattr(module, "missing_compiler", lambda device: "")
    assert compiled(job("esp")) == ["real sums", "synthetic whole"] and written


def test_the_estimate_of_a_step_s_work_grows_with_what_it_walks():
    def work(images, **changes):
        made = job("esp", iterations=1, **changes)
        found = []
        made.batcher._compiles = lambda state, _: bool(found.append(made.batcher._step_operations(state, images)))
        run(made)
        return found[0]

    first, second, third = work(0), work(100), work(200)
    assert first > 0 and third - second == pytest.approx(second - first, rel=1e-9)
    network = job("esp").network
    theta = torch.randn(network.parameters)
    forward = compile_policy.operations(lambda: network(theta, torch.randn(1, 1, SIZE, SIZE)))
    assert 1 <= (second - first) / 100 / forward < 1.02, "real images are walked forward only; their class sums cost a little"
    assert work(0, synthetic_batch=8) < first


def test_an_unknown_way_to_compile_is_refused():
    with pytest.raises(UserError, match="compile: 'maybe'; use auto, always, never"):
        job("esp", compile="maybe")
