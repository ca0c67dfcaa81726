"""esp_core/reporting/published.csv against the paper: once by counting and by values typed by hand, once against the paper's own text.

232 is every number that is printed with a deviation, each time it is printed: Table 1 has 96 in its method rows (110 places
less 14 dashes) and 4 for the full datasets; Table 2 has 2 datasets x 6 rows x 9 columns = 108, its full-data numbers thrice;
Table 3 has 5 rows x 3 columns = 15, its full-data number thrice; Table 4 has 3 x 3 = 9. 100 + 108 + 15 + 9 = 232.
"""

import csv
import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAPER = ROOT.parent / "shared/paper/esp.md"
with (ROOT / "esp_core/reporting/published.csv").open(newline="") as file:
    ROWS = list(csv.DictReader(file))
VALUES = {(int(r["table"]), r["method"], r["dataset"], int(r["ipc"]), r["architecture"]): (float(r["mean"]), float(r["std"])) for r in ROWS}

METHODS = {
    "Random": "random",
    "Herding": "herding",
    "DC [6]": "dc",
    "DSA [7]": "dsa",
    "DM [5]": "dm",
    "KIP to NN [36]": "kip",
    "CAFE + DSA [37]": "cafe_dsa",
    "Traj. Matching [10]": "mtt",
    "IDC [38]": "idc",
    "KFS [1]": "kfs",
    "ESP (ours)": "esp",
    "Full dataset": "full",
    "Proj": "esp_proj",
    "DM": "esp_dm",
    "Proj + DM": "esp",
}
DATASETS = {"SVHN": "svhn", "CIFAR10": "cifar10", "CIFAR100": "cifar100", "TinyImageNet": "tinyimagenet"}


def test_columns_and_counts():
    assert list(ROWS[0]) == ["table", "method", "dataset", "ipc", "architecture", "mean", "std"]
    assert len(ROWS) == len(VALUES) == 232
    assert Counter(table for table, *_ in VALUES) == {1: 100, 2: 108, 3: 15, 4: 9}
    assert all(0 < mean < 100 and 0 <= std < mean for mean, std in VALUES.values())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ((1, "random", "svhn", 10, "convnet3"), (35.1, 4.1)),
        ((1, "dm", "svhn", 50, "convnet3"), (84.2, 0.0)),
        ((1, "mtt", "cifar10", 1, "convnet3"), (46.3, 0.8)),
        ((1, "idc", "cifar100", 10, "convnet3"), (44.8, 0.2)),
        ((1, "kfs", "tinyimagenet", 10, "convnet3"), (27.8, 0.2)),
        ((1, "esp", "cifar10", 10, "convnet3"), (73.8, 0.2)),
        ((1, "full", "tinyimagenet", 0, "convnet3"), (37.6, 0.4)),
        ((2, "esp", "cifar10", 10, "convnet3"), (73.0, 0.3)),
        ((2, "esp", "svhn", 10, "convnet3"), (91.6, 0.2)),
        ((2, "esp", "svhn", 1, "resnet10"), (84.7, 0.6)),
        ((2, "dsa", "svhn", 50, "densenet121"), (58.0, 3.1)),
        ((2, "full", "cifar10", 50, "densenet121"), (90.5, 0.3)),
        ((3, "esp", "cifar10", 10, "efficientnetv2s"), (55.0, 1.2)),
        ((3, "full", "cifar10", 1, "efficientnetv2s"), (98.7, 0.2)),
        ((4, "esp_proj", "cifar10", 50, "convnet3"), (39.5, 0.3)),
        ((4, "esp_dm", "cifar10", 1, "convnet3"), (48.0, 0.3)),
        ((4, "esp", "cifar10", 1, "convnet3"), (62.6, 0.1)),
    ],
)
def test_values_typed_by_hand(key, value):
    assert VALUES[key] == value


def test_agrees_cell_by_cell_with_the_papers_text():
    if not PAPER.is_file():
        pytest.skip("the paper's text does not lie at ../shared/paper/esp.md")
    text = PAPER.read_text(encoding="utf-8")
    printed = {**table1(text), **table2(text), **table3(text), **table4(text)}
    assert len(printed) == 232
    assert printed == VALUES


def cells_of(text, table):
    """The rows below "Table <n>." as lists of tab-separated cells; a number is (mean, std), a dash None."""
    lines = text.split(f"\nTable {table}. ")[1].split("\n\n")[1].splitlines()
    for line in lines:
        row = [cell.strip() for cell in line.split("\t")]
        numbers = [re.fullmatch(r"(\d+\.\d) ?(?:±|\\pm) ?(\d+\.\d)", cell) for cell in row]
        if any(numbers):
            yield [None if cell == "-" else (float(m[1]), float(m[2])) if m else cell for cell, m in zip(row, numbers, strict=True)]


def table1(text):
    columns = [(d, ipc) for d, ipcs in (("svhn", 3), ("cifar10", 3), ("cifar100", 2), ("tinyimagenet", 2)) for ipc in (1, 10, 50)[:ipcs]]
    found = {}
    for name, *row in cells_of(text, 1):
        for (dataset, ipc), value in zip(columns, row, strict=True):
            if value:
                found[1, METHODS[name], dataset, 0 if name == "Full dataset" else ipc, "convnet3"] = value
    return found


def table2(text):
    columns = [(ipc, network) for ipc in (1, 10, 50) for network in ("convnet3", "resnet10", "densenet121")]
    found, dataset = {}, ""
    for first, second, *row in cells_of(text, 2):
        dataset = DATASETS.get(first, dataset)
        method = METHODS[second or first]
        found.update({(2, method, dataset, ipc, network): value for (ipc, network), value in zip(columns, row, strict=True)})
    return found


def table3(text):
    rows = cells_of(text, 3)
    return {
        (3, METHODS[method], "cifar10", ipc, "efficientnetv2s"): value
        for _, method, *row in rows
        for ipc, value in zip((1, 10, 50), row, strict=True)
    }


def table4(text):
    rows = cells_of(text, 4)
    return {
        (4, METHODS[loss], "cifar10", ipc, "convnet3"): value
        for loss, _, _, *row in rows
        for ipc, value in zip((1, 10, 50), row, strict=True)
    }
