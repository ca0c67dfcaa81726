"""Released sets: what a card says is what the study measured, and can be measured again from the released files alone."""

import csv
import re
import statistics
import subprocess
import sys

import pytest
import yaml

from esp_core import load_condensed


def command(folder, *arguments):
    words = [sys.executable, "-m", "esp_core", *map(str, arguments)]
    return subprocess.run(words, cwd=folder, capture_output=True, text=True)


@pytest.fixture
def released(repository):
    done = command(repository.folder, "release", "make", "config/tiny.yaml", "--only", "digits/1/esp", "digits/2/dm")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "released: 2 sets\n"
    return repository.folder / "released"


def test_a_set_is_tested_again_from_its_card(released):
    path = released / "tiny" / "digits-ipc-1-esp.safetensors"
    with (released.parent / "results/tiny/evaluated/digits/ipc-1/esp/convnet3.csv").open() as file:
        seen = [float(row["accuracy"]) for row in csv.DictReader(file)]
    told = yaml.safe_load(path.with_suffix(".yaml").read_text())["tests"]["convnet3"]
    assert (told["n"], told["mean"], told["std"]) == (2, round(statistics.mean(seen), 4), round(statistics.stdev(seen), 4))
    done = command(released.parent, "evaluate", path, "--seeds", 2, "--results", "elsewhere")
    assert done.returncode == 0, done.stderr
    value = rf"{told['mean']:.2f} ± {told['std']:.2f} % \(n = 2\)"
    assert re.search(rf"^convnet3: {value}; the card says {value}$", done.stdout, re.MULTILINE), done.stdout


def test_a_card_holds_the_tests_of_other_studies_too(released):
    folder, networks = released.parent, ["convnet3", "resnet10"]
    more = yaml.safe_load((folder / "config/tiny.yaml").read_text()) | {"study": "more", "networks": networks}
    more |= {"methods": {"dm": {"import": "../released/tiny/digits-ipc-2-dm.safetensors"}}, "tables": {1: {"networks": networks}}}
    (folder / "config/more.yaml").write_text(yaml.safe_dump(more))
    rows = folder / "results/more/evaluated/digits/ipc-2/dm/resnet10.csv"
    rows.parent.mkdir(parents=True)
    rows.write_text((folder / "results/tiny/evaluated/digits/ipc-2/dm/convnet3.csv").read_text().replace("convnet3", "resnet10"))
    done = command(folder, "release", "make", "config/tiny.yaml", "--tests", "config/more.yaml", "--only", "digits/2/dm")
    assert done.returncode == 0, done.stderr
    told = yaml.safe_load((released / "tiny/digits-ipc-2-dm.yaml").read_text())["tests"]
    assert list(told) == networks and told["resnet10"]["spec"]["network"] == {"name": "resnet10"}
    assert told["resnet10"]["mean"] == told["convnet3"]["mean"]
    assert (released / "tiny/evaluated/digits/ipc-2/dm/resnet10.csv").read_text() == rows.read_text()
    assert "ResNet-10" in (released / "README.md").read_text()


def test_the_folder_holds_sets_cards_pictures_and_a_list(released):
    names = {str(path.relative_to(released)) for path in released.rglob("*") if path.is_file()}
    own = {f"tiny/digits-ipc-{name}.{end}" for name in ("1-esp", "2-dm") for end in ("safetensors", "yaml", "png")}
    rows = {f"evaluated/digits/ipc-{name}/convnet3.csv" for name in ("1/esp", "2/dm")}
    assert names == own | {"README.md"} | {f"tiny/{path}" for path in rows}
    assert all((released / "tiny" / path).read_text() == (released.parent / "results/tiny" / path).read_text() for path in rows)
    text = (released / "README.md").read_text()
    for card in released.glob("*/*.yaml"):
        settings, images = yaml.safe_load(card.read_text()), len(load_condensed(card.with_suffix(".safetensors")).images)
        mean, std = (settings["tests"]["convnet3"][key] for key in ("mean", "std"))
        assert f"| {settings['method']['title']} | {images} | {settings['numbers']['used']:,} | {mean:.1f} ± {std:.1f} (2) |" in text
    assert yaml.safe_load((released / "tiny/digits-ipc-1-esp.yaml").read_text())["experts"]["count"] == 2
    assert yaml.safe_load((released / "tiny/digits-ipc-2-dm.yaml").read_text())["experts"] is None


def test_what_cannot_be_is_named(released):
    path = released / "tiny" / "digits-ipc-1-esp.safetensors"
    folder = released.parent
    assert command(folder, "evaluate", path, "--network", "vgg").stderr.startswith("error: network: vgg is unknown")
    own = path.rename(folder / "own.safetensors")
    assert command(folder, "evaluate", own.name).stderr.startswith(
        "error: --data: own.safetensors has no card that names its dataset; give"
    )
    own.rename(path)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert command(folder, "evaluate", path).stderr == f"error: {path}: not the set of its card; get both again\n"
    path.with_suffix(".yaml").write_text("- no card")
    assert "no card of a released set" in command(folder, "evaluate", path).stderr
    assert "DATASET/IPC/METHOD" in command(folder, "release", "make", "config/tiny.yaml", "--only", "digits/1/mtt").stderr
    (folder / "results/tiny/evaluated/digits/ipc-1/dm/convnet3.csv").unlink()
    assert "not tested yet" in command(folder, "release", "make", "config/tiny.yaml", "--only", "digits/1/dm").stderr
