"""What a plan knows of a set's size is what the parametrisation itself finds, and a cell without room is one line at the plan."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esp_core import parametrisations
from esp_core.parametrisations import Task
from esp_core.runtime.errors import UserError
from esp_core.study import budget
from esp_core.study.config import Study

LATENT = {"kind": "latent", "decoders": 20, "code_channels": 4, "width": 8, "upsamplings": 2, "init": "noise"}
CELLS = st.builds(budget.Cell, st.integers(2, 6), st.integers(1, 4), st.sampled_from([1, 3]), st.sampled_from([6, 8, 12, 16]))
KINDS = st.one_of(
    st.builds(
        lambda d, c, w, u: {"kind": "latent", "decoders": d, "code_channels": c, "width": w, "upsamplings": u, "init": "noise"},
        *(st.integers(1, 12), st.integers(1, 8), st.integers(1, 8), st.integers(1, 4)),
    ),
    st.builds(lambda f: {"kind": "formation", "factor": f, "init": "noise"}, st.integers(1, 5)),
    st.just({"kind": "pixels", "init": "noise"}),
)


def outcome(ask):
    try:
        ask()
    except UserError as error:
        return str(error)
    return ""


@given(KINDS, CELLS)
@settings(deadline=None, max_examples=150)
def test_the_plan_refuses_what_the_job_would_refuse_and_nothing_else(parametrisation, cell):
    task = Task(cell.classes, cell.ipc, cell.channels, cell.size)
    assert cell.budget == task.budget
    assert outcome(lambda: budget.check(parametrisation, cell)) == outcome(lambda: parametrisations.build(task, **parametrisation))


def study(methods, **dataset):
    return Study({"study": "a", "datasets": {"cifar10": {"ipc": [1], **dataset}}, "methods": methods})


@pytest.mark.parametrize(
    ("parametrisation", "options", "line"),
    [
        (
            LATENT | {"decoders": 60},
            {},
            "methods.esp.cells.cifar10/1: parametrisation latent: 60 decoders take 31,860 of 30,720 numbers",
        ),
        (LATENT, {"size": 8}, "methods.esp.cells.cifar10/1: parametrisation latent: 20 decoders take 10,620 of 1,920 numbers at IPC 1"),
        (LATENT | {"upsamplings": 6}, {}, "methods.esp.cells.cifar10/1: parametrisation.upsamplings: 6 does not divide 32 pixels"),
        ({"kind": "formation", "factor": 3}, {}, "methods.esp.cells.cifar10/1: parametrisation.factor: 3 does not divide 32 pixels"),
    ],
)
def test_a_cell_without_room_is_told_at_the_plan(parametrisation, options, line):
    optimiser = {"kind": "adam", "lr_pixels": 0.1} if parametrisation["kind"] == "formation" else {}
    with pytest.raises(UserError) as error:
        study({"esp": {"parametrisation": parametrisation, "optimiser": optimiser}}, options=options)
    assert str(error.value).startswith(line) and "\n" not in str(error.value)


def test_what_no_table_asks_for_may_have_no_room():
    config = {
        "study": "a",
        "datasets": {"cifar10": {"ipc": [1]}, "svhn": {"ipc": [10]}},
        "methods": {"random": {}, "esp": {"parametrisation": {"decoders": 60}}},
        "tables": {1: {"datasets": ["cifar10"], "methods": ["random"]}, 3: {"datasets": ["svhn"], "methods": ["esp"]}},
    }
    assert Study(config).condensed() == (("cifar10", 1, "random"), ("svhn", 10, "esp"))


def test_the_part_that_is_kept_for_a_choice_counts_at_the_plan():
    assert study({"random": {}}, ipc=[4000], validation=0.2)
    with pytest.raises(UserError, match=r"^datasets.cifar10.ipc: 4001 is more than a class has; allowed: at most 4000 for cifar10$"):
        study({"random": {}}, ipc=[4001], validation=0.2)
