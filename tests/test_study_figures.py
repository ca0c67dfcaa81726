"""Which figures a config asks for, and which mistakes in it are named."""

import pytest

from esp_core.runtime.errors import UserError
from esp_core.study.code_digest import code
from esp_core.study.config import Study
from esp_core.study.job_specs import spec

CONFIG = {
    "study": "s",
    "datasets": {"digits": {"ipc": [1, 10], "options": {"size": 32}}, "cifar10": {"ipc": [1]}},
    "methods": {"dm": {}, "esp": {}, "esp_64": {"base": "esp", "synthetic_batch": 64}, "mtt": {}, "full": {}},
    "tables": {"1": {"methods": ["dm", "esp", "full"]}},
    "figures": {
        "3": {"dataset": "digits", "methods": ["dm", "esp"]},
        "7": {"dataset": "digits", "ipc": [1, 5, 10], "steps": [1, 20], "methods": ["esp", "mtt"]},
        "8": {"dataset": "digits", "ipc": [10], "methods": ["esp_64", "esp"]},
        "9": {"dataset": "cifar10", "methods": ["esp"]},
    },
}


def changed(number, **settings):
    return {**CONFIG, "figures": {**CONFIG["figures"], number: {**CONFIG["figures"].get(number, {}), **settings}}}


def test_every_figure_shows_its_cells():
    study = Study(CONFIG)
    assert list(study.figures) == ["figure3", "figure4", "figure7", "figure8", "figure9"]
    assert set(study.figures["figure3"].cells) == {("digits", ipc, m) for ipc in (1, 10) for m in ("dm", "esp")}
    assert study.figures["figure8"].cells == (("digits", 10, "esp_64"), ("digits", 10, "esp"))
    assert study.figures["figure9"].cells == (("cifar10", 1, "esp"),)
    assert (study.figures["figure7"].at, study.figures["figure7"].cells) == (5, ())


def test_a_grid_may_show_some_methods_and_budgets():
    study = Study(changed("3", methods=["esp"], ipc=[10]))
    assert study.figures["figure3"].cells == (("digits", 10, "esp"),)


def test_a_swept_batch_is_distilled_and_evaluated_and_mtt_only_measured():
    study = Study(CONFIG)
    assert ("digits", 10, "esp_64", "convnet3") in study.rows()
    assert not any(cell[2] == "mtt" for cell in study.condensed())
    jobs = list(study.jobs())
    assert ("footprint", "figure7") in jobs and ("plots", "figure7") in jobs and ("plots", "figure8") in jobs
    assert [job for job in jobs if job[0] == "grids"] == [("grids", name) for name in ("figure3", "figure4", "figure9")]


def test_specs_hold_what_the_figures_depend_on():
    study = Study(CONFIG)
    memory = spec(study, "footprint", "figure7")
    assert (memory["ipc"], memory["steps"], memory["at"]) == ([1, 5, 10], [1, 20], 5)
    assert memory["recipes"]["mtt"]["5"] == study.recipe("digits", 5, "mtt")
    rows = spec(study, "plots", "figure8")["rows"]
    assert [(row["method"], row["synthetic_batch"]) for row in rows] == [("esp_64", 64), ("esp", None)]
    assert spec(study, "grids", "figure3")["figure"] == 3
    assert code(study, "footprint", "figure7") != code(study, "plots", "figure7")


@pytest.mark.parametrize(
    ("number", "settings", "message"),
    [
        ("8", {"dataset": "svhn"}, "figures.8.dataset: svhn is not in the study"),
        ("8", {"ipc": [50]}, "figures.8.ipc: 50 is not in the study; allowed: 1, 10"),
        ("9", {"methods": ["kfs"]}, "figures.9.methods: kfs is not in the study"),
        ("5", {"dataset": "digits", "colour": 1}, "figures.5.colour: unknown key"),
        ("2", {"dataset": "digits"}, "figures: '2' is not allowed; allowed: 3, 4"),
    ],
)
def test_a_mistake_is_named(number, settings, message):
    with pytest.raises(UserError, match=message.replace(".", r"\.")):
        Study(changed(number, **settings))


def test_what_a_curve_needs_is_asked_for():
    figures = {"7": {"dataset": "digits"}}
    with pytest.raises(UserError) as raised:
        Study({**CONFIG, "methods": {"dm": {}, "esp": {}, "full": {}}, "figures": figures})
    assert [line.split(":")[0] for line in str(raised.value).splitlines()] == ["figures.7.ipc", "figures.7.steps", "figures.7.methods"]
    with pytest.raises(UserError, match=r"figures\.8: accuracies are those of the distillation's network, convnet3; add it to networks"):
        Study({**CONFIG, "networks": ["resnet10"]})
