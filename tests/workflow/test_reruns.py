"""What runs again after a change, and what does not: a dry run after each, on a study that was run to its end once."""

import os
import signal
import subprocess
import time

DM = {f"distill digits {ipc} dm" for ipc in (1, 2)} | {f"evaluate digits {ipc} dm convnet3" for ipc in (1, 2)}
ESP = {job.replace(" dm", " esp") for job in DM}
TABLES = {"tabulate 1", "judge_claims"}
END = TABLES | {"draw_grid grid-digits"}
SETTINGS = {"write_settings"}  # the report's page of the config
TRIAL = {"try_networks_and_sets digits"}  # of seconds; what it finds is no input of the others
NETWORK = {"try_distill_network digits"}
SHARDS = {"train_experts digits 000", "train_experts digits 001"}


def ends(jobs, end=END):
    """`jobs`, and the tables and figures at the end: the curves of the cells that they make or test, among them."""
    cells = {job.split()[2] for job in jobs if job.startswith(("distill", "evaluate"))}
    return jobs | end | {f"draw_losses digits {ipc}" for ipc in cells}


def test_a_second_run_has_nothing_to_do(repository):
    assert "Nothing to be done" in repository.run()


def test_a_comment_a_docstring_or_a_new_date_in_any_module_runs_nothing(repository):
    for path in (repository.folder / "esp_core").rglob("*.py"):
        path.write_text("# A comment.\n\n" + path.read_text() + "\n\n# Another.\n")
    for path in (repository.folder / "workflow").rglob("*.smk"):
        path.touch()
    repository.config_file.touch()
    assert repository.planned() == set()


def test_one_cells_setting_runs_that_cell_and_the_tables(repository):
    config = repository.config
    config["methods"]["dm"]["cells"] = {"digits/2": {"iterations": 4}}
    repository.save(config)
    assert repository.planned() == ends({"distill digits 2 dm", "evaluate digits 2 dm convnet3"}) | SETTINGS


def test_an_edited_objective_runs_the_methods_that_use_it_and_nothing_upstream(repository):
    repository.append("esp_core.objectives.projection", "\nUSED = 1\n")
    assert repository.planned() == ends(ESP)


def test_imported_experts_are_taken_in_place_of_trained_ones(repository):
    (repository.folder / "results/tiny/experts/digits").rename(repository.folder / "mine")
    config = repository.config
    config["experts"] |= {"import": "../mine/manifest.json"}
    repository.save(config)
    assert repository.planned() == ends(ESP) | SETTINGS
    repository.run("results/tiny/distilled/digits/ipc-1/esp.safetensors")


def test_an_edited_teacher_runs_its_methods(repository):
    repository.append("esp_core.teachers.random", "\nUSED = 1\n")
    assert repository.planned() == ends(DM)


def test_an_edited_table_module_runs_the_tables_only(repository):
    repository.append("esp_core.stages.tables", "\nUSED = 1\n")
    assert repository.planned() == {"tabulate 1"}


def test_an_edited_network_runs_all_that_trains_it_but_not_the_data(repository):
    repository.append("esp_core.networks.convnet3", "\nUSED = 1\n")
    assert repository.planned() == ends(TRIAL | NETWORK | SHARDS | {"list_experts digits"} | DM | ESP)


def test_an_edited_reader_runs_everything_that_reads_its_data(repository):
    repository.append("esp_core.datasets.digits", "\nUSED = 1\n")
    assert repository.planned() == ends({"prepare digits"} | TRIAL | NETWORK | SHARDS | {"list_experts digits"} | DM | ESP)


LIGHT = ("provenance", "config", "checks", "schema", "job_specs", "kinds")


def test_modules_that_change_no_result_run_nothing(repository):
    for module in ("__init__", "__main__", "runtime.progress", "runtime.errors", *(f"study.{name}" for name in LIGHT)):
        repository.append(f"esp_core.{module}", "\nUSED = 1\n")
    assert repository.planned() == set()


def test_more_experts_train_new_shards_only(repository):
    config = repository.config
    config["experts"]["count"] = 3
    repository.save(config)
    assert repository.planned() == ends({"train_experts digits 002", "list_experts digits"} | ESP) | SETTINGS


def test_two_values_that_change_places_are_noticed(repository):
    config = repository.config
    config["methods"]["esp"]["optimiser"] = {"lr_codes": 0.01, "lr_decoders": 0.1}
    repository.save(config)
    assert repository.planned() == ends(ESP) | SETTINGS


def test_the_order_of_the_config_is_not_a_change(repository):
    config = repository.config
    config["experts"] = dict(reversed(config["experts"].items()))
    repository.save(dict(reversed(config.items())))
    assert repository.planned() == set()


def test_another_device_runs_nothing(repository):
    repository.save(repository.config | {"device": "auto"})
    assert repository.planned() == set()


def test_the_evaluations_settings_run_the_evaluations_and_the_tables(repository):
    config = repository.config
    config["evaluation"]["epochs"] = 3
    repository.save(config)
    assert repository.planned() == ends({job for job in DM | ESP if job.startswith("evaluate")}, TABLES) | SETTINGS


def test_one_deleted_csv_runs_that_evaluation_and_the_table(repository):
    (repository.folder / "results/tiny/evaluated/digits/ipc-1/dm/convnet3.csv").unlink()
    assert repository.planned() == ends({"evaluate digits 1 dm convnet3"}, TABLES)


def test_one_deleted_condensed_set_is_made_again(repository):
    (repository.folder / "results/tiny/distilled/digits/ipc-1/dm.safetensors").unlink()
    assert repository.planned() == ends({"distill digits 1 dm", "evaluate digits 1 dm convnet3"})


def test_a_new_budget_is_tried_before_it_is_distilled(repository):
    config = repository.config
    config["datasets"]["digits"]["ipc"] = [1, 2, 3]
    repository.save(config)
    new = {job.replace(" 2 ", " 3 ") for job in DM | ESP if " 2 " in job}
    assert repository.planned() == ends(TRIAL | new) | SETTINGS


def test_a_new_method_runs_alone(repository):
    config = repository.config
    config["methods"]["mine"] = {"base": "dm", "iterations": 2}
    repository.save(config)
    new = {job.replace(" dm", " mine") for job in DM}
    assert repository.planned() == ends(new) | SETTINGS


def test_a_killed_run_goes_on_with_the_same_command(repository):
    row = repository.folder / "results/tiny/evaluated/digits/ipc-1/dm/convnet3.csv"
    before = [line.split(",")[:6] for line in row.read_text().splitlines()]
    row.unlink()
    log = repository.folder / "results/tiny/logs/evaluate/digits/ipc-1/dm/convnet3.log"
    log.unlink()
    run = subprocess.Popen(repository.command(), cwd=repository.folder, env=repository.environment, start_new_session=True)
    while not log.exists() and run.poll() is None:
        time.sleep(0.05)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    assert not row.exists()
    assert "Directory cannot be locked" in repository.run(check=False)
    unlock = [*repository.command()[:1], "workflow/scripts/unlock.py", *repository.command()[3:]]
    subprocess.run(unlock, cwd=repository.folder, env=repository.environment, check=True)
    repository.run()
    assert [line.split(",")[:6] for line in row.read_text().splitlines()] == before
    assert "Nothing to be done" in repository.run()
