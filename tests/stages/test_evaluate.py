"""Five seeds give five rows, the same again when run again or resumed, in either precision, and the learning curve goes with each."""

import csv

import pytest
import torch
from small import NETWORK, dataset

from esp_core import datasets, parametrisations
from esp_core.distillation.condensed import save_condensed
from esp_core.runtime.errors import UserError
from esp_core.stages import evaluate
from esp_core.study import job_specs
from esp_core.study.config import Study
from esp_core.training import protocol

SPEC = {
    "study_seed": 0,
    "dataset": "small",
    "ipc": 0,
    "method": "full",
    "network": NETWORK,
    "seeds": 5,
    "protocol": {
        "name": "dsa",
        "epochs": 3,
        "lr": 0.05,
        "momentum": 0.9,
        "weight_decay": 0.0005,
        "batch": 10,
        "augment": "none",
        "milestones": [],
        "gamma": 1.0,
        "cutmix": 0.0,
    },
}


NETWORKS = [  # group norm, batch norm, and dropout with stochastic depth
    NETWORK,
    {"name": "resnet10", "width": 4},
    {"name": "efficientnetv2s", "width": 0.1, "depth": 0.1},
]
TIMING = {"seconds", "peak_memory_bytes"}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(datasets, "load", lambda *_: dataset())


@pytest.fixture
def rows(tmp_path):
    return [evaluate.run(SPEC, tmp_path / "data.h5", None) for _ in range(2)]


@pytest.fixture
def trained(monkeypatch):
    """How many networks were trained since; set `stop` and training ends with an error once there were so many."""

    class Counter:
        count, stop = 0, 99

    train = protocol.train

    def counted(*arguments):
        if Counter.count == Counter.stop:
            raise KeyboardInterrupt
        Counter.count += 1
        return train(*arguments)

    monkeypatch.setattr(protocol, "train", counted)
    return Counter


def untimed(rows):
    return [{k: v for k, v in row.items() if k not in TIMING} for row in rows]


def test_five_seeds_are_five_different_rows_and_the_same_when_run_again(rows):
    first, again = rows
    assert [row["seed"] for row in first] == list(range(5))
    assert len({row["curve"] for row in first}) == 5
    assert untimed(first) == untimed(again)


def test_the_curve_names_the_epoch_of_each_loss(rows):
    points = [point.split(":") for point in rows[0][0]["curve"].split()]
    assert [int(epoch) for epoch, _ in points] == [1, 2, 3]
    losses = [float(loss) for _, loss in points]
    assert losses[-1] < losses[0] < 2  # of three classes, from about ln 3 on


def test_a_long_curve_is_thinned_and_keeps_its_last_epoch():
    points = evaluate._curve([float(i) for i in range(1000)]).split()
    assert len(points) == evaluate.CURVE
    assert points[0] == "20:19" and points[-1] == "1000:999"


def test_an_interrupted_evaluation_goes_on_with_the_next_seed(trained, tmp_path):
    out, whole = tmp_path / "rows.csv", tmp_path / "whole.csv"
    evaluate.finish(SPEC, tmp_path / "data.h5", None, whole)
    trained.count, trained.stop = 0, 2
    with pytest.raises(KeyboardInterrupt):
        evaluate.finish(SPEC, tmp_path / "data.h5", None, out)
    part = out.with_name("rows.csv.part")
    assert not out.exists() and len(part.read_text().splitlines()) == 2
    part.write_text(part.read_text() + '{"identity": "torn')
    trained.stop = 99
    evaluate.finish(SPEC, tmp_path / "data.h5", None, out)
    assert trained.count == 5 and not part.exists()
    with out.open() as one, whole.open() as other:
        assert untimed(csv.DictReader(one)) == untimed(csv.DictReader(other))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("network", NETWORKS, ids=[network["name"] for network in NETWORKS])
def test_a_row_is_the_same_whichever_seeds_were_trained_before_it(tmp_path, network, precision):
    spec = {**SPEC, "network": network, "precision": precision, "seeds": 3}
    whole = evaluate.run(spec, tmp_path / "data.h5", None)
    torch.manual_seed(99)
    row = evaluate.Evaluation(spec, dataset()).train_and_test(2)
    assert untimed([row]) == untimed([whole[2]])
    assert len({row["curve"] for row in whole}) == 3


def test_a_row_of_compiled_code_does_not_depend_on_the_draws_before_it(tmp_path, monkeypatch):
    """Compiling draws, too; `aot_eager` is the whole path but for the C++."""
    monkeypatch.setattr(torch, "compile", lambda function, dynamic: torch._dynamo.optimize("aot_eager", dynamic=dynamic)(function))
    spec = {**SPEC, "network": {"name": "small:dropping"}, "compile": "always", "seeds": 2}
    whole = evaluate.run(spec, tmp_path / "data.h5", None)
    assert {row["compiled"] for row in whole} == {"10 6"}
    torch.manual_seed(99)
    trial = evaluate.Evaluation(spec, dataset())
    assert untimed([trial.train_and_test(1)]) == untimed([whole[1]])
    eager = evaluate.run({**spec, "compile": "never"}, tmp_path / "data.h5", None)
    assert {row["compiled"] for row in eager} == {"no"} and eager[0]["spec"] != whole[0]["spec"]


def test_the_precision_is_in_the_row_and_moves_the_losses_a_little(tmp_path, rows):
    low = evaluate.run({**SPEC, "precision": "bfloat16"}, tmp_path / "data.h5", None)
    assert {row["precision"] for row in rows[0]} == {"float32"} and {row["precision"] for row in low} == {"bfloat16"}
    pairs = [
        (float(a.split(":")[1]), float(b.split(":")[1])) for a, b in zip(low[0]["curve"].split(), rows[0][0]["curve"].split(), strict=True)
    ]
    assert all(a == pytest.approx(b, rel=0.02) for a, b in pairs) and any(a != b for a, b in pairs)
    assert {row["protocol"] for row in low} == {row["protocol"] for row in rows[0]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"precision": "half"}, "evaluation.precision: half is unknown; use one of auto, float32, bfloat16"),
        ({"compile": True}, "evaluation.compile: True is unknown; use one of auto, always, never"),
    ],
)
def test_an_unknown_wish_is_one_line(tmp_path, change, message):
    with pytest.raises(UserError, match=message):
        evaluate.run({**SPEC, **change}, tmp_path / "data.h5", None)


def test_a_study_asks_for_precision_and_compilation_beside_the_protocol():
    def spec(**evaluation):
        study = {"study": "small", "datasets": {"digits": {"ipc": [1]}}, "methods": {"random": {}}, "evaluation": evaluation}
        return job_specs.spec(Study(study), "evaluate", "digits", "1", "random", "convnet3")

    plain, asked = spec(), spec(precision="float32", compile="never")
    assert (plain["precision"], plain["compile"]) == ("auto", "auto")
    assert asked == {**plain, "precision": "float32", "compile": "never"}
    assert not {"precision", "compile"} & plain["protocol"].keys()
    with pytest.raises(UserError, match=r"evaluation\.precision: .*bfloat16"):
        spec(precision="float16")


@pytest.mark.parametrize("change", [{"precision": "bfloat16"}, {"study_seed": 1}, {"network": {**NETWORK, "width": 8}}])
def test_rows_of_another_job_are_not_taken_up(trained, tmp_path, change):
    part = tmp_path / "part"
    evaluate.run({**SPEC, "seeds": 2}, tmp_path / "data.h5", None, part=part)
    evaluate.run({**SPEC, "seeds": 2, **change}, tmp_path / "data.h5", None, part=part)
    assert trained.count == 4


def test_a_set_of_other_classes_is_refused_before_anything_is_trained(trained, tmp_path):
    """(cat, dog) tested on (dog, cat) would be an accuracy below chance."""
    data = dataset()
    task = parametrisations.Task(3, 1, 1, 8, data.normalisation)
    path, settings = tmp_path / "set.safetensors", {"kind": "pixels"}
    for classes in (data.classes, data.classes[::-1]):
        save_condensed(path, parametrisations.build(task, **settings), settings, classes, {})
        if classes == data.classes:
            evaluate.run({**SPEC, "seeds": 1}, tmp_path / "data.h5", path)
    assert trained.count == 1
    with pytest.raises(UserError, match="set.safetensors: its class 0 of 3 is 'c', that of the data small 'a'"):
        evaluate.run(SPEC, tmp_path / "data.h5", path)
    assert trained.count == 1
