"""How far a study trains its experts: as far as its condensed sets read them, unless it says so itself."""

import pytest
from small_study import SMALL, small, spec

from esp_core.runtime.errors import UserError


def trained(dataset="cifar10", **changes):
    """(epochs, snapshots kept) of the experts of `dataset`."""
    job = spec(small(**changes), "experts", dataset, "0")
    return job["training"]["epochs"], job["keep"]


@pytest.mark.parametrize(
    ("listed", "experts", "expected"),
    [
        ({"esp": {}}, {}, (25, 26)),  # last start 20, length 5
        ({"esp": {"teacher": {"start_max": 31}}}, {}, (36, 37)),
        ({"esp": {"teacher": {"length": 9}}}, {}, (29, 30)),
        ({"esp": {}, "mtt": {}}, {}, (25, 26)),  # the one that reads the most
        ({"mtt": {}}, {}, (3, 4)),  # its settings of the cell, last start 1, length 2
        ({"mtt": {}, "esp": {"cells": {"cifar10/1": {"teacher": {"start_max": 40}}}}}, {}, (45, 46)),
        ({"herding": {}}, {}, (50, 51)),  # goes by a network that is trained to the end
        ({"esp": {"iterations": 0}, "herding": {}}, {}, (50, 51)),  # no step, no segment
        ({"esp": {}}, {"keep": 40}, (39, 40)),
        ({"esp": {}}, {"keep": 26}, (25, 26)),
        ({"esp": {}}, {"epochs": 70}, (70, 71)),
        ({"esp": {}}, {"epochs": 70, "keep": 27}, (70, 27)),
    ],
)
def test_experts_are_trained_as_far_as_they_are_read_unless_the_study_says_so(listed, experts, expected):
    assert trained(methods=listed, experts={"count": 4, "shard": 2, **experts}) == expected


def test_what_a_cell_or_a_dataset_of_its_own_says_holds_there_alone():
    listed = {"esp": {"cells": {"digits/10": {"teacher": {"start_max": 30}}}}}
    assert trained("digits", methods=listed) == (35, 36) and trained("cifar10", methods=listed) == (25, 26)
    datasets = {"digits": {**SMALL["datasets"]["digits"], "experts": {"epochs": 60}}, "cifar10": {"ipc": [1]}}
    assert trained("digits", datasets=datasets, methods={"esp": {}}) == (60, 61)
    assert trained("cifar10", datasets=datasets, methods={"esp": {}}) == (25, 26)


def test_a_method_that_is_quoted_reads_no_expert():
    tables = {1: {"methods": ["mtt", "esp"], "quoted": ["esp"]}}
    asked = {"methods": {"mtt": {}, "esp": {}}, "tables": tables}
    assert trained(**asked, scope="paper") == (3, 4)
    assert trained(**asked, scope="everything") == (25, 26)


def test_a_method_that_is_pictured_alone_reads_its_experts():
    figures = {"9": {"dataset": "cifar10", "ipc": [1], "methods": ["esp"]}}
    assert trained(methods={"mtt": {}, "esp": {}}, tables={1: {"methods": ["mtt"]}}, figures=figures) == (25, 26)


@pytest.mark.parametrize(("experts", "most"), [({"epochs": 24}, 19), ({"epochs": 50, "keep": 25}, 19), ({"epochs": 9}, 4)])
def test_experts_that_end_before_they_are_read_are_refused(experts, most):
    with pytest.raises(
        UserError, match=rf"^methods\.esp\.teacher\.start_max: 20 \+ length 5 needs 26 snapshots.* at most {most},"
    ) as refused:
        small(methods={"esp": {}}, experts=experts)
    assert "\n" not in str(refused.value)
