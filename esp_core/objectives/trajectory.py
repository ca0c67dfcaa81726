"""`trajectory`: a student trained on the synthetic set should end where the expert does (MTT, Cazenavette et al., CVPR 2022; Eq. 1).

The gradient is computed in one of three ways, under the same random draws. "graph" keeps the graph of all student steps, as MTT's code
does: memory grows with steps x images. "replay" is exact too. With g_i the student's gradient at theta_i and a_i = d loss / d theta_i,

    a_i = a_{i+1} - lr d<g_i, a_{i+1}>/d theta_i     images of step i: - lr d<g_i, a_{i+1}>/dx     step size: - sum_i <g_i, a_{i+1}>

so the forward pass stores only theta_i, P numbers a step, and the backward pass needs the graph of one step at a time. "tesla" is the
estimator of TESLA (Cui et al., ICML 2023): theta_i is a constant inside g_i, so a_i = a_N for all i and nothing is stored. It has the
full factor of their formula; their published code halves it.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

import torch
from torch import Tensor

from esp_core.augment import dsa
from esp_core.augment.dsa import Chain, Draw, Placement
from esp_core.objectives import NonAdditive, OuterStep, training_loss
from esp_core.runtime.errors import UserError
from esp_core.runtime.transfer import send

TEACHER = "experts"
GROUPS = ("step_size",)
FORWARDS = 12  # cost of a student step in forward passes: its gradient, then the gradient again and a backward pass through it
SMALLEST = 1e-6  # lower bound of the step size; in MTT's code it can become negative, and the student then ascends its loss


@dataclass(frozen=True)
class _Step:
    """The minibatch of one student step: positions among the units of the outer step, and their augmentation."""

    positions: Tensor  # (u,) int64, into outer.units
    draw: Draw | Chain  # one operation, parameters per image


class _Placed(NamedTuple):
    """A `_Step` on the device, with its units and the labels (n,) of their images; `positions` is None if it takes all units in order."""

    positions: Tensor | None
    units: Tensor
    labels: Tensor
    augment: Placement


class Trajectory(NonAdditive):
    """||theta_N - target||^2 / ||theta_0 - target||^2 after N = `steps` steps of gradient descent from theta_0 = state.theta.

    A step descends the mean cross-entropy of a minibatch of `batch` images (null: all), made of units drawn without replacement in
    each pass over the set. Each minibatch has a new DSA draw: one operation, parameters per image. The learning rate of the steps,
    `tensors["step_size"]`, starts at `step_size` and is learned under optimiser.lr_step_size. `memory`: graph, replay or tesla;
    compiled code uses replay in place of graph.
    """

    needs_real = False

    def __init__(self, steps: int, batch: int | None, step_size: float, memory: str):
        super().__init__()
        self.steps, self.batch, self.memory, self.keeps_graph = steps, batch, memory, memory == "graph"
        self.tensors = {"step_size": torch.tensor(step_size)}
        self.floors = {"step_size": SMALLEST}

    def backward(self, outer: OuterStep, weight: float) -> Tensor:
        if outer.state.target is None:
            raise UserError("objectives.trajectory: needs a segment's end; use teacher.kind: experts")
        student = _Student(outer, self._plan(outer), self.tensors["step_size"])
        ways: dict[str, Callable[[_Student, float], Tensor]] = {"graph": _through_graph, "replay": _by_replay, "tesla": _by_tesla}
        replays = outer.traced is not None and self.memory == "graph"  # torch.compile cannot continue a graph across calls
        return ways["replay" if replays else self.memory](student, weight)

    def forward_passes(self, images: int, real: int) -> int:
        return self.steps * min(self.batch or images, images) * FORWARDS

    def restrict(self) -> None:
        with torch.no_grad():
            self.tensors["step_size"].clamp_(min=SMALLEST)

    def _plan(self, outer: OuterStep) -> list[_Step]:
        """The minibatches of all steps, drawn before the first pass so that all passes use the same."""
        per_unit = outer.synthetic.images_per_unit
        parts = _passes(len(outer.units), self.batch and max(1, self.batch // per_unit), outer.generator)
        chosen = [next(parts) for _ in range(self.steps)]
        return [_Step(p, dsa.draw(outer.augment, len(p) * per_unit, outer.generator, same_operation=True)) for p in chosen]


def _passes(units: int, batch: int | None, generator: torch.Generator) -> Iterator[Tensor]:
    """An endless stream of minibatches of positions; every pass over the units has its own order."""
    while True:
        order = torch.randperm(units, generator=generator) if batch and batch < units else torch.arange(units)
        yield from order.split(batch or units)


class _Student:
    """The student's steps as functions of theta and images, and the loss at its end (Eq. 1)."""

    def __init__(self, outer: OuterStep, plan: list[_Step], step_size: Tensor):
        self.outer, self.step_size = outer, step_size
        self.state, self.synthetic = outer.state, outer.synthetic
        self.units, self.plan = send((outer.units, [self._placed(step) for step in plan]), self.state.theta.device)
        assert self.state.target is not None
        self.start, self.target = self.state.theta.detach(), self.state.target.detach()
        self.lr = step_size.detach()
        self.learned = [t for t in (*self.synthetic.tensors.values(), step_size) if t.requires_grad]

    def _placed(self, step: _Step) -> _Placed:
        units, whole = self.outer.units[step.positions], torch.equal(step.positions, torch.arange(len(self.outer.units)))
        return _Placed(None if whole else step.positions, units, self.synthetic.labels(units), step.draw.at())

    def images(self, step: _Placed) -> Tensor:
        return self.synthetic.decode(step.units)

    def gradient(self, theta: Tensor, seen: Tensor, labels: Tensor, *, graph: bool) -> Tensor:
        """(P,), the gradient at theta (which requires grad) of the mean cross-entropy over the step's augmented images."""
        with torch.enable_grad():
            logits = self.state.network(theta, seen)[1]
            loss = training_loss(logits, labels, "ce") / len(labels)
            return torch.autograd.grad(loss, theta, create_graph=graph)[0]

    def walk(self) -> Iterator[Tensor]:
        """Yield theta_0 to theta_N, without a graph and one at a time."""
        theta = self.start
        yield theta
        for step in self.plan:
            with torch.no_grad():
                seen = step.augment(self.images(step))
            theta = theta - self.lr * self._run("student's step", self._forth, seen, theta, seen, step.labels)
            yield theta

    def loss(self, end: Tensor) -> Tensor:
        return (end - self.target).square().sum() / (self.start - self.target).square().sum()

    def adjoint(self, end: Tensor) -> Tensor:
        """(P,), the derivative of the loss with respect to theta_N."""
        return 2 * (end - self.target) / (self.start - self.target).square().sum()

    def send_back(self, theta: Tensor, step: _Placed, adjoint: Tensor) -> tuple[Tensor, Tensor]:
        """Backward pass of a step: add to the learned tensors' grad; return g (P,) and the adjoint's change, -lr d<g, a>/d theta (P,)."""
        seen = step.augment(self.images(step))
        given = (theta, seen.detach(), step.labels, adjoint, self.lr)
        gradient, change, to_images, to_step_size = self._run("student's step back", self._back, seen, *given)
        learned = [(seen, to_images), (self.step_size, to_step_size)]
        roots, back = zip(*((t, grad) for t, grad in learned if t.requires_grad), strict=True)
        torch.autograd.backward(roots, back, inputs=self.learned)
        return gradient, change

    def _run(self, name: str, pure: Callable[..., Any], seen: Tensor, *given: Tensor) -> Any:
        found = None if self.outer.traced is None else self.outer.traced(name, pure, len(seen), *given)
        return pure(*given) if found is None else found

    def _forth(self, theta: Tensor, seen: Tensor, labels: Tensor) -> Tensor:
        return self.gradient(theta.detach().requires_grad_(), seen, labels, graph=False)

    @torch.enable_grad()
    def _back(self, theta: Tensor, seen: Tensor, labels: Tensor, adjoint: Tensor, lr: Tensor) -> tuple[Tensor, ...]:
        """g (P,), and the derivatives of -lr <g, a> with respect to theta (P,), the augmented images and lr."""
        theta, seen, lr = (t.detach().requires_grad_() for t in (theta, seen, lr))
        gradient = self.gradient(theta, seen, labels, graph=True)
        along = -(gradient * adjoint).sum() * lr
        return gradient.detach(), *torch.autograd.grad(along, [theta, seen, lr])


def _through_graph(student: _Student, weight: float) -> Tensor:
    decoded = student.synthetic.decode(student.units)  # once for all steps
    decoded = decoded.unflatten(0, (len(student.units), student.synthetic.images_per_unit))
    theta = student.start.clone().requires_grad_()
    for step in student.plan:
        images = (decoded if step.positions is None else decoded.index_select(0, step.positions)).flatten(0, 1)
        theta = theta - student.step_size * student.gradient(theta, step.augment(images), step.labels, graph=True)
    loss = student.loss(theta)
    (weight * loss).backward(inputs=student.learned)
    return loss.detach()


def _by_replay(student: _Student, weight: float) -> Tensor:
    thetas = list(student.walk())
    end = thetas.pop()
    adjoint = weight * student.adjoint(end)
    for step in reversed(student.plan):
        adjoint = adjoint + student.send_back(thetas.pop(), step, adjoint)[1]
    return student.loss(end)


def _by_tesla(student: _Student, weight: float) -> Tensor:
    end = deque(student.walk(), maxlen=1).pop()
    adjoint, theta = weight * student.adjoint(end), student.start
    for step in student.plan:
        theta = theta - student.lr * student.send_back(theta, step, adjoint)[0]
    return student.loss(end)


def build(
    steps: Annotated[int, ">= 1"] = 30,
    batch: Annotated[int, ">= 1"] | None = None,
    step_size: Annotated[float, "> 0"] = 0.01,
    memory: Literal["graph", "replay", "tesla"] = "graph",
) -> Trajectory:
    """See `Trajectory`.

    steps: steps of gradient descent that the student takes on the synthetic set in one outer step; MTT's code, syn_steps, varies by cell
    batch: images of one student step, drawn without replacement in each pass over the set, null takes all; MTT's code, batch_syn
    step_size: what the student's learning rate starts from, it is learned under optimiser.lr_step_size; MTT's code, lr_teacher
    memory: how the gradient is found; graph keeps that of all steps, MTT; replay gives the same gradient, keeps the
        graph of one step and computes each step twice, ours; tesla is TESLA's estimator at constant memory
    """
    return Trajectory(steps, batch, step_size, memory)
