"""Studies: what the paper's and the demo's ask for, how recipes are resolved, what every job's spec holds."""

import csv
from pathlib import Path

import pytest
from small_study import SMALL, small, spec

from esp_core.runtime.errors import UserError
from esp_core.study import code_digest, job_specs, methods
from esp_core.study.config import Study, load

ROOT = Path(__file__).resolve().parent.parent
DSA = "color_crop_cutout_flip_scale_rotate"
NO_FLIP = "color_crop_cutout_scale_rotate"


@pytest.fixture(scope="module")
def paper():
    return load(ROOT / "config" / "config.yaml")


@pytest.fixture(scope="module")
def published():
    with (ROOT / "esp_core" / "reporting" / "published.csv").open() as file:
        return list(csv.DictReader(file))


def test_the_papers_study_has_the_cells_and_networks_that_the_paper_prints(paper, published):
    cells = {(row["dataset"], int(row["ipc"])) for row in published if row["table"] == "1" and row["ipc"] != "0"}
    assert set(paper.cells) == cells and len(cells) == 10
    assert set(paper.networks) == {row["architecture"] for row in published}
    assert {spec(paper, "manifest", dataset)["total"] for dataset in paper.datasets} == {1000}
    assert spec(paper, "evaluate", "svhn", "50", "esp", "resnet10")["seeds"] == 5


def test_scope_paper_measures_what_the_authors_ran_and_everything_measures_all(paper):
    ours = {(dataset, ipc, "esp", "convnet3") for dataset, ipc in paper.cells}
    across = {(d, i, "esp", n) for d in ("svhn", "cifar10") for i in (1, 10, 50) for n in ("resnet10", "densenet121")}
    across |= {("cifar10", i, m, "efficientnetv2s") for i in (1, 10, 50) for m in ("dc", "dsa", "mtt", "esp")}
    swept = {("cifar10", 10, f"esp_batch_{size}", "convnet3") for size in (64, 128, 256, 512, 1024)}
    ablation = {("cifar10", i, m, "convnet3") for i in (1, 10, 50) for m in ("esp_proj", "esp_dm")}
    assert set(paper.rows()) == ours | across | ablation | swept
    everything = Study({**paper.config, "scope": "everything"})
    assert set(paper.rows()) < set(everything.rows())
    assert ("tinyimagenet", 10, "herding", "convnet3") in everything.rows()
    assert ("svhn", 0, "full", "densenet121") in everything.rows()


def test_the_demo_evaluates_every_method_in_every_cell():
    demo = load(ROOT / "config" / "demo.yaml")
    table1 = {"random", "herding", "dc", "dsa", "dm", "kip", "cafe_dsa", "mtt", "idc", "kfs", "esp"}
    wanted = {("convnet3", name) for name in (*table1, "esp_proj", "esp_dm")}
    wanted |= {(network, name) for network in ("resnet10", "densenet121") for name in ("dsa", "dm", "idc", "kfs", "esp")}
    wanted |= {("efficientnetv2s", name) for name in ("dc", "dsa", "mtt", "esp")}
    rows = {("digits", ipc, name, network) for ipc in (1, 10) for network, name in wanted}
    rows |= {("digits", 0, "full", network) for network in demo.networks}
    rows |= {("digits", 1, f"esp_batch_{size}", "convnet3") for size in (10, 40)}
    assert set(demo.rows()) == rows
    assert table1 <= set(demo.methods) and len(demo.networks) == 4


def test_a_grid_shows_the_sets_of_the_first_table(paper):
    grids = {name: figure.dataset for name, figure in paper.figures.items() if figure.number in (3, 4, 5, 6)}
    assert grids == {"figure3": "svhn", "figure4": "cifar10", "figure5": "cifar100", "figure6": "tinyimagenet"}
    assert paper.figures["figure4"].cells == (("cifar10", 1, "esp"), ("cifar10", 10, "esp"), ("cifar10", 50, "esp"))
    demo = load(ROOT / "config" / "demo.yaml")
    shown = {("digits", ipc, name) for ipc in (1, 10) for name in ("dc", "mtt", "idc", "esp")}
    assert set(demo.figures["figure3"].cells) == shown
    assert spec(demo, "grids", "figure3")["titles"]["mtt"] == "Traj. Matching"


def test_recipes_resolve_in_order_base_its_cells_study_study_cells(monkeypatch):
    base = {"parametrisation": {"kind": "pixels"}, "iterations": 1, "real_batch": 1, "synthetic_batch": 1, "micro_batch": 1}
    cells = {"digits/1": {"real_batch": 2, "synthetic_batch": 2, "micro_batch": 2}}
    monkeypatch.setattr(methods, "_file", lambda name: {"mine": {**base, "cells": cells}})
    own = {"mine": {"synthetic_batch": 3, "micro_batch": 3, "cells": {"digits/1": {"micro_batch": 4}}}}
    found = methods.recipe("mine", "digits", 1, custom=own)
    assert [found[k] for k in ("iterations", "real_batch", "synthetic_batch", "micro_batch")] == [1, 2, 3, 4]
    elsewhere = methods.recipe("mine", "digits", 10, custom=own)
    assert [elsewhere[k] for k in ("iterations", "real_batch", "synthetic_batch", "micro_batch")] == [1, 1, 3, 3]


def test_a_section_merges_key_by_key_until_its_kind_changes():
    recipe = methods.recipe("esp", custom={"esp": {"parametrisation": {"width": 3}, "teacher": {"kind": "random"}}})
    assert recipe["parametrisation"] == {**methods.recipe("esp")["parametrisation"], "width": 3}
    assert recipe["teacher"] == {"kind": "random", "count": 1}


def test_a_composed_method_takes_over_what_its_base_is_in_this_study_and_has_its_title():
    """A method of the user's over another of the study, and one over a named recipe."""
    composed = {
        "esp": {"iterations": 7, "objectives": {"projection": {"weight": 0.5}}},
        "esp_proj": {},
        "slow": {"base": "esp", "title": "Slow", "iterations": 99},
        "pixels": {"base": "slow", "parametrisation": {"kind": "pixels"}, "optimiser": {"kind": "sgd", "lr_pixels": 2.0}},
    }
    study = small(methods=composed)
    slow, proj = study.recipe("digits", 1, "slow"), study.recipe("digits", 1, "esp_proj")
    assert slow == {**study.recipe("digits", 1, "esp"), "iterations": 99}
    assert proj["iterations"] == 7 and proj["objectives"] == {"projection": {"weight": 0.5, "norm": "l1", "form": "residual"}}
    assert study.recipe("digits", 1, "pixels")["optimiser"] == {"kind": "sgd", "lr_pixels": 2.0, "momentum": 0.5, "decay": "constant"}
    assert spec(study, "tables", "1")["methods"] == [*composed]
    assert spec(study, "tables", "1")["titles"] == {"esp": "ESP", "esp_proj": "Proj", "slow": "Slow", "pixels": "pixels"}


def test_a_circle_of_bases_is_refused():
    with pytest.raises(UserError, match=r"methods\.a\.base: goes in a circle, a > b > a"):
        small(methods={"a": {"base": "b"}, "b": {"base": "a"}})


def test_digits_are_never_mirrored_unless_the_study_says_so():
    study = small(methods={"esp": {}, "dm": {"augment": "flip"}})
    for dataset, strategy in (("digits", NO_FLIP), ("cifar10", DSA)):
        assert spec(study, "experts", dataset, "0")["training"]["augment"] == strategy
        assert spec(study, "distill", dataset, "1", "esp")["recipe"]["augment"] == strategy
        assert spec(study, "evaluate", dataset, "1", "esp", "convnet3")["protocol"]["augment"] == strategy
    assert study.recipe("digits", 1, "dm")["augment"] == "flip"
    study = small(datasets={"digits": {"ipc": [1], "flip": True}}, methods={"dm": {}})
    assert spec(study, "experts", "digits", "0")["training"]["augment"] == DSA


def test_more_experts_are_new_shards_and_the_old_ones_stay():
    few, many = small(), small(experts={"count": 7, "shard": 2})
    assert [spec(many, "experts", "digits", s) for s in "01"] == [spec(few, "experts", "digits", s) for s in "01"]
    assert [spec(many, "experts", "digits", s)["first"] for s in "0123"] == [0, 2, 4, 6]
    assert [spec(many, "experts", "digits", s)["count"] for s in "0123"] == [2, 2, 2, 1]


def test_imported_experts_are_not_trained(tmp_path):
    path = tmp_path / "manifest.json"
    config = {"study": "x", "datasets": {"digits": {"ipc": [2]}}, "methods": {"esp": {}}, "experts": {"count": 7}}
    own = {"datasets": {"digits": {"ipc": [2], "experts": {"import": str(path)}}}}
    for text, line in (
        (None, f"experts.import: {path}: no such file; make it with esp experts import"),
        ("[]", f"experts.import: {path}: no manifest of experts; make it with esp experts import"),
        ('{"spec": {"total": 9}}', f"experts.count: 7, but {path} lists 9 experts; allowed: 9"),
    ):
        if text:
            path.write_text(text)
        with pytest.raises(UserError) as error:
            Study(config | own)
        assert str(error.value) == line
    path.write_text('{"spec": {"total": 7}}')
    trained, imported = Study(config), Study(config | own)
    assert {job[0] for job in trained.jobs()} - {job[0] for job in imported.jobs()} == {"network", "experts", "manifest"}
    assert job_specs.spec(trained, "distill", "digits", "2", "esp") == job_specs.spec(imported, "distill", "digits", "2", "esp")


def test_only_methods_that_use_experts_depend_on_their_number():
    few, many = (
        small(methods={"herding": {}, "dm": {}, "esp": {}}),
        small(methods={"herding": {}, "dm": {}, "esp": {}}, experts={"count": 6}),
    )
    differing = {m for m in ("herding", "dm", "esp") if spec(few, "distill", "digits", "1", m) != spec(many, "distill", "digits", "1", m)}
    assert differing == {"herding", "esp"}
    assert spec(few, "distill", "digits", "1", "dm")["experts"] is None


def test_one_cells_setting_changes_that_cells_spec_only():
    before, after = small(), small(methods={**SMALL["methods"], "esp": {"cells": {"digits/10": {"iterations": 3}}}})
    jobs = [job for job in before.jobs() if spec(before, *job) != spec(after, *job)]
    assert jobs == [("distill", "digits", "10", "esp"), ("settings",)]


def test_comparisons_are_a_job_of_their_own_wherever_both_methods_are_evaluated():
    one, two = (small(comparisons=[{"of": "esp", "against": other}]) for other in ("dm", "random"))
    assert [job for job in one.jobs() if job not in small().jobs()] == [("comparisons",)]
    assert [job for job in two.jobs() if spec(one, *job) != spec(two, *job)] == [("comparisons",), ("settings",)]
    places = [("digits", 1), ("digits", 10), ("cifar10", 1)]
    assert one.compared() == tuple(("esp", "dm", *place, "convnet3") for place in places)
    tables = {1: {"methods": ["random", "dm"]}, 2: {"methods": ["esp", "full"], "networks": ["resnet10"]}}
    with pytest.raises(UserError, match=r"^comparisons\[0\]: esp and dm share no measured cell and network; show both in one table$"):
        small(networks=["convnet3", "resnet10"], tables=tables, comparisons=[{"of": "esp", "against": "dm"}])


def test_settings_of_one_dataset_lie_over_the_studys():
    datasets = {
        "digits": {
            "ipc": [1],
            "options": {"size": 32},
            "experts": {"lr": 0.5},
            "distill_network": {"width": 16},
            "evaluation": {"epochs": 2, "full": {"epochs": 3}},
        },
        "cifar10": {"ipc": [1]},
    }
    study = small(datasets=datasets, evaluation={"seeds": 2, "epochs": 9})
    assert [spec(study, "experts", d, "0")["training"]["lr"] for d in datasets] == [0.5, 0.01]
    assert [spec(study, "distill", d, "1", "esp")["network"]["width"] for d in datasets] == [16, 8]
    assert [spec(study, "evaluate", d, "1", "esp", "convnet3")["protocol"]["epochs"] for d in datasets] == [2, 9]
    assert [spec(study, "evaluate", d, "0", "full", "convnet3")["protocol"]["epochs"] for d in datasets] == [3, 9]
    assert {spec(study, "evaluate", d, "0", "full", "convnet3")["seeds"] for d in datasets} == {2}


def test_networks_as_a_list_share_the_distillations_settings_and_as_a_mapping_have_their_own():
    listed = small(networks=["convnet3", "resnet10"])
    assert listed.network("digits", "convnet3") == {"name": "convnet3", "width": 8}
    assert listed.network("digits", "resnet10") == {"name": "resnet10"}
    assert small(networks={"convnet3": {"width": 64}}).network("digits", "convnet3") == {"name": "convnet3", "width": 64}
    assert spec(listed, "tables", "1")["networks"] == ["convnet3"]
    assert spec(listed, "tables", "2")["networks"] == ["convnet3", "resnet10"]


def test_a_table_with_a_name_is_laid_out_as_one_of_the_papers():
    tables = {"1": {"methods": ["dm"]}, "mine": {"methods": ["esp"], "title": "What I changed"}, "wide": {"like": 2}}
    study = small(methods={"esp": {}, "dm": {}}, networks=["convnet3", "resnet10"], tables=tables)
    assert [job for job in study.jobs() if job[0] == "tables"] == [("tables", "1"), ("tables", "mine"), ("tables", "wide")]
    mine, wide = spec(study, "tables", "mine"), spec(study, "tables", "wide")
    assert (mine["table"], mine["name"], mine["title"], mine["methods"]) == (1, "mine", "What I changed", ["esp"])
    assert (wide["table"], wide["title"], wide["networks"]) == (2, "", ["convnet3", "resnet10"])
    assert not {"name", "title"} & set(spec(study, "tables", "1"))


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        ({"Mine": {}}, "tables: 'Mine' is not allowed; allowed: 1, 2, 3, 4, or a name of lower-case letters, digits and _"),
        ({"1": {"like": 2}}, "tables.1.like: has no meaning here; allowed: in a table with a name"),
        ({"mine": {"like": 5}}, "tables.mine.like: 5 is unknown; allowed: 1, 2, 3, 4"),
        ({"mine": {"methods": ["dc"]}}, "tables.mine.methods: dc is not in the study; allowed: esp"),
    ],
)
def test_a_wrong_table_is_refused_by_its_name(tables, said):
    with pytest.raises(UserError) as refused:
        small(methods={"esp": {}}, tables=tables)
    assert said in str(refused.value).splitlines()


def test_idc_as_the_protocol_brings_its_own_numbers():
    protocol = spec(small(evaluation={"protocol": "idc", "lr": 0.5}), "evaluate", "digits", "1", "esp", "convnet3")["protocol"]
    assert (protocol["name"], protocol["batch"], protocol["cutmix"], protocol["lr"]) == ("idc", 64, 0.5, 0.5)


def test_code_digests_name_what_a_job_runs():
    study = small(methods={"esp": {}, "esp_dm": {}, "full": {}})
    named = {job: set(code_digest.modules(study, *job)) for job in study.jobs()}
    distill = {"esp_core.stages.distill", "esp_core.networks.convnet3", "esp_core.parametrisations.latent", "esp_core.teachers.experts"}
    assert named["distill", "digits", "1", "esp_dm"] == distill | {"esp_core.objectives.distribution"}
    assert named["distill", "digits", "1", "esp"] == distill | {"esp_core.objectives.distribution", "esp_core.objectives.projection"}
    assert named["evaluate", "digits", "0", "full", "convnet3"] == {"esp_core.stages.evaluate", "esp_core.networks.convnet3"}
    assert named["prepare", "digits"] == {"esp_core.stages.prepare", "esp_core.datasets.digits"}
    assert named["manifest", "digits"] == {"esp_core.stages.experts", "esp_core.trajectories.manifest"}
    assert named["network", "digits"] == {"esp_core.networks.convnet3"}


def test_a_slow_network_may_have_fewer_epochs():
    evaluation = {"epochs": 50, "full": {"epochs": 9}, "networks": {"resnet10": {"epochs": 5, "lr": 0.1, "full": {"epochs": 2}}}}
    study = small(networks=["convnet3", "resnet10"], methods={"dm": {}, "full": {}}, evaluation=evaluation)
    found = {
        (method, network): spec(study, "evaluate", "digits", "0" if method == "full" else "1", method, network)["protocol"]
        for method in ("dm", "full")
        for network in ("convnet3", "resnet10")
    }
    assert {key: (value["epochs"], value["lr"]) for key, value in found.items()} == {
        ("dm", "convnet3"): (50, 0.01),
        ("dm", "resnet10"): (5, 0.1),
        ("full", "convnet3"): (9, 0.01),
        ("full", "resnet10"): (2, 0.1),
    }
    with pytest.raises(UserError, match=r"evaluation\.networks: densenet121 is not in the study"):
        small(networks=["convnet3"], evaluation={"networks": {"densenet121": {"epochs": 5}}})
