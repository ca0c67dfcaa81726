"""The page of a study's settings: nothing is left out, and the file runs the study again."""

import html
import json
from pathlib import Path

import pytest
import yaml

from esp_core.stages import settings
from esp_core.study.config import Study, load
from esp_core.study.job_specs import spec

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("name", ["config", "demo", "cifar10"])
def test_the_file_is_the_whole_study(name, tmp_path):
    study, out = load(ROOT / "config" / f"{name}.yaml"), tmp_path / "settings.yaml"
    settings.run(json.loads(json.dumps(spec(study, "settings"))), out)
    again = Study(yaml.safe_load(out.read_text()))
    assert again.config == study.config | {"device": "auto"}, "where it ran is no setting of what it computed"
    assert [spec(again, *job) for job in again.jobs()] == [spec(study, *job) for job in study.jobs()]
    assert html.escape(out.read_text()) in out.with_suffix(".html").read_text()


def test_what_is_written_is_shown_as_text(tmp_path):
    settings.run({"config": {"study": "a", "title": "<b>ESP</b> & more"}}, tmp_path / "settings.yaml")
    assert "&lt;b&gt;ESP&lt;/b&gt; &amp; more" in (tmp_path / "settings.html").read_text()
