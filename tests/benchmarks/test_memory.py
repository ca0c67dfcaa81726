"""Section 3.5's claim: memory of ESP's outer step does not grow with the images or the inner steps; an unrolled graph does."""

import pytest
import torch

from benchmarks.memory import LiveBytes, Setting, peak, rows


def make(ipc):
    return Setting(ipc, size=16, channels=1, width=16, micro_batch=64, device=torch.device("cpu"))


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


@pytest.mark.parametrize("steps", [1, 50])
def test_exact_walk_is_flat_in_ipc_and_steps(steps):
    base = make(1)
    reference = peak(lambda: base.esp(1, base.micro_batch))
    setting = make(1 if steps > 1 else 50)
    assert peak(lambda: setting.esp(steps, setting.micro_batch)) <= 1.1 * reference


def test_unrolled_graph_grows_with_steps_and_plain_backward_with_ipc():
    setting = make(1)
    one, four = (peak(lambda n=n: setting.unrolled(n)) for n in (1, 4))
    assert four > 2.5 * one
    small, large = make(1), make(10)
    assert peak(lambda: large.esp(1, None)) > 5 * peak(lambda: small.esp(1, None))


def test_rows_leave_out_what_was_not_measured():
    table = list(rows([1, 2], [1, 2], make, unroll_limit=100))
    assert [(row["axis"], row["ipc"], row["steps"]) for row in table] == [("ipc", 1, 1), ("ipc", 2, 1), ("steps", 2, 1), ("steps", 2, 2)]
    assert all((row["mtt_unrolled"] is None) == (row["images"] * row["steps"] > 100) for row in table)
