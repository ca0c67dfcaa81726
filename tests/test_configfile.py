"""Config files are read as they are written, or refused in one line that says where they are not."""

import json
import sys
from pathlib import Path

import pytest
import yaml

from esp_core.runtime.errors import UserError
from esp_core.study import config
from esp_core.study.configfile import anchored, read, refuse_nested

ROOT = Path(__file__).resolve().parent.parent
OURS = sorted(
    [
        *(ROOT / "config").glob("*.yaml"),
        *(ROOT / "docs").rglob("*.yaml"),
        *(ROOT / "esp_core").rglob("*.yaml"),
        *(ROOT / "workflow").rglob("*.yaml"),
    ]
)
TWICE = """study: dup
seed: 0
methods: {random: {}, herding: {}}
datasets:
  digits: {ipc: [1], options: {size: 16}}
methods: {dm: {}}
"""


@pytest.fixture
def refused(tmp_path):
    def line(text):
        path = tmp_path / "own.yaml"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        with pytest.raises(UserError) as error:
            read(path)
        assert "\n" not in str(error.value) and str(path) in str(error.value)
        return str(error.value).replace(str(path), "FILE")

    return line


def test_the_command_refuses_a_key_given_twice(tmp_path, monkeypatch):
    path = tmp_path / "dup.yaml"
    path.write_text(TWICE)
    monkeypatch.setattr(sys, "argv", ["study", str(path)])
    with pytest.raises(SystemExit) as stopped:
        config.main()
    assert stopped.value.code == f"error: methods: given twice, lines 3 and 6; correct {path}"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: 1\nb:\n  c: [{d: 1,\n d: 2}]\n", "b.c[0].d: given twice, lines 3 and 4"),
        ("a: 1\nb: 2\na: 3\nb: 4\na: 5\n", "b: given twice, lines 2 and 4; a: given 3 times, lines 1 and 3 and 5"),
        ("tables:\n  1: {}\n  '1': {}\n", "tables.1: given twice, lines 2 and 3"),
        ("base: &base {a: 1}\nb:\n  <<: *base\n  <<: {a: 2}\n", "b.<<: given twice, lines 3 and 4"),
        ('{"a": 1,\n "a": 2}', "a: given twice, lines 1 and 2"),
        ("ipc: [010]\n", "ipc[0]: 010 on line 1 is no decimal number for YAML; write it as one, or in quotes"),
        ("epochs: 1:30\n", "epochs: 1:30 on line 1 is no decimal number for YAML; write it as one, or in quotes"),
        ("lr: 1:30.5\n", "lr: 1:30.5 on line 1 is no decimal number for YAML; write it as one, or in quotes"),
        ("datasets:\n  on: {}\n", "datasets: the key on on line 2 is not text for YAML; put it in quotes"),
        ("2024-01-01: 1\n", "config: the key 2024-01-01 on line 1 is not text for YAML; put it in quotes"),
        ("[a, b]: 1\n", "config: the key ? on line 1 is not text for YAML; put it in quotes"),
    ],
)
def test_what_yaml_would_drop_or_read_otherwise(refused, text, line):
    assert refused(text) == f"{line}; correct FILE"


@pytest.mark.parametrize(
    "text",
    [
        "a: [",
        "a: 1\n---\na: 2\n",
        "a: !!python/object/apply:os.system [ls]\n",
        "a: 2024-13-45\n",
        "[" * 3000,
        b"\xff",
        "a: !!int x",
        "a: \t1\tb: 2",
        "a: 1\nb: &b\n  c: [*b]\n",  # holds itself
    ],
    ids=range(9),
)
def test_what_is_no_yaml(refused, text):
    assert refused(text).startswith("FILE: no YAML, ")


@pytest.mark.parametrize("text", ["", "# nothing\n", "null", "- a\n", "word"])
def test_what_is_no_mapping(refused, text):
    assert refused(text) == "FILE: a config is a mapping of keys, such as study, datasets and methods"


def test_merge_keys_anchors_and_plain_numbers_are_read_as_yaml_reads_them(tmp_path):
    text = "base: &base {a: 1, b: 08, c: 1_000, d: 0x10, e: 00, f: 01, 5: x}\nb:\n  <<: *base\n  a: 2\nc: [*base, *base]\nd: 0.5\n"
    path = tmp_path / "own.yaml"
    path.write_text(text)
    assert read(path) == yaml.safe_load(text)
    assert read(path)["b"] == {"a": 2, "b": "08", "c": 1000, "d": 16, "e": 0, "f": 1, 5: "x"}
    path.write_text(json.dumps({"study": "s", "datasets": {"digits": {"ipc": [1]}}}, indent=1))
    assert read(path) == json.loads(path.read_text())


@pytest.mark.parametrize("path", OURS, ids=[str(path.relative_to(ROOT)) for path in OURS])
def test_the_projects_own_files_hold_no_key_twice(path):
    assert len(OURS) > 10 and read(path) == yaml.safe_load(path.read_text())


def test_nested_values_on_the_command_line():
    refuse_nested({"seed": 1, "device": "cpu", "mirror": None})
    for value in ({"seeds": "2"}, ["convnet3"]):
        with pytest.raises(
            UserError, match=r"^--config evaluation: only plain values, such as seed=1, can be given here; write evaluation"
        ):
            refuse_nested({"seed": 1, "evaluation": value})


def test_a_relative_path_means_the_folder_of_the_last_file_that_gives_it(tmp_path, monkeypatch):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    monkeypatch.chdir(tmp_path)

    def data(**options):
        return {"datasets": {name: {"options": {"path": path}} for name, path in options.items()}}

    both = data(a="a.npz", b="b.npz", c="c.npz", home="~/d.npz", root="/e.npz") | {"mirror": "x"}
    both["datasets"]["a"]["mirror"], both["datasets"]["b"]["mirror"] = "files", "https://example.org/x"
    both["datasets"]["c"]["options"]["train"] = {"root": "../pictures"}
    files = {
        "one/first.yaml": data(a="a.npz", b="b.npz", home="~/d.npz", root="/e.npz"),
        tmp_path / "two/second.yaml": both | data(b="b.npz"),
    }
    files["one/first.yaml"]["datasets"]["a"]["mirror"] = "files"
    found = anchored(both, files)["datasets"]
    assert {name: one["options"]["path"] for name, one in found.items()} == {
        "a": "one/a.npz",
        "b": "two/b.npz",
        "c": "c.npz",
        "home": "~/d.npz",
        "root": "/e.npz",
    }
    assert found["a"]["mirror"] == "one/files" and found["b"]["mirror"] == "https://example.org/x"
