"""What cannot be condensed, or not with these networks, is told as soon as the data are there, every mistake at once."""

import json

import pytest
import torch
from small import LATENT, NETWORK, dataset

from esp_core import datasets
from esp_core.runtime.errors import UserError
from esp_core.stages import trial
from esp_core.study.config import Study
from esp_core.study.job_specs import spec

PIXELS = {"kind": "pixels", "init": "random", "clamp": 1}
SPEC = {
    "dataset": "small",
    "networks": [{"network": NETWORK, "needs": ["features", "classifier"]}],
    "sets": [{"ipc": 12, "parametrisation": PIXELS}, {"ipc": 2, "parametrisation": LATENT}],
}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(datasets, "load", lambda *_, **__: dataset())


def test_what_can_be_built_is_written_down(tmp_path):
    trial.run(SPEC, tmp_path / "data.h5", tmp_path / "trial.json")
    assert json.loads((tmp_path / "trial.json").read_text()) == {"data": "digest", "spec": SPEC}


@pytest.mark.parametrize(
    ("ipc", "parametrisation", "told"),
    [
        (13, PIXELS, "small: class a has 12 training images, fewer than IPC 13; lower the IPC to 12 or add images"),
        (4, {"kind": "formation", "factor": 2}, "small: class a has 12 training images, of which .* init random takes 16;"),
        (1, {**LATENT, "decoders": 20}, "parametrisation latent: 20 decoders take .* the smallest IPC for this design is 2;"),
        (1, {**LATENT, "upsamplings": 4}, "parametrisation.upsamplings: 4 does not divide 8 pixels into whole codes"),
        (1, {"kind": "formation", "factor": 3}, "parametrisation.factor: 3 does not divide 8 pixels"),
        (1, {**LATENT, "init": "herding"}, "parametrisation.init: 'herding' is unknown; allowed: noise, random"),
        (4, {**LATENT, "decoders": 1, "init": "random"}, "small: class a has 12 training images, of which .* takes 15"),
    ],
)
def test_a_set_that_the_data_do_not_allow_is_refused(ipc, parametrisation, told, tmp_path):
    wrong = {**SPEC, "sets": [*SPEC["sets"], {"ipc": ipc, "parametrisation": parametrisation}]}
    with pytest.raises(UserError, match=f"^{told}") as error:
        trial.run(wrong, tmp_path / "data.h5", tmp_path / "trial.json")
    assert "\n" not in str(error.value) and not (tmp_path / "trial.json").exists()


@pytest.mark.filterwarnings("ignore:Initializing zero-element")
def test_every_mistake_is_told_at_once(tmp_path):
    bad = {"network": {**NETWORK, "width": 0}, "needs": []}
    with pytest.raises(UserError) as error:
        trial.run({"networks": [bad, bad], "sets": [{"ipc": 13, "parametrisation": PIXELS}]}, tmp_path / "data.h5")
    first, second = str(error.value).splitlines()
    assert first.startswith("network convnet3: width: 0 is not allowed") and second.startswith("small: class a has 12")


def study(**changes):
    datasets = {"digits": {"ipc": [1, 10], "options": {"size": 32}}}
    return Study({"study": "a", "datasets": datasets, "methods": {"dm": {}, "esp": {}, "idc": {}}, **changes})


def test_the_spec_holds_each_network_and_set_once_and_no_other_setting_of_a_method():
    before = spec(study(), "trial", "digits")
    assert spec(study(methods={"dm": {"iterations": 3}, "again": {"base": "dm"}, "esp": {}, "idc": {}}), "trial", "digits") == before
    assert len(before["sets"]) == 2 * 3
    assert [one["needs"] for one in before["networks"]] == [["features", "classifier"], []]
    assert spec(study(methods={"cafe_dsa": {}}), "trial", "digits")["networks"][0]["needs"] == ["features", "classifier", "intermediates"]
    wide = spec(study(networks=["convnet3", "resnet10"], methods={"random": {}}), "trial", "digits")
    assert [one["network"]["name"] for one in wide["networks"]] == ["convnet3", "resnet10"]
    assert not any(one["needs"] for one in wide["networks"])


def test_what_the_network_of_the_experts_is_tried_by_changes_with_nothing_that_leaves_the_experts_alone():
    before = spec(study(), "network", "digits")
    assert spec(study(methods={"cafe_dsa": {}, "esp": {}}, networks=["convnet3", "resnet10"]), "network", "digits") == before
    assert spec(study(distill_network={"name": "convnet3", "width": 64}), "network", "digits") != before
    assert before["networks"][0]["network"] == spec(study(), "experts", "digits", "0")["network"]


def test_a_trial_leaves_torchs_generator_alone(tmp_path):
    state = torch.get_rng_state()
    trial.run(SPEC, tmp_path / "data.h5")
    assert torch.equal(torch.get_rng_state(), state)
