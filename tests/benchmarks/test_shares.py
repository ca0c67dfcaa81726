"""The gradients of single objectives add up to the one that the method's own step takes."""

import pytest
import torch
from small import Experts, dataset, spec

from benchmarks.shares import gradient, gradients
from esp_core.distillation.outer_loop import Distillation

CPU = torch.device("cpu")


@pytest.mark.parametrize("micro_batch", [None, 4])
def test_the_parts_add_up_to_the_methods_own_gradient(micro_batch):
    job = spec("esp", micro_batch=micro_batch)
    whole = {}
    Distillation(job, dataset(), Experts(), CPU).run(lambda run, _: whole.update({run.step - 1: gradient(run)}))
    parts = gradients(job, dataset(), Experts(), CPU, [0, 2, 4])
    for count, found in parts.items():
        assert found.keys() == {"distribution", "projection"}
        assert all(part.norm() > 0 for part in found.values())
        torch.testing.assert_close(sum(found.values()), whole[count], rtol=1e-4, atol=1e-6)


def test_a_weight_scales_its_own_gradient_and_no_other():
    one, ten = (spec("esp"), spec("esp"))
    ten["recipe"]["objectives"] = {"distribution": {"weight": 1.0}, "projection": {"weight": 0.1}}
    a, b = (gradients(job, dataset(), Experts(), CPU, [0])[0] for job in (one, ten))
    torch.testing.assert_close(b["projection"], 10 * a["projection"])
    torch.testing.assert_close(b["distribution"], a["distribution"], rtol=0, atol=0)
