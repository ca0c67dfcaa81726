"""A mistake in a config is one line that names its key and what is allowed; the schema knows and explains every key."""

import copy
import re
from datetime import date
from pathlib import Path

import pytest
import yaml

from esp_core.augment import dsa
from esp_core.runtime.errors import UserError
from esp_core.study import methods, schema
from esp_core.study.config import Study, load

ROOT = Path(__file__).resolve().parent.parent
BASE = {
    "study": "base",
    "seed": 0,
    "scope": "everything",
    "datasets": {"digits": {"kind": "digits", "ipc": [1, 10], "options": {"size": 32}}},
    "distill_network": {"name": "convnet3", "width": 32, "depth": 3},
    "networks": ["convnet3"],
    "experts": {"count": 20, "shard": 10, "keep": 21, "epochs": 20, "lr": 0.05},
    "methods": {
        "random": {},
        "herding": {},
        "dm": {"iterations": 600},
        "kfs": {},
        "esp": {"teacher": {"start_max": 15}},
        "esp_proj": {},
        "esp_dm": {},
        "full": {},
    },
    "evaluation": {"protocol": "dsa", "seeds": 5, "epochs": 300, "full": {"epochs": 30}},
    "tables": {1: {"methods": ["random", "herding", "dm", "kfs", "esp", "full"]}, 4: {"methods": ["esp_proj", "esp_dm", "esp"]}},
}


def changed(keys, value):
    """BASE with `value` at `keys`, separated by dots; an absent value removes the key."""
    config = copy.deepcopy(BASE)
    *above, last = keys.split(".")
    place = config
    for key in above:
        if place.get(key) is None:
            place[key] = {}
        place = place[key]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return config


def lines(config):
    with pytest.raises(UserError) as error:
        Study(config)
    return str(error.value).splitlines()


EXPERTS = "count, import, shard, keep, epochs, lr, momentum, weight_decay, batch, augment, precision"
MISTAKES = [
    ("experts.epoch", 5, f"experts.epoch: unknown key; did you mean epochs? allowed: {EXPERTS}"),
    ("experts.lr", "1e-2", "experts.lr: '1e-2' is not a number; YAML 1.1 reads 1e-2 as text, write 0.01"),
    ("methods.esp.objectives.projection.weight", "1e-5", "write 0.00001"),
    ("experts.count", "20", "experts.count: '20' is not a whole number; YAML 1.1 reads 20 as text, write 20"),
    ("experts.lr", 0, "experts.lr: 0 is not allowed; allowed: more than 0"),
    ("experts.lr", float("nan"), "experts.lr: nan is not a number"),
    ("experts.epochs", 20.0, "experts.epochs: 20.0 is not a whole number"),
    ("experts.count", True, "experts.count: true is not a whole number"),
    ("experts.keep", 22, "experts.keep: 22 is more than there are; allowed: at most 21, experts.epochs + 1"),
    (
        "experts.augment",
        "color_crop_mirror",
        "experts.augment: 'color_crop_mirror' is not allowed; allowed: none, dsa, idc, or some of color",
    ),
    ("study", 7, "study: 7 is not text; put it in quotes"),
    ("study", ..., "study: missing; give the study's name"),
    ("scope", "papr", "scope: 'papr' is unknown; did you mean paper? allowed: paper, everything"),
    ("device", "gpu", "device: 'gpu' is not allowed; allowed: auto, cpu, mps, cuda or cuda:<number>"),
    ("datasets.digits.ipc", [1, 136], "datasets.digits.ipc: 136 is more than a class has; allowed: at most 135 for digits"),
    ("datasets.digits.ipc", [], "datasets.digits.ipc: [] is not allowed; allowed: at least 1 entry"),
    ("datasets.digits.ipc", [1, 1], "datasets.digits.ipc: [1, 1] is not allowed; allowed: each entry once"),
    ("datasets.digits.kind", "digit", "datasets.digits.kind: digit is unknown; did you mean digits? allowed: cifar10, cifar100, digits"),
    (
        "datasets.digits.options.size",
        float("inf"),
        "datasets.digits.options.size: inf is neither text nor a finite number; put it in quotes",
    ),
    ("datasets.digits.options.since", date(2026, 1, 1), "datasets.digits.options.since: 2026-01-01 is neither text nor a finite number"),
    ("datasets.digits.options.sise", 16, "datasets.digits.options.sise: unknown key; did you mean size? allowed: size"),
    ("networks", ["convnet"], "networks.convnet: convnet is unknown; did you mean convnet3?"),
    ("distill_network.widht", 8, "distill_network.widht: unknown key; did you mean width? allowed: width, depth"),
    ("networks", {"resnet10": {"depth": 8}}, "networks.resnet10.depth: unknown key"),
    (
        "methods.epsp",
        {},
        f"methods.epsp: unknown method; use one of {', '.join(methods.names())}, full, or give it a base",
    ),
    ("methods.mine", {"base": "epsp"}, "methods.mine.base: epsp is no method; use one of random"),
    ("methods.full", {"iterations": 5}, "methods.full.iterations: full has no recipe; set evaluation.full"),
    ("methods.esp.parametrisation", {"decoder": 2}, "methods.esp.parametrisation.decoder: unknown key; did you mean decoders?"),
    ("methods.esp.teacher.basis", "raww", "methods.esp.teacher.basis: 'raww' is unknown; did you mean raw? allowed: raw, difference"),
    ("methods.esp.objectives", {"project": {}}, "methods.esp.objectives.project: project is unknown; did you mean projection?"),
    (
        "methods.kfs.objectives",
        {"projection": {}},
        "methods.kfs.objectives.projection: needs a segment of an expert's trajectory; allowed: with teacher.kind experts",
    ),
    ("methods.kfs.optimiser", {"lr_code": 1.0}, "methods.kfs.optimiser.lr_code: unknown key; did you mean lr_codes?"),
    (
        "methods.kfs.optimiser",
        {"kind": "sgd", "lr_codes": 1.0},
        "methods.kfs.optimiser.lr_decoders: missing; give the learning rate of the decoders",
    ),
    ("methods.dm.objectives", {"distribution": None}, "methods.dm.objectives: missing; give at least one, or iterations 0"),
    (
        "methods.esp.teacher.start_max",
        16,
        "methods.esp.teacher.start_max: 16 + length 5 needs 22 snapshots, experts.keep is 21; allowed: at most 15, or a larger",
    ),
    ("methods.dm.cells", {"digits/7": {}}, "methods.dm.cells.digits/7: no such cell; did you mean digits/1? allowed: digits/1, digits/10"),
    ("methods.dm.cells", {"digits": {}}, "methods.dm.cells: 'digits' is not allowed; allowed: <dataset>/<ipc>, such as cifar10/1"),
    (
        "methods.dm.cells",
        {"digits/1": {"optimiser": {"momentum": 2}}},
        "methods.dm.cells.digits/1.optimiser.momentum: 2 is not allowed; allowed: less than 1",
    ),
    ("evaluation.milestones", [0.5, 1.5], "evaluation.milestones[1]: 1.5 is not allowed; allowed: less than 1"),
    ("tables.7", {}, "tables: '7' is not allowed; allowed: 1, 2, 3, 4"),
    ("tables.4.methods", ["esp", "kfss"], "tables.4.methods: kfss is not in the study; did you mean kfs?"),
    ("comparisons", [{"of": "kfss", "against": "esp"}], "comparisons[0].of: kfss is not in the study; did you mean kfs?"),
    ("comparisons", [{"of": "esp", "against": "full"}], "comparisons[0].against: full is not in the study;"),
    ("tables", {4: {"methods": ["esp"]}}, "methods.random: no table shows it; add it to one under tables, or leave it out"),
]


@pytest.mark.parametrize(("keys", "value", "line"), MISTAKES, ids=[f"{keys}={value!r:.30}" for keys, value, _ in MISTAKES])
def test_a_mistake_is_a_line_that_names_the_key_and_what_is_allowed(keys, value, line):
    found = lines(changed(keys, value))
    assert line in found[0], found
    # A method without its window, say, is wrong in its ablations too: the same mistake, but never another one.
    assert len({text.split(": ", 1)[1] for text in found}) == 1 or keys == "tables", found


def test_every_mistake_has_a_line_of_its_own():
    config = changed("experts.lr", "1e-2")
    config["scope"], config["experts"]["bach"] = "all", 5
    assert [line.split(":")[0] for line in lines(config)] == ["experts.bach", "experts.lr", "scope"]


def properties(node, at=""):
    """Every key that the schema defines, with its entry."""
    if isinstance(node, dict):
        for section in ("properties", "patternProperties"):
            entries = node.get(section, {})
            if all(isinstance(entry, dict) for entry in entries.values()):
                yield from ((f"{at}.{name}", entry) for name, entry in entries.items())
        for key, value in node.items():
            yield from properties(value, f"{at}.{key}" if key not in ("properties", "$defs") else at)


def test_every_key_says_what_it_means_and_where_it_comes_from():
    entries = dict(properties(schema.whole()))
    assert len(entries) > 60
    for at, entry in entries.items():
        assert ";" in schema.resolved(entry)["description"], at


def test_nothing_but_names_is_open_in_the_schema():
    open_objects = [at for at, entry in properties(schema.whole()) if entry.get("type") == "object" and "additionalProperties" not in entry]
    checked_elsewhere = {"options", "distill_network", "parametrisation", "teacher", "optimiser"}  # by the reader's or kind's own keys
    assert {at.rpartition(".")[2] for at in open_objects} == checked_elsewhere


def test_the_augmentations_of_the_schema_are_those_of_the_code():
    allowed = schema.part("augment")["pattern"]
    assert all(re.match(allowed, operation) for operation in (*dsa.OPERATIONS, "none", "_".join(dsa.OPERATIONS)))
    assert dsa.parse(methods.DSA) == dsa.OPERATIONS
    for named in (strategy for both in methods.STRATEGIES.values() for strategy in both):
        assert re.match(allowed, named) and all(set(dsa.parse(part)) <= set(dsa.OPERATIONS) for part in named.split("+"))
    assert set(re.search(r"idc\|\((.*?)\)", allowed)[1].split("|")) == set(dsa.OPERATIONS)


def test_every_named_recipe_and_protocol_passes_its_own_checks():
    names = {name: {} for name in (*methods.names(), methods.FULL)}
    for protocol in schema.part("evaluation")["properties"]["protocol"]["enum"]:
        config = {"study": "all", "datasets": {"cifar10": {"ipc": [1]}}, "methods": names, "evaluation": {"protocol": protocol}}
        assert Study(config).methods.keys() == names.keys()
        assert schema.mistakes(methods._file("protocols.yaml")[protocol], schema.part("evaluation")) == []


def test_the_studies_in_the_manual_are_right():
    whole, methods = map(yaml.safe_load, re.findall(r"```yaml\n(.*?)```", (ROOT / "config" / "README.md").read_text(), flags=re.DOTALL))
    assert Study(whole).rows()
    study = Study({"study": "manual", "datasets": {"cifar10": {"ipc": [1, 50]}}, "methods": {"dm": {}, **methods["methods"]}})
    assert study.recipe("cifar10", 50, "esp_no_projection")["iterations"] == 10000
    assert study.recipe("cifar10", 1, "dm_latent")["optimiser"] == {"kind": "adam", "lr_codes": 0.1, "lr_decoders": 0.01, "decay": "linear"}


@pytest.mark.parametrize("path", [*(ROOT / "config").glob("*.yaml"), *(ROOT / "docs").rglob("*.yaml")], ids=lambda path: path.stem)
def test_the_studies_that_come_with_the_project_are_right(path):
    assert load(path).rows()
