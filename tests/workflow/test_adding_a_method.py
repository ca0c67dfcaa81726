"""docs/adding-a-method.md, followed to the letter: its file, its entries, and no other edit."""

import csv
import re
from pathlib import Path

import yaml

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "adding-a-method.md").read_text()
MIXTURES, ENTRY = (yaml.safe_load(block) for block in re.findall(r"^```yaml\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL))
(SOURCE,) = re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
FILE = re.search(r"`(esp_core/objectives/\w+\.py)`", PAGE)[1]
SHORT = {"iterations": 2, "real_batch": 4}
SEGMENT = {"kind": "experts", "length": 1, "steps": 1, "start_max": 1}  # of experts that train for two epochs


def test_the_page_leads_to_rows_in_the_table(repository):
    assert len(SOURCE.splitlines()) <= 80
    (repository.folder / FILE).write_text(SOURCE)
    config = repository.config
    config["datasets"]["digits"]["ipc"] = [2]
    methods = {**MIXTURES, **ENTRY}
    for name, settings in methods.items():
        teacher = {"teacher": SEGMENT} if name != "dm_moments" else {}
        config["methods"][name] = {**settings, **SHORT, **teacher}
    repository.save(config)
    planned = repository.planned()
    assert {job for job in planned if job.startswith("distill")} == {f"distill digits 2 {name}" for name in methods}
    repository.run()
    with (repository.folder / "results/tiny/tables/table1.csv").open() as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    assert {name for name in methods if int(rows[name]["n"]) == config["evaluation"]["seeds"]} == set(methods)
    titles = (repository.folder / "results/tiny/tables/table1.md").read_text()
    assert all(settings["title"] in titles for settings in methods.values())
