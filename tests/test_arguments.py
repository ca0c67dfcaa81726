"""A spec is JSON or a file of it; whatever else is given, or is missing in it, is one line."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from esp_core import __main__
from esp_core.runtime.errors import UserError
from esp_core.stages.prepare import prepare
from esp_core.study import arguments

ROOT = Path(__file__).resolve().parents[1]
READ_DATA = ("distill run", "evaluate", "experts train")
STAGES = (*READ_DATA, "prepare", "settings", "download")


def test_a_file_reads_as_the_text_in_it(tmp_path):
    spec = {"ipc": 1, "recipe": {"iterations": 0, "cells": [{"a": 1}]}}
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    assert arguments.read(str(tmp_path / "spec.json")) == arguments.read(json.dumps(spec)) == spec


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("nowhere.json", "--spec nowhere.json: neither JSON nor a file"),
        ("", "--spec : neither JSON nor a file"),
        ("[1]", "--spec: no mapping"),
        ("{'ipc': 1}", "--spec: no JSON, Expecting property name"),
        ("[" * 100_000, "--spec: no JSON"),
        ("\0", "neither JSON nor a file"),
    ],
)
def test_anything_else_is_one_line(text, told):
    with pytest.raises(UserError) as error:
        arguments.read(text)
    assert told in str(error.value) and "\n" not in str(error.value)


def test_a_missing_key_is_named_at_any_depth():
    spec = arguments.read('{"recipe": {"objectives": [{}]}}')
    for place, key in ((spec, "ipc"), (spec["recipe"], "iterations"), (spec["recipe"]["objectives"][0], "kind")):
        with pytest.raises(UserError, match=f"--spec: lacks the key {key}; print a complete one"):
            place[key]
    assert "ipc" not in spec and spec.get("ipc") is None


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "digits.h5"
    prepare({"dataset": "digits", "kind": "digits", "options": {"size": 8}, "study_seed": 0}, path)
    return path


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_says_what_an_empty_spec_lacks(stage, data, tmp_path, monkeypatch):
    given = ["--data", str(data)] if stage in READ_DATA else []
    monkeypatch.setattr(sys, "argv", ["esp", *stage.split(), "--spec", "{}", *given, "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as stopped:
        __main__.main()
    assert re.fullmatch("error: --spec: lacks the key [a-z_]+; print a complete one with .*", stopped.value.code)
    assert list(tmp_path.iterdir()) == []


def test_a_closed_pipe_ends_quietly():
    command = f"{sys.executable} -m esp_core study config/config.yaml | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.stderr == "" and done.stdout.strip() in ("0", "141")
