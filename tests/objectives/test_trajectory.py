"""MTT's gradient and TESLA's estimator against explicit loops of torch.autograd, in float64; memory; whole runs and resuming."""

from itertools import chain, islice

import pytest
import torch
from small import LATENT, NETWORK, Experts, dataset
from torch.func import functional_call

from esp_core import networks, objectives, parametrisations
from esp_core.augment import dsa
from esp_core.datasets.normalisation import Normalisation
from esp_core.distillation.outer_loop import Distillation
from esp_core.networks.flat import FlatNetwork, flatten
from esp_core.objectives import OuterStep, State
from esp_core.parametrisations import Task
from esp_core.runtime.errors import UserError
from esp_core.runtime.live_memory import peak
from esp_core.study import methods
from esp_core.training.traced import Traced

CLASSES, SIZE, DSA = 3, 8, "color_crop_cutout_flip_scale_rotate"
KINDS = {
    "pixels": {"kind": "pixels"},
    "formation": {"kind": "formation", "init": "noise"},
    "latent": {"kind": "latent", "decoders": 2, "code_channels": 2, "width": 2, "upsamplings": 2},
}


@pytest.fixture
def double_precision():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def outer_step(kind="pixels", width=4, seed=3, units=None):
    """A step on untrained weights whose expert goes a made-up way, and the module behind its network."""
    generator = torch.Generator().manual_seed(seed)
    task = Task(CLASSES, 4, 1, SIZE, Normalisation(torch.tensor([0.4]), torch.tensor([0.3])))
    synthetic = parametrisations.build(task, **KINDS[kind])
    synthetic.initialise(generator, None)
    for tensor in synthetic.tensors.values():
        tensor.requires_grad_()
    module = networks.build("convnet3", 1, SIZE, CLASSES, seed=5, width=width, depth=2)
    theta = flatten(module)
    target = theta + 0.1 * torch.randn(len(theta), generator=generator)
    state = State(FlatNetwork(module), theta, CLASSES, dsa.draw("none", CLASSES, generator), target=target)
    units = torch.arange(synthetic.units) if units is None else units
    return OuterStep(synthetic, units, state, None, None, DSA, generator), module


def objective(memory="graph", steps=4, batch=None, step_size=0.2):
    made = objectives.build("trajectory", steps=steps, batch=batch, step_size=step_size, memory=memory)
    made.tensors["step_size"].requires_grad_()
    return made


def again(of):
    """The same step with the same draws to come, and no gradient yet."""
    for tensor in of.synthetic.tensors.values():
        tensor.grad = None
    copy = torch.Generator()
    copy.set_state(of.generator.get_state())
    return OuterStep(of.synthetic, of.units, of.state, None, None, of.augment, copy, of.traced)


def taught(of, made, weight=1.0):
    """Value and gradients, by name, of one backward pass."""
    made.tensors["step_size"].grad = None
    value = made.backward(again(of), weight)
    return value, {name: t.grad.clone() for name, t in chain(of.synthetic.tensors.items(), made.tensors.items())}


def unrolled(of, module, made, *, constant=False):
    """The loss by a loop over steps, with parameters by name; `constant`: the gradient of a step sees theta_i as a constant."""
    images, labels = of.synthetic.decode(of.units), of.synthetic.labels(of.units)
    per_unit = of.synthetic.images_per_unit
    names = [name for name, _ in module.named_parameters()]
    weights = dict(zip(names, of.state.network.split(of.state.theta), strict=True))
    for step in made._plan(again(of)):
        rows = [unit * per_unit + k for unit in step.positions.tolist() for k in range(per_unit)]
        inside = {name: w.detach().requires_grad_() if constant or not w.requires_grad else w for name, w in weights.items()}
        logits = functional_call(module, inside, (step.draw(images[rows]),))
        loss = -logits.log_softmax(1)[torch.arange(len(rows)), labels[rows]].sum() / len(rows)
        gradients = torch.autograd.grad(loss, list(inside.values()), create_graph=True)
        weights = {n: w - made.tensors["step_size"] * g for (n, w), g in zip(weights.items(), gradients, strict=True)}
    end = torch.cat([w.flatten() for w in weights.values()])
    return ((end - of.state.target) ** 2).sum() / ((of.state.theta - of.state.target) ** 2).sum()


def written_out(of, module, made, **kwargs):
    """Value and gradients, by name, of `unrolled`."""
    tensors = {**of.synthetic.tensors, **made.tensors}
    value = unrolled(of, module, made, **kwargs)
    return value.detach(), dict(zip(tensors, torch.autograd.grad(value, list(tensors.values())), strict=True))


@pytest.mark.parametrize("batch", [None, 4])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("memory", "compiled"), [("graph", False), ("replay", False), ("tesla", False), ("graph", True), ("tesla", True)])
def test_gradient_is_that_of_the_loop(double_precision, memory, compiled, kind, batch, written):
    of, module = outer_step(kind)
    of.traced = Traced() if compiled else None
    made = objective(memory, batch=batch)
    value, gradients = taught(of, made, weight=0.7)
    wanted, reference = written_out(of, module, made, constant=memory == "tesla")
    assert float(value) == pytest.approx(float(wanted), rel=1e-12)
    assert not value.requires_grad
    for name, gradient in gradients.items():
        assert (gradient - 0.7 * reference[name]).norm() / (0.7 * reference[name]).norm() <= 1e-8, name
    assert (of.traced.names if of.traced else []) == ["student's step", "student's step back"] * compiled


def test_the_estimator_is_another_gradient_but_for_one_step(double_precision):
    for steps, same in ((1, True), (4, False)):
        of, _ = outer_step()
        exact, estimate = (taught(of, objective(memory, steps))[1]["pixels"] for memory in ("replay", "tesla"))
        assert ((exact - estimate).norm() / exact.norm() < 1e-9) == same


@pytest.mark.parametrize("memory", ["graph", "replay"])
def test_gradient_is_a_finite_difference(double_precision, memory):
    of, _ = outer_step()
    made = objective(memory, batch=5)
    _, gradients = taught(of, made)
    for name, tensor in (("pixels", of.synthetic.tensors["pixels"]), ("step_size", made.tensors["step_size"])):
        way = torch.randn(tensor.shape, generator=torch.Generator().manual_seed(1))
        values = []
        for sign in (1, -2, 1):
            with torch.no_grad():
                tensor += sign * 1e-6 * way
            values.append(float(taught(of, made)[0]))
        assert (values[0] - values[1]) / 2e-6 == pytest.approx(float((gradients[name] * way).sum()), rel=1e-5), name


def test_minibatches_take_every_unit_once_a_pass_and_draws_are_the_images_own():
    of, _ = outer_step("latent")
    units, per_unit = len(of.units), of.synthetic.images_per_unit
    a_pass = -(-units // 4)
    plan = objective(steps=2 * a_pass, batch=4 * per_unit)._plan(again(of))
    parts = iter(step.positions.tolist() for step in plan)
    first = list(islice(parts, a_pass))
    second = list(islice(parts, a_pass))
    assert sorted(chain(*first)) == sorted(chain(*second)) == list(range(units)) and first != second
    for step in plan:
        assert len(set(step.draw.operations)) == 1, "one operation a batch"
        assert len(step.draw.uniforms.unique(dim=0)) == len(step.positions) * per_unit, "numbers of each image's own"
    assert len({step.draw.operations[0] for step in plan}) > 1, "a fresh draw every step"


def test_a_part_of_the_set_learns_from_its_own_images(double_precision):
    of, _ = outer_step(units=torch.tensor([0, 5, 9]))
    gradients = {memory: taught(of, objective(memory, batch=2))[1]["pixels"] for memory in ("graph", "replay")}
    assert gradients["graph"].abs().sum((1, 2, 3)).nonzero().squeeze(1).tolist() == of.units.tolist()
    torch.testing.assert_close(gradients["graph"], gradients["replay"], rtol=1e-8, atol=1e-10)


def test_memory_grows_by_the_weights_with_replay_not_at_all_with_tesla_and_by_the_graph_otherwise():
    of, _ = outer_step(width=16)
    of.augment = "color"  # the same operation, and so the same arithmetic, in every step
    weights, images = 4 * len(of.state.theta), of.synthetic.images
    drawn = (16 + 3 * 8) * images  # bytes of a step's draw, and of its minibatch's positions, units and labels, made before the first walk

    def growth(memory):
        few, many = (peak(lambda n=n: taught(of, objective(memory, n))) for n in (4, 12))
        return (many - few) / 8

    assert growth("replay") <= weights + drawn + 64
    assert growth("tesla") <= drawn + 64
    assert growth("graph") > 10 * (weights + drawn)


def test_a_step_size_stays_positive():
    made = objective(step_size=0.2)
    with torch.no_grad():
        made.tensors["step_size"] -= 1
    made.restrict()
    assert 0 < float(made.tensors["step_size"].detach()) < 1e-3


def test_mistakes_are_named():
    of, _ = outer_step()
    of.state.target = None
    with pytest.raises(UserError, match=r"objectives.trajectory: needs a segment's end; use teacher.kind: experts"):
        objective().backward(of, 1.0)


RUNS = {
    "mtt compiled": {"compile": "always"},
    "mtt": {},
    "tesla": {},
    "mtt in minibatches": {"objectives": {"trajectory": {"memory": "replay", "batch": 4}}, "synthetic_batch": 5},
    "mtt with codes": {
        "parametrisation": LATENT,
        "optimiser": {"kind": "adam", "lr_codes": 0.1, "lr_decoders": 0.01, "lr_step_size": 0.01},
    },
    "mtt with projection": {"objectives": {"projection": {"weight": 0.01}}, "teacher": {"steps": 2}},
}


def job(name):
    method = name.split()[0]
    rates = {"lr_pixels": 1.0, "lr_step_size": 0.01}
    small = {"teacher": {"start_max": 2}, "objectives": {"trajectory": {"steps": 3, "step_size": 0.1}}, "iterations": 3, "optimiser": rates}
    recipe = methods.recipe("run", "small", 2, custom={"small": {"base": method, **small}, "run": {"base": "small", **RUNS[name]}})
    spec = {"study_seed": 0, "dataset": "small", "ipc": 2, "method": name, "network": NETWORK, "recipe": recipe}
    return Distillation(spec, dataset(), Experts(), torch.device("cpu"))


@pytest.mark.parametrize("name", RUNS)
def test_a_run_learns_its_step_size_and_resumes_bit_identically(name, written):
    whole, saved, values = job(name), [], []

    def each(job, outcome):
        saved.append({key: t.clone() for key, t in job.checkpoint().items()})
        values.append(outcome.values)

    before = {name: t.detach().clone() for name, t in [*whole.synthetic.tensors.items(), *whole.learned.items()]}
    whole.run(each)
    assert all({"trajectory"} <= v.keys() and all(torch.isfinite(x) for x in v.values()) for v in values)
    for stop in (1, 2):
        resumed = job(name)
        resumed.resume(saved[stop - 1])
        assert resumed.step == stop
        resumed.run(lambda job, outcome: None)
        after = resumed.checkpoint()
        assert after.keys() == saved[-1].keys()
        for key, tensor in saved[-1].items():
            assert torch.equal(after[key], tensor), (stop, key)
    assert before["step_size"] == 0.1 and saved[-1]["learned/step_size"] != 0.1
    after = {**whole.synthetic.tensors, **whole.learned}
    assert not any(torch.equal(before[key], tensor) for key, tensor in after.items()), "every stored tensor has moved"
    assert bool(whole.compiled) == bool(written) == ("compiled" in name)
