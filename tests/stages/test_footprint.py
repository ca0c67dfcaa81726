"""Memory of a step: flat in IPC and in steps for the walk (ESP Section 3.5), growing for graphs of everything."""

import pytest
import torch
from small import ADAM, COMMON, LATENT, NETWORK, SGD, TEACHER

from esp_core.distillation import memory
from esp_core.distillation.passes import Passes
from esp_core.objectives.trajectory import Trajectory
from esp_core.runtime.live_memory import LiveBytes, peak
from esp_core.stages.footprint import PLAIN, distillation, needed, run

SHAPE = (1, 8, 3)  # channels, size, classes
ESP = {
    **COMMON,
    "augment": "crop",
    "parametrisation": LATENT,
    "teacher": TEACHER,
    "optimiser": ADAM,
    "objectives": {"distribution": {"weight": 1.0}, "projection": {"weight": 1.0}},
}


def mtt(way):
    own = {"parametrisation": {"kind": "pixels", "init": "random"}, "teacher": TEACHER, "optimiser": {**SGD, "lr_step_size": 0.1}}
    return {**COMMON, **own, "augment": "crop", "objectives": {"trajectory": {"steps": 3, "batch": None, "step_size": 0.1, "memory": way}}}


def rows(**recipes):
    spec = {"ipc": [10, 50], "steps": [2, 8], "at": 10, "network": NETWORK}
    spec["recipes"] = {name: {"10": recipe, "50": recipe} for name, recipe in recipes.items()}
    return {(row["axis"], row["method"], row["ipc"], row["steps"]): row["bytes"] for row in run(spec, SHAPE)}


def test_live_bytes_counts_what_is_alive_at_once():
    def step():
        a = torch.zeros(1000)  # 4,000 bytes
        b = a + 1  # 8,000 alive
        del a
        c = b * 2  # 8,000 alive
        del b, c
        torch.zeros(500)  # 2,000

    assert peak(step) == 8000
    with LiveBytes() as mode:
        kept = torch.zeros(10)
        kept.add_(1)
        kept.view(2, 5)
    assert (mode.alive, mode.peak) == (40, 40)


@pytest.fixture(scope="module")
def measured():
    return rows(esp=ESP, mtt=mtt("graph"), tesla=mtt("tesla"))


def test_the_exact_walk_is_flat_in_ipc_and_steps(measured):
    assert measured["ipc", "esp", 50, 2] <= 1.2 * measured["ipc", "esp", 10, 2]  # the optimiser keeps three values a stored number
    assert measured["steps", "esp", 10, 8] <= 1.1 * measured["steps", "esp", 10, 2]


def test_a_plain_double_backward_grows_with_ipc_and_an_unrolled_graph_with_steps(measured):
    assert measured["ipc", "esp" + PLAIN, 50, 2] > 2.5 * measured["ipc", "esp" + PLAIN, 10, 2]
    assert measured["steps", "mtt", 10, 8] > 2.5 * measured["steps", "mtt", 10, 2]
    assert measured["steps", "tesla", 10, 8] < 1.2 * measured["steps", "tesla", 10, 2]


def test_what_would_not_fit_is_left_out(monkeypatch):
    job = distillation(mtt("graph"), NETWORK, 10, SHAPE, torch.device("cpu"), 1, 64)
    limit = 2 * needed(job, 5)
    monkeypatch.setattr(memory, "total_bytes", lambda _: limit)
    found = rows(mtt=mtt("graph"), tesla=mtt("tesla"))
    assert found["steps", "mtt", 10, 2] is not None and found["steps", "mtt", 10, 8] is None
    assert found["steps", "tesla", 10, 8] is not None


@pytest.mark.parametrize("recipe", [ESP, mtt("graph")], ids=["micro-batches", "whole"])
def test_what_the_device_runs_out_of_has_no_bytes(recipe, monkeypatch):
    """A walk would go on in smaller parts, which is another measurement."""

    def scarce(self, *_):
        raise torch.OutOfMemoryError("stand-in for a full device")

    monkeypatch.setattr(Trajectory, "backward", scarce)
    whole = Passes.whole
    monkeypatch.setattr(Passes, "whole", lambda self, batch, real: scarce(self) if len(batch.images) > 20 else whole(self, batch, real))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    found = rows(method=recipe)
    assert found["ipc", "method" + PLAIN * (recipe is ESP), 10, 2] is None
