"""What Snakemake takes for the study: one config file, whole, with plain values of --config on top."""

import subprocess

import pytest
import yaml

CASES = {
    "given twice": ("seed: 0\n{study}seed: 7\n", (), "seed: given twice, lines 1 and {last}; correct {path}"),
    "no study": (
        "datasets:\n  digits: {{ipc: [1]}}\nmethods: {{random: {{}}, dm: {{iterations: 2}}}}\n",
        (),
        "study: missing; give the study's name; its results lie in results/<study>",
    ),
    "nested": (
        "{study}",
        ("evaluation={seeds: 3}",),
        "--config evaluation: only plain values, such as seed=1, can be given here; write evaluation into the config file",
    ),
}


def planned(repository, path, *config):
    command = [*repository.command("--dry-run", "--printshellcmds"), *(("--config", *config) if config else ())]
    command[command.index("config/tiny.yaml")] = str(path)
    return subprocess.run(
        command, cwd=repository.folder, env=repository.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


@pytest.mark.parametrize("name", CASES)
def test_a_config_that_would_lose_something_is_refused_in_one_line(bare, tmp_path, name):
    text, config, line = CASES[name]
    path = tmp_path / "own.yaml"
    path.write_text(text.format(study=yaml.safe_dump(bare.config)))
    done = planned(bare, path, *config)
    last = len(path.read_text().splitlines())
    assert done.returncode == 1 and "Traceback" not in done.stdout
    shown = done.stdout.splitlines()
    assert shown[shown.index("the study's config is wrong") + 1] == line.format(last=last, path=path)
    assert "cifar10" not in done.stdout  # of the paper


def test_plain_values_of_the_command_line_stand_above_the_file(bare, tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(bare.config))
    done = planned(bare, path, "seed=7", "study=other")
    assert done.returncode == 0, done.stdout
    assert "results/other/data/digits.h5" in done.stdout and "results/tiny" not in done.stdout
    assert '"study_seed":7' in done.stdout and '"study_seed":0' not in done.stdout
