"""The shape of the workflow, its plan for the paper, and what it says when something is wrong."""

import base64
import csv
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from esp_core.study import gpu

ROOT = Path(__file__).resolve().parents[2]
RULES = [
    (path.name, *part.split(":\n", 1))
    for path in sorted((ROOT / "workflow" / "rules").glob("*.smk"))
    for part in re.split(r"^rule ", path.read_text(), flags=re.MULTILINE)[1:]
]
STAGES = ("common", "download", "prepare", "experts", "distill", "evaluate", "report", "plots", "claims", "settings")
SHAPE = ("output", "log", "benchmark", "conda", "threads", "resources", "params", "message", "shell")
ON_A_DEVICE = {"train_experts", "distill", "evaluate", "evaluate_full", "measure_memory"}
PROFILES = ROOT / "workflow" / "profiles"
CLUSTERS = ["slurm", "cluster"]


def snakemake(*arguments):
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", *arguments], cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    return done.returncode, done.stdout


def counts(output):
    """Jobs per rule, as a dry run prints them."""
    table = output.partition("Job stats:")[2].partition("\n\n")[0]
    return {name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", table, flags=re.MULTILINE)}


def test_the_snakefile_is_short_and_every_stage_has_its_file():
    assert len((ROOT / "workflow" / "Snakefile").read_text().splitlines()) < 60
    files = {path.name for path in (ROOT / "workflow" / "rules").glob("*.smk")}
    assert files == {f"{name}.smk" for name in STAGES}


@pytest.mark.parametrize(("file", "name", "body"), RULES, ids=[name for _, name, _ in RULES])
def test_every_rule_has_the_same_shape(file, name, body):
    directives = re.findall(r"^    (\w+):", body, flags=re.MULTILINE)
    assert [d for d in directives if d not in ("input", "priority", "wildcard_constraints")] == list(SHAPE)
    if name != "download":  # verified files stay
        assert {"spec", "code"} <= set(re.findall(r"^        (\w+)=\w+_of\(", body, flags=re.MULTILINE))
    assert body.count("ancient(") == (name == "distill"), "an input that is ancient hides what changed in a job that runs after its maker"
    assert '"python -m esp_core ' in body and "> {log:q} 2>&1" in body
    assert ("gpu=gpus" in body) == ("threads: cores" in body) == (name in ON_A_DEVICE)


@pytest.mark.parametrize("name", sorted(path.parent.name for path in PROFILES.glob("*/profile.yaml")))
def test_every_key_of_a_profile_has_its_reason_beside_it(name):
    text = (PROFILES / name / "profile.yaml").read_text()
    blocks = [block.splitlines() for block in text.split("\n\n")[1:]]
    assert all(block[0].startswith("# ") for block in blocks)
    assert {line.split(":")[0] for block in blocks for line in block if re.match(r"\w", line)} == set(yaml.safe_load(text))


def test_the_profile_for_slurm_repeats_what_the_rules_ask_for():
    profile = yaml.safe_load((PROFILES / "slurm" / "profile.yaml").read_text())
    bodies = {name: body for _, name, body in RULES}
    asked = {}
    for name in ON_A_DEVICE:
        resources = re.search(r"^    resources:\n((?: {8}.*\n)*)", bodies[name], flags=re.MULTILINE)[1]
        pairs = re.findall(r"(\w+)=(\S+),", resources)
        pairs = [(key, "1" if value == "gpus" else value) for key, value in pairs]
        asked[name] = {key: int(value) if value.isdecimal() else value.strip('"') for key, value in pairs}
    assert profile["set-resources"] == asked
    assert profile["set-threads"] == dict.fromkeys(ON_A_DEVICE, gpu.threads("cuda"))


@pytest.mark.parametrize("name", CLUSTERS)
def test_only_rules_of_seconds_are_grouped(name):
    profile = yaml.safe_load((PROFILES / name / "profile.yaml").read_text())
    alone = {"download", "import_set", "try_networks_and_sets", "try_distill_network", "list_experts", "write_settings"}
    assert profile["groups"].keys() == {name for _, name, _ in RULES} - ON_A_DEVICE - alone
    assert profile["group-components"].keys() == set(profile["groups"].values())


@pytest.mark.parametrize("name", CLUSTERS)
def test_a_cluster_profile_plans_the_same_jobs(name, bare):
    command = bare.command("--workflow-profile", f"workflow/profiles/{name}", "--dry-run", "--quiet", "rules", "host")
    done = subprocess.run(command, cwd=bare.folder, env=bare.environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert counts(done.stdout + done.stderr) == counts(bare.run("--dry-run", "--quiet", "rules", "host"))


def test_the_papers_plan_is_made_in_seconds_and_counts_its_jobs():
    start = time.monotonic()
    code, output = snakemake("--dry-run", "--quiet", "rules", "--forceall")
    assert time.monotonic() - start < 30
    assert code == 0, output
    cells = 10 + 6 + 9 + 5  # esp in ten cells; two ablations and Table 3's three others at three IPCs; the batches of Figure 8
    rows = 10 + 6 * 2 + 3 * 4 + 3 * 2 + 5  # Table 1, Table 2's other networks, Table 3, the ablations of Table 4, Figure 8
    once = dict.fromkeys(("download", "prepare", "try_networks_and_sets", "try_distill_network", "list_experts"), 4)
    wanted = {**once, "train_experts": 4 * 1000 // 25, "distill": cells, "evaluate": rows}
    found = counts(output)
    shown = {
        "tabulate": 4,
        "compare": 1,
        "judge_claims": 1,
        "write_settings": 1,
        "draw_grid": 5,
        "draw_losses": 10,
        "measure_memory": 1,
        "plot_memory": 1,
        "plot_batches": 1,
        "all": 1,
    }
    assert found == {**wanted, **shown, "total": sum(wanted.values()) + sum(shown.values())}


def test_a_config_file_replaces_the_papers_and_is_not_merged_into_it(bare):
    assert all("digits" in job or job.startswith(("tabulate", "judge_claims", "write_settings")) for job in bare.planned())


def test_a_wrong_config_ends_in_one_line_and_no_traceback(tmp_path):
    config = yaml.safe_load((ROOT / "config" / "demo.yaml").read_text())
    config["experts"]["lr"] = "5e-2"
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump(config))
    code, output = snakemake("--dry-run", "--configfile", str(path))
    assert code == 1 and "Traceback" not in output
    assert "\nexperts.lr: '5e-2' is not a number; YAML 1.1 reads 5e-2 as text, write 0.05\n" in output


def test_a_failed_jobs_log_shows_without_searching(bare, tmp_path):
    repository = type(bare)(Path(shutil.copytree(bare.folder, tmp_path / "repository")))
    repository.save({**repository.config, "datasets": {"mine": {"kind": "npz", "ipc": [1], "options": {"path": "none.npz"}}}})
    command = repository.command("results/tiny/data/mine.h5", "--quiet", "host", "reason")  # as `make demo`
    done = subprocess.run(command, cwd=repository.folder, env=repository.environment, capture_output=True, text=True)
    assert done.returncode == 1
    shown = (done.stdout + done.stderr).splitlines()
    assert any(line.startswith("error: config/none.npz: no such file") for line in shown)
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize(("arguments", "runs"), [(["paper"], False), (["paper", "RUN=1"], True)])
def test_make_paper_only_plans_unless_it_is_told_to_run(arguments, runs):
    commands = subprocess.run(["make", "--dry-run", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert ("snakemake --dry-run" in commands) != runs
    assert ("unlock.py" in commands) == runs


OBJECTIVE = """
from esp_core.objectives.distribution import Distribution


class Mine(Distribution):
    def loss(self, synthetic, real, state):
        return self.strength * super().loss(synthetic, real, state)


def build(strength=1.0):
    mine = Mine("features", "mean")
    mine.strength = strength
    return mine
"""


def test_an_objective_in_one_file_and_one_config_entry_gets_its_row_in_the_table(repository):
    (repository.folder / "esp_core" / "objectives" / "mine.py").write_text(OBJECTIVE)
    config = repository.config
    config["datasets"]["digits"]["ipc"] = [1]
    config["methods"]["ours"] = {"base": "dm", "objectives": {"distribution": None, "mine": {"strength": 2.0}}}
    repository.save(config)
    assert not {job for job in repository.planned() if "dm" in job or "esp" in job}
    repository.run()
    with (repository.folder / "results/tiny/tables/table1.csv").open() as file:
        rows = {(row["method"], row["ipc"]): row["n"] for row in csv.DictReader(file)}
    assert rows["ours", "1"] == "2"
    repository.append("esp_core.objectives.mine", "\nUSED = 1\n")
    assert {job for job in repository.planned() if job.startswith("distill")} == {"distill digits 1 ours"}


def test_a_network_of_ones_own_is_part_of_the_code_that_reruns_go_by(repository):
    (repository.folder / "mine.py").write_text("from esp_core.networks.convnet3 import build as small\n")
    config = repository.config
    config["networks"] = ["convnet3", "mine:small"]
    repository.save(config)
    wanted = {f"evaluate digits {ipc} {method} mine:small" for ipc in (1, 2) for method in ("dm", "esp")}
    losses = {f"draw_losses digits {ipc}" for ipc in (1, 2)}
    assert repository.planned() == wanted | losses | {"try_networks_and_sets digits", "tabulate 2", "judge_claims", "write_settings"}
    path = "results/tiny/evaluated/digits/ipc-1/dm/mine:small.csv"
    repository.run(path)
    assert "Nothing to be done" in repository.run(path)
    (repository.folder / "mine.py").write_text("from esp_core.networks.convnet3 import build as small\nUSED = 1\n")
    assert "Nothing to be done" not in repository.run("--dry-run", path)


def test_a_comparison_runs_its_own_table_alone_and_the_report_holds_the_tables_and_the_figures(repository):
    for of, against in (("dm", "esp"), ("esp", "dm")):
        repository.save(repository.config | {"comparisons": [{"of": of, "against": against}]})
        assert repository.planned() == {"compare", "write_settings"}
        repository.run()
    repository.run("--report", "results/tiny/report.html")
    report = (repository.folder / "results/tiny/report.html").read_text()
    assert "Subspace Projection" in report  # the text of workflow/report/workflow.rst
    for name in ("tables/table1.html", "tables/comparisons.html", "tables/settings.html", "figures/grid-digits.png"):
        file = repository.folder / "results" / "tiny" / name
        assert f"{file.name};base64,{base64.b64encode(file.read_bytes()).decode()}" in report


def unlock(repository):
    command = [repository.command()[0], "workflow/scripts/unlock.py", *repository.command()[3:]]
    return subprocess.run(command, cwd=repository.folder, env=repository.environment, capture_output=True, text=True)


def test_a_lock_is_left_alone_while_something_runs(repository):
    lock = repository.folder / ".snakemake" / "locks" / "0.input.lock"
    lock.parent.mkdir(exist_ok=True)
    lock.write_text("results/tiny/data/digits.h5\n")
    (repository.folder / "snakemake").write_text("import time\nprint('up', flush=True)\ntime.sleep(60)\n")
    running = subprocess.Popen([sys.executable, "snakemake"], cwd=repository.folder, stdout=subprocess.PIPE)
    try:
        assert running.stdout.readline() == b"up\n"
        refused = unlock(repository)
    finally:
        running.kill()
        running.wait()
    assert refused.returncode == 1 and f"(process {running.pid})" in refused.stderr and lock.exists()
    assert unlock(repository).returncode == 0
    assert not lock.exists()


def test_snakemake_runs_its_own_python_where_no_environment_is_activated(bare, tmp_path):
    copy = type(bare)(shutil.copytree(bare.folder, tmp_path / "repository"))
    other = tmp_path / "bin" / "python"
    other.parent.mkdir()
    other.write_text("#!/bin/sh\necho the wrong python >&2\nexit 1\n")
    other.chmod(0o755)
    path = f"{other.parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        copy.command("results/tiny/data/digits.h5"), cwd=copy.folder, env={**os.environ, "PATH": path}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert (copy.folder / "results/tiny/data/digits.h5").is_file()
