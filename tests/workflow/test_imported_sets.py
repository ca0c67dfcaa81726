"""A set that somebody else's code made is a method of a study: its rows, what runs again when it changes, and what is refused."""

import shutil

import numpy as np
import pandas as pd
import pytest

from esp_core import load_condensed
from esp_core.planning.costing import cost
from esp_core.planning.rates import device
from esp_core.runtime.errors import UserError
from esp_core.study import code_digest, job_specs
from esp_core.study.config import Study
from esp_core.study.provenance import ROOT

RELEASED = str(ROOT / "released" / "{dataset}" / "{dataset}-ipc-{ipc}-{method}.safetensors")
RELEASED_DM = RELEASED.format(dataset="cifar10", ipc=1, method="dm")
THEIRS = {"import": "sets/{dataset}-{ipc}.npz", "space": "unit", "title": "Theirs"}


def write(path, level):
    path.parent.mkdir(exist_ok=True)
    np.savez(path, images=np.full((10, 16, 16), level) + np.arange(10)[:, None, None] / 20, labels=np.eye(10) * 0.9 + 0.01)


def test_an_imported_set_has_its_rows_and_a_new_file_runs_it_again(bare, tmp_path):
    repository = type(bare)(shutil.copytree(bare.folder, tmp_path / "repository"))
    config = repository.config | {"methods": {"random": {}, "theirs": THEIRS}}
    config["datasets"]["digits"]["ipc"] = [1]
    repository.save(config)
    file = repository.folder / "config" / "sets" / "digits-1.npz"  # beside the study's file
    said = repository.run("--dry-run", check=False)
    assert f"\nmethods.theirs.import: {file.relative_to(repository.folder)}: no such file, for digits at IPC 1; put it there\n" in said
    write(file, 0.2)
    repository.run()
    results = repository.folder / "results" / "tiny"
    assert "| Theirs | " in (results / "tables" / "table1.md").read_text()
    data = load_condensed(results / "distilled" / "digits" / "ipc-1" / "theirs.safetensors")
    assert data.metadata["files"].keys() == {"digits-1.npz"} and data.soft.shape == (10, 10)
    rows = pd.read_csv(results / "evaluated" / "digits" / "ipc-1" / "theirs" / "convnet3.csv")
    assert list(rows.budget_used) == [10 * 256 + 100] * 2 and list(rows.budget) == [10 * 256] * 2
    assert repository.planned() == set()
    write(file, 0.4)
    ran = {"import_set digits 1 theirs", "evaluate digits 1 theirs convnet3", "tabulate 1", "judge_claims", "draw_grid grid-digits"}
    assert repository.planned() == ran


@pytest.fixture
def study(tmp_path):
    """A function that makes a study with an imported method of such settings, whose file is there."""
    write(tmp_path / "sets" / "digits-1.npz", 0.2)

    def make(settings=None, whiten=None, **methods):
        own = {**THEIRS, "import": str(tmp_path / THEIRS["import"]), **(settings or {})}
        own = {key: value for key, value in own.items() if value is not None}
        data = {"digits": {"ipc": [1], "options": {"size": 16}, "whiten": whiten}}
        return Study({"study": "few", "datasets": data, "methods": {"theirs": own, **methods}})

    return make


def test_the_plan_and_the_list_of_jobs_know_it(study):
    made = study({"factor": 2})
    assert ("import_set", "digits", "1", "theirs") in list(made.jobs()) and not [job for job in made.jobs() if job[0] == "distill"]
    assert job_specs.spec(made, "import_set", "digits", "1", "theirs")["factor"] == 2
    assert cost(made, device("cpu"), "import_set", "digits", "1", "theirs").seconds < 10
    assert cost(made, device("cpu"), "evaluate", "digits", "1", "theirs", "convnet3").seconds > 10
    assert job_specs.spec(made, "trial", "digits")["sets"] == []


def test_the_code_of_a_released_set_is_that_of_every_parametrisation_since_only_its_file_says_which():
    study = Study({"study": "few", "datasets": {"cifar10": {"ipc": [1]}}, "methods": {"esp": {"import": RELEASED}, "dm": {}}})
    kinds = {f"esp_core.parametrisations.{kind}" for kind in ("formation", "imported", "latent", "pixels")}
    for job in (("import_set", "cifar10", "1", "esp"), ("evaluate", "cifar10", "1", "esp", "convnet3"), ("trial", "cifar10")):
        assert kinds <= set(code_digest.modules(study, *job))
    assert set(code_digest.modules(study, "evaluate", "cifar10", "1", "dm", "convnet3")) & kinds == {"esp_core.parametrisations.pixels"}


def test_a_released_set_is_planned_with_as_many_images_as_its_file_holds():
    methods = {name: {"import": RELEASED} for name in ("dm", "esp")}
    study = Study({"study": "few", "datasets": {"cifar10": {"ipc": [1], "normalisation": "published"}}, "methods": methods})
    assert job_specs.spec(study, "import_set", "cifar10", "1", "esp")["space"] is None
    per_image = cost(study, device("cpu"), "evaluate", "cifar10", "1", "esp", "convnet3").seconds / 800
    assert len(load_condensed(study.files("cifar10", 1, "esp")[0]).images) == 800
    assert cost(study, device("cpu"), "evaluate", "cifar10", "1", "dm", "convnet3").seconds < 100 * per_image


@pytest.mark.parametrize(
    ("settings", "more", "told"),
    [
        ({"iterations": 5}, {}, r"methods.theirs.iterations: a set that is imported has no recipe; allowed: import, title, space"),
        ({"space": None}, {}, "methods.theirs.space: missing; give what the numbers of its images are, unit, normalised or zca"),
        ({"space": "pixels"}, {}, "methods.theirs.space: 'pixels' is unknown; allowed: unit, normalised, zca"),
        ({"space": "zca"}, {}, "methods.theirs.space: zca, but datasets.digits.whiten is null; change one of them"),
        ({"space": "normalised"}, {"whiten": "zca"}, "methods.theirs.space: normalised, but datasets.digits.whiten is zca"),
        ({"import": RELEASED_DM}, {}, "methods.theirs.space: has no meaning for a .safetensors; leave it out"),
        ({"import": []}, {}, r"methods.theirs.import: \[\] is not allowed; allowed: at least 1 entry"),
        ({"import": ["none.pt"]}, {}, "methods.theirs.import: none.pt: no such file, for digits at IPC 1; put it there"),
        ({}, {"random": {"space": "unit"}}, "methods.random.space: has no meaning here; allowed: beside import"),
        ({}, {"mine": {"base": "theirs"}}, "methods.mine.base: theirs is imported and has no recipe; name a method that has one"),
    ],
)
def test_what_a_study_cannot_mean_is_one_line(study, settings, more, told):
    with pytest.raises(UserError, match=told) as error:
        study(settings, **more)
    assert "\n" not in str(error.value)
