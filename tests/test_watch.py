"""`esp watch` reads what Progress writes."""

import os

import pytest

from esp_core.runtime.errors import UserError
from esp_core.runtime.progress import Progress
from esp_core.stages import watch

NOW = 1_000_000.0


@pytest.fixture
def job(tmp_path):
    """job(name, total, notes, age): the log of a job that has made a step for each of `notes`, `age` seconds ago."""

    def write(name, total, notes, age):
        path = tmp_path / "logs" / f"{name}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w") as stream:
            stream.write("device cpu: x, threads of the processor: 1\n")
            progress = Progress("digits ipc 1 esp", total, every=0, stream=stream)
            for note in notes:
                progress.step(note)
            stream.write("evaluation: precision float32: as asked\n")
        os.utime(path, (NOW - age, NOW - age))

    return write


def test_running_jobs_stand_a_line_each_the_latest_first(job, tmp_path):
    job("distill/digits/ipc-1/esp", 9, ["", "distribution 2.5, projection 0.1", ""], 75)
    job("train_experts/digits/shard-000", 50, ["expert 0, loss 2.103"], 5)
    job("distill/digits/ipc-1/dm", 2, ["a", "b"], 5)  # done
    job("distill/digits/ipc-1/dsa", 2, ["a"], 3601)  # gone
    job("prepare/digits", 2, [], 1)  # has said nothing
    lines = [[cell for cell in line.split("  ") if cell] for line in watch.run(tmp_path, NOW).splitlines()]
    assert [[line[0], line[1].strip(), *(cell.strip() for cell in line[3:])] for line in lines] == [
        ["job", "done", "age", "last"],
        ["train_experts/digits/shard-000", "1/50 steps", "0:05", "expert 0, loss 2.103"],
        ["distill/digits/ipc-1/esp", "3/9 steps", "1:15", "distribution 2.5, projection 0.1"],
    ]


def test_a_quiet_study_and_another_folder_are_told(job, tmp_path):
    with pytest.raises(UserError, match="no log below it; give the folder"):
        watch.run(tmp_path, NOW)
    job("distill/digits/ipc-1/dm", 1, ["a"], 7200)
    assert watch.run(tmp_path, NOW) == f"{tmp_path}: nothing runs; the last line was written 2:00:00 ago"
