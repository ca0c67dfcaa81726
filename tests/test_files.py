"""Files that appear whole or not at all, and what killed writers leave."""

import os
import platform
import signal
import subprocess
import sys
import time

import pytest

from esp_core.runtime import files

WRITER = """
import sys, time
from pathlib import Path
from esp_core.runtime import files
with files.replacing(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    print("writing", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def writing(tmp_path):
    """A process that has begun to write `tmp_path / "table.csv"`."""
    child = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path / "table.csv")], stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "writing\n"
    yield child
    child.kill()
    child.wait()
    child.stdout.close()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_failure_leaves_what_was_there(tmp_path):
    path = tmp_path / "table.csv"
    files.write(path, "old")
    with pytest.raises(ZeroDivisionError), files.replacing(path) as temporary:
        temporary.write_text("new")
        raise ZeroDivisionError
    assert path.read_text() == "old" and names(tmp_path) == ["table.csv"]


def test_the_next_writer_removes_what_a_killed_one_left(tmp_path, writing):
    writing.send_signal(signal.SIGKILL)
    writing.wait()
    assert len(names(tmp_path)) == 1
    files.write(tmp_path / "table.md", "another file")
    assert len(names(tmp_path)) == 2
    files.write(tmp_path / "table.csv", "whole")
    assert names(tmp_path) == ["table.csv", "table.md"]


def test_what_another_process_is_writing_stays(tmp_path, writing):
    files.write(tmp_path / "table.csv", "whole")
    assert len(names(tmp_path)) == 2
    files.discard(tmp_path / "table.csv")
    [left] = names(tmp_path)
    assert left.startswith(".table-") and str(writing.pid) in left


def test_what_another_machine_began_is_removed_after_a_day(tmp_path):
    new, old = (tmp_path / f".table-other{platform.node().lower().replace('-', '')}-1-{name}.csv" for name in ("new", "old"))
    for path in (new, old):
        path.write_text("half")
    yesterday = time.time() - 25 * 3600
    os.utime(old, (yesterday, yesterday))
    files.sweep(tmp_path / "table.csv")
    assert names(tmp_path) == [new.name]
