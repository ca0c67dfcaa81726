"""Tables of small studies written by hand, against sums done with the standard library and against text typed out."""

import csv
import math
import os
import re
import statistics
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
import pytest

from esp_core.distillation import saturation
from esp_core.reporting import present, rendering, summary
from esp_core.runtime.errors import UserError
from esp_core.stages import evaluate, show, tables

ROOT = Path(__file__).resolve().parents[1]
PUBLISHED = ROOT / "esp_core/reporting/published.csv"
T4 = 2.776445  # Student's t at 0.975 with 4 degrees of freedom, from a printed table


def put(results, dataset, ipc, method, accuracies, network="convnet3", **changes):
    """The per-seed rows of one run, as the evaluation writes them; `changes` overwrite columns."""
    cell = "full" if method == "full" else f"ipc-{ipc}/{method}"
    path = results / "evaluated" / dataset / cell / f"{network}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    full = method == "full"
    row = dict.fromkeys(evaluate.COLUMNS, 1) | {
        "dataset": dataset,
        "ipc": 0 if full else ipc,
        "method": method,
        "network": network,
        "protocol": "dsa-1a2b3c4d",
        "budget": 0 if full else 2560 * ipc,
        "budget_used": 0 if full else 2520 * ipc,
        "saturated": 0.0,
        "parameters": 320_010,
        "device": "cpu: x86_64",
        "torch": "2.13.0+cpu",
    }
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, evaluate.COLUMNS)
        writer.writeheader()
        for seed, accuracy in enumerate(accuracies):
            writer.writerow(row | {"seed": seed, "accuracy": accuracy} | changes)
    return path


def row_files(results):
    """The files of all runs that were put below `results`."""
    return sorted((results / "evaluated").rglob("*.csv"))


def spec(cells, methods, table=1, networks=("convnet3",), titles=None):
    return {
        "table": table,
        "study": "small",
        "cells": [list(cell) for cell in cells],
        "methods": list(methods),
        "networks": list(networks),
        "titles": titles or {},
    }


def make(results, the_spec):
    """Run the stage; the tidy table, the Markdown and the LaTeX."""
    out = results / f"tables/table{the_spec['table']}.csv"
    tables.run(the_spec, row_files(results), PUBLISHED, out)
    return pd.read_csv(out), out.with_suffix(".md").read_text(), out.with_suffix(".tex").read_text()


def entries(markdown, number=0):
    """The cells of the `number`-th table of a Markdown text: row by row, headings included, the rule left out."""
    blocks = [block.splitlines() for block in markdown.split("\n\n") if block.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in [blocks[number][0], *blocks[number][2:]]]


DM = [88.1, 89.4, 87.2, 90.6, 88.8]
ESP = [93.2, 93.9, 92.8, 94.4, 93.6]


def test_the_tidy_table_holds_mean_sample_deviation_interval_difference_and_budget(tmp_path):
    path = put(tmp_path, "cifar10", 1, "esp", ESP)
    frame, _, _ = make(tmp_path, spec([("cifar10", 1)], ["esp"]))
    assert list(frame.columns) == summary.COLUMNS
    row = frame[frame.method == "esp"].iloc[0]
    mean, std = statistics.mean(ESP), statistics.stdev(ESP)
    assert (row.table, row.dataset, row.ipc, row.network, row.n) == (1, "cifar10", 1, "convnet3", 5)
    assert row["mean"] == pytest.approx(mean, abs=5e-5)
    assert row["std"] == pytest.approx(std, abs=5e-5)
    assert (row.low, row.high) == pytest.approx((mean - T4 * std / math.sqrt(5), mean + T4 * std / math.sqrt(5)), abs=1e-4)
    assert (row.published_mean, row.published_std) == (63.0, 0.4)
    assert row.difference == pytest.approx(mean - 63.0, abs=1e-4)
    assert (row.budget, row.budget_used) == (2560, 2520)
    again = pd.read_csv(path).accuracy.agg(["mean", "std"])
    assert (row["mean"], row["std"]) == pytest.approx(tuple(again), abs=5e-5)


def test_the_papers_layout_for_cells_that_the_paper_lacks(tmp_path):
    put(tmp_path, "digits", 1, "dm", DM)
    put(tmp_path, "digits", 10, "dm", [96.0, 97.0])
    put(tmp_path, "digits", 1, "esp", ESP)
    put(tmp_path, "digits", 0, "full", [99.0, 99.2], protocol="dsa-ffffffff")
    frame, markdown, _ = make(tmp_path, spec([("digits", 1), ("digits", 10)], ["full", "esp", "dm"], titles={"dm": "Distribution"}))
    assert entries(markdown) == [
        ["Method", "digits, IPC 1", "digits, IPC 10"],
        ["Distribution", "88.8 ± 1.3", "**96.5 ± 0.7**"],
        ["ESP (ours)", "**93.6 ± 0.6**", "not measured"],
        ["Full dataset", "99.1 ± 0.1", "99.1 ± 0.1"],
    ]
    assert entries(markdown, 1) == [
        ["Method", "digits, IPC 1", "digits, IPC 10"],
        ["Budget", "2,560", "25,600"],
        ["Distribution", "2,520 (98.4%)", "25,200 (98.4%)"],
        ["ESP (ours)", "2,520 (98.4%)", ""],
    ]
    assert markdown.startswith("# Table 1. Classification accuracies (%) on ConvNet-3\n")
    assert "n = 2 to 5 (column n of the CSV says which)" in markdown
    assert "The paper has no numbers for these cells." in markdown
    assert "Protocol: dsa-1a2b3c4d for digits; dsa-ffffffff for digits (full data). Networks: ConvNet-3 of 320,010 parameters." in markdown
    assert "torch 2.13.0+cpu; device cpu: x86_64." in markdown
    assert frame.bold.sum() == 2


def test_a_study_of_full_data_alone_has_its_table(tmp_path):
    put(tmp_path, "digits", 0, "full", [99.0, 99.2])
    _, markdown, _ = make(tmp_path, spec([("digits", 1)], ["full"]))
    assert entries(markdown) == [["Method", "digits, IPC 0"], ["Full dataset", "99.1 ± 0.1"]]


def test_rows_that_only_the_paper_has_are_quoted_in_its_order(tmp_path):
    put(tmp_path, "cifar10", 10, "esp", [70.0, 72.0])
    put(tmp_path, "cifar10", 10, "mine", [71.0, 71.0])
    frame, markdown, _ = make(tmp_path, spec([("cifar10", 10)], ["esp", "mine", "dm", "full"]))
    rows = {row[0]: row[1] for row in entries(markdown)[1:]}
    quoted = ["Random", "Herding", "DC", "DSA", "DM", "KIP (random features)", "CAFE + DSA", "Traj. Matching", "IDC", "KFS"]
    assert list(rows) == [*quoted, "ESP (ours)", "mine", "Full dataset"]
    assert rows["DM"] == "not measured (48.9 ± 0.6)"
    assert rows["ESP (ours)"] == "71.0 ± 1.4 (73.8 ± 0.2, −2.8)"
    assert rows["KFS"] == "not measured (**72.0 ± 0.3**)"
    assert rows["mine"] == "71.0 ± 0.0"
    assert rows["Full dataset"] == "not measured (84.8 ± 0.1)"
    assert "where a row is not measured its quoted number takes part" in markdown
    assert frame[frame.n == 0][["mean", "std", "difference", "budget"]].isna().all(axis=None)


def test_the_best_are_bold_together_when_they_print_alike(tmp_path):
    put(tmp_path, "digits", 1, "dm", [90.01, 90.03])
    put(tmp_path, "digits", 1, "esp", [89.98, 90.0])
    put(tmp_path, "digits", 1, "random", [89.9, 89.9])
    frame, _, _ = make(tmp_path, spec([("digits", 1)], ["random", "dm", "esp"]))
    assert dict(zip(frame.method, frame.bold, strict=True)) == {"random": False, "dm": True, "esp": True}


def test_table_2_has_a_row_a_dataset_and_method_and_a_column_an_ipc_and_network(tmp_path):
    cells, networks = [("svhn", 1), ("svhn", 10), ("cifar10", 1)], ["convnet3", "resnet10"]
    for i, (dataset, ipc) in enumerate(cells):
        for j, network in enumerate(networks):
            put(tmp_path, dataset, ipc, "esp", [80 + 2 * i + j], network=network)
    for dataset, base in (("svhn", 90), ("cifar10", 95)):
        for j, network in enumerate(networks):
            put(tmp_path, dataset, 0, "full", [base + j], network=network)
    _, markdown, _ = make(tmp_path, spec(cells, ["esp", "full"], table=2, networks=networks))
    head, *rows = entries(markdown)
    assert head == ["Dataset", "Method", "IPC 1, ConvNet-3", "IPC 1, ResNet-10", "IPC 10, ConvNet-3", "IPC 10, ResNet-10"]
    values = {tuple(row[:2]): [cell.partition(" (")[0].strip("*") for cell in row[2:]] for row in rows}
    assert [key[0] for key in values] == ["SVHN"] * 6 + ["CIFAR10"] * 6
    assert values["SVHN", "ESP (ours)"] == ["80.0", "81.0", "82.0", "83.0"]
    assert values["CIFAR10", "ESP (ours)"] == ["84.0", "85.0", "", ""]
    assert values["SVHN", "Full dataset"] == ["90.0", "91.0", "90.0", "91.0"]
    assert values["CIFAR10", "Full dataset"] == ["95.0", "96.0", "95.0", "96.0"]
    assert rows[4][2] == "80.0 (84.8 ± 0.3, −4.8)"
    assert rows[5][3] == "91.0 (93.8 ± 0.5, −2.8)"
    assert "IDC's code tests CIFAR on a ResNet-10 of widths 32 to 256, 1,228,970 parameters, for 64 to 512 and 4,903,242" in markdown


def test_table_3_stands_on_efficientnet_and_warns_of_the_quoted_full_data(tmp_path):
    put(tmp_path, "cifar10", 1, "esp", [30.0, 31.0], network="efficientnetv2s")
    _, markdown, _ = make(tmp_path, spec([("cifar10", 1)], ["esp"], table=3, networks=["efficientnetv2s"]))
    assert markdown.startswith("# Table 3. Cross-architecture accuracies (%) on EfficientNetV2-S\n")
    assert entries(markdown) == [
        ["Dataset", "Method", "IPC 1"],
        ["CIFAR10", "DC", "not measured (16.1 ± 1.7)"],
        ["CIFAR10", "DSA", "not measured (16.5 ± 0.3)"],
        ["CIFAR10", "Traj. Matching", "not measured (17.7 ± 0.2)"],
        ["CIFAR10", "ESP (ours)", "**30.5 ± 0.7** (35.3 ± 0.4, −4.8)"],
        ["CIFAR10", "Full dataset", "not measured (98.7 ± 0.2)"],
    ]
    assert "out of reach without pre-training" in markdown


def test_table_4_ends_with_the_difference_seed_by_seed_and_its_interval(tmp_path):
    put(tmp_path, "cifar10", 1, "esp_dm", DM)
    put(tmp_path, "cifar10", 1, "esp", ESP)
    put(tmp_path, "cifar10", 1, "esp_proj", [41.0, 42.0])
    methods = ["esp_proj", "esp_dm", "esp"]
    frame, markdown, _ = make(tmp_path, spec([("cifar10", 1)], methods, table=4))
    differences = [a - b for a, b in zip(ESP, DM, strict=True)]
    mean, half = statistics.mean(differences), T4 * statistics.stdev(differences) / math.sqrt(5)
    row = frame.iloc[-1]
    assert (row.method, row.n) == ("esp-esp_dm", 5)
    assert row["std"] == pytest.approx(statistics.stdev(differences), abs=5e-5)
    assert (row["mean"], row.low, row.high) == pytest.approx((mean, mean - half, mean + half), abs=1e-4)
    assert (row.published_mean, row.difference) == pytest.approx((62.6 - 48.0, mean - 14.6), abs=1e-4)
    assert not row.bold
    assert entries(markdown)[-1] == [
        "ESP (ours) − DM on experts, paired",
        f"{mean:+.1f} [{mean - half:+.1f}, {mean + half:+.1f}] (+14.6)",
    ]
    assert "The last row is the mean of the differences between two methods, seed by seed" in markdown


def test_a_paired_difference_goes_by_seed_and_drops_seeds_without_a_partner(tmp_path):
    put(tmp_path, "digits", 1, "esp", [90.0, 80.0, 70.0])
    path = put(tmp_path, "digits", 1, "esp_dm", [60.0, 75.0])
    path.write_text("".join(line.replace(",convnet3,0,", ",convnet3,7,") for line in path.read_text().splitlines(keepends=True)))
    frame, markdown, _ = make(tmp_path, spec([("digits", 1)], ["esp", "esp_dm"], table=4))
    row = frame.iloc[-1]
    assert (row.n, row["mean"]) == (1, 5.0)
    assert math.isnan(row.low)
    assert entries(markdown)[-1][1] == "+5.0"


def test_two_versions_of_torch_are_refused_by_name(tmp_path):
    put(tmp_path, "digits", 1, "dm", DM)
    put(tmp_path, "digits", 1, "esp", ESP)
    old = put(tmp_path, "digits", 1, "random", [50.0], torch="2.11.0")
    with pytest.raises(UserError) as caught:
        make(tmp_path, spec([("digits", 1)], ["random", "dm", "esp"]))
    message = str(caught.value)
    assert message.startswith(f"rows of more than one torch cannot stand in one table: 2.11.0 ({old}) and 2.13.0+cpu (")
    assert "delete the files of all but one and run again" in message
    assert "\n" not in message
    assert not (tmp_path / "tables").exists()


def test_two_protocols_for_the_condensed_sets_of_a_dataset_are_refused_by_name(tmp_path):
    put(tmp_path, "digits", 1, "dm", DM)
    put(tmp_path, "digits", 10, "dm", DM)
    other = put(tmp_path, "digits", 1, "esp", ESP, protocol="idc-00000000")
    with pytest.raises(
        UserError, match=re.escape(f"protocol for digits on convnet3 cannot stand in one table: idc-00000000 ({other}) and")
    ):
        make(tmp_path, spec([("digits", 1), ("digits", 10)], ["dm", "esp"]))


def test_datasets_networks_and_full_data_may_have_protocols_of_their_own(tmp_path):
    put(tmp_path, "svhn", 1, "esp", ESP, protocol="dsa-00000001")
    put(tmp_path, "cifar10", 1, "esp", ESP, protocol="dsa-00000002")
    put(tmp_path, "cifar10", 0, "full", ESP, protocol="dsa-00000003")
    _, markdown, _ = make(tmp_path, spec([("svhn", 1), ("cifar10", 1)], ["esp", "full"]))
    assert "dsa-00000001 for svhn; dsa-00000002 for cifar10; dsa-00000003 for cifar10 (full data)." in markdown


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda text: "", "No columns to parse"),
        (lambda text: text + "1,2," * 20 + "\n", "Expected 22 fields"),
        (lambda text: "accuracy\n1\n", "lacks dataset, method, network, protocol, device, torch, ipc, seed, budget"),
        (lambda text: text.splitlines()[0] + "\n", "holds no rows"),
        (lambda text: text.replace("93.2", ""), "a value is missing"),
        (lambda text: text.replace("93.2", "ninety"), "'ninety'"),
        (lambda text: text.replace("93.2", "932"), "an accuracy above 100"),
        (lambda text: text.replace("93.2", "-1"), "a number out of its range"),
        (lambda text: text.replace("2560", "inf"), "a number out of its range"),
        (lambda text: text.replace("convnet3,4", "convnet3,3"), "a seed twice"),
        (lambda text: text.replace("convnet3,4", "resnet10,4"), "holds the rows of more than one run"),
        (lambda text: text.replace("digits,1,esp", "digits,10,esp", 1), "holds the rows of more than one run"),
    ],
)
def test_a_damaged_file_is_named_with_what_to_do(tmp_path, damage, says):
    path = put(tmp_path, "digits", 1, "esp", ESP)
    path.write_text(damage(path.read_text()))
    with pytest.raises(UserError) as caught:
        make(tmp_path, spec([("digits", 1)], ["esp"]))
    assert str(caught.value).startswith(f"{path}: ")
    assert says in str(caught.value)
    assert str(caught.value).endswith("delete it and run again")
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_text_are_named_too(tmp_path):
    path = put(tmp_path, "digits", 1, "esp", ESP)
    path.write_bytes(b"\xff\xfe\x00\x80,\n\x93")
    with pytest.raises(UserError, match=re.escape(f"{path}: must have columns")):
        make(tmp_path, spec([("digits", 1)], ["esp"]))


def test_nothing_measured_still_gives_the_papers_table(tmp_path):
    frame, markdown, tex = make(tmp_path, spec([("svhn", 1)], ["esp"]))
    assert (frame.n == 0).all()
    assert entries(markdown)[-2] == ["ESP (ours)", "not measured (**84.8 ± 0.3**)"]
    assert "Nothing in this table was measured" in markdown
    assert tex.count("\\begin{tabular}") == 1


def test_a_table_of_nothing_or_of_no_paper_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"^tables\.1: has no cell, method or network to show"):
        make(tmp_path, spec([], ["esp"]))
    with pytest.raises(UserError, match=r"^table: 5 is none of the paper's; use one of 1, 2, 3, 4$"):
        make(tmp_path, spec([("svhn", 1)], ["esp"], table=5))


@pytest.mark.parametrize("content", [None, "table,method\n1,esp\n", ""])
def test_published_numbers_that_cannot_be_read_are_named(tmp_path, content):
    published = tmp_path / "published.csv"
    if content is not None:
        published.write_text(content)
    with pytest.raises(UserError, match=f"^{re.escape(str(published))}: .*restore the file$"):
        tables.run(spec([("svhn", 1)], ["esp"]), [], published, tmp_path / "out.csv")


def test_latex_has_whole_rows_balanced_braces_and_no_bare_sign(tmp_path):
    put(tmp_path, "cifar10", 1, "esp", ESP)
    put(tmp_path, "cifar10", 10, "esp", ESP)
    put(tmp_path, "my_set", 1, "a_b", ESP)
    titles = {"a_b": "A_B & 50% {of} #1~^\\"}
    _, _, tex = make(tmp_path, spec([("cifar10", 1), ("cifar10", 10), ("my_set", 1)], ["esp", "a_b"], titles=titles))
    assert r"A\_B \& 50\% \{of\} \#1\textasciitilde{}\textasciicircum{}\textbackslash{}" in tex
    assert r"& \multicolumn{2}{c}{CIFAR10} & my\_set \\" in tex
    assert r"\textbf{93.6 $\pm$ 0.6} (63.0 $\pm$ 0.4, +30.6)" in tex
    bare = re.sub(r"\\[{}\\]", "", tex)
    assert bare.count("{") == bare.count("}")
    for environment in ("table", "tabular", "adjustbox"):
        assert tex.count(f"\\begin{{{environment}}}") == tex.count(f"\\end{{{environment}}}") > 0
    body = [line for line in tex.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
    assert {len(re.findall(r"(?<!\\)&", line)) for line in body} == {3}
    assert not re.search(r"[±−×]", tex)


def test_a_bar_in_a_title_does_not_break_the_markdown_table(tmp_path):
    put(tmp_path, "digits", 1, "esp", ESP)
    _, markdown, _ = make(tmp_path, spec([("digits", 1)], ["esp"], titles={"esp": "a|b"}))
    assert "| a\\|b | **93.6 ± 0.6** |" in markdown


def test_several_networks_in_table_1_get_columns_of_their_own(tmp_path):
    put(tmp_path, "digits", 1, "esp", [90.0])
    put(tmp_path, "digits", 1, "esp", [91.0], network="mine.nets:small")
    _, markdown, _ = make(tmp_path, spec([("digits", 1)], ["esp"], networks=["convnet3", "mine.nets:small"]))
    assert entries(markdown) == [
        ["Method", "digits, IPC 1, ConvNet-3", "digits, IPC 1, mine.nets:small"],
        ["ESP (ours)", "**90.0**", "**91.0**"],
    ]
    assert markdown.startswith("# Table 1. Classification accuracies (%) on ConvNet-3 and mine.nets:small\n")


def test_show_says_where_everything_lies_and_prints_table_1_in_the_width_given(tmp_path):
    put(tmp_path, "cifar10", 1, "esp", [60.0, 62.0])
    put(tmp_path, "cifar10", 10, "esp", [70.0, 72.0])
    make(tmp_path, spec([("cifar10", 1), ("cifar10", 10)], ["esp"]))
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures/figure4.png").touch()
    (tmp_path / "report.html").touch()
    wide = show.show(tmp_path, 100).splitlines()
    assert wide[:3] == [
        f"Tables   {tmp_path}/tables/ table1.md",
        f"Figures  {tmp_path}/figures/ figure4.png",
        f"Report   {tmp_path}/ report.html",
    ]
    cells = [re.split(r" {2,}", line) for line in wide[6:]]
    assert cells[0] == ["Method", "CIFAR10, IPC 1", "CIFAR10, IPC 10"]
    assert ["KFS", "(59.8 ± 0.5)", "(72.0 ± 0.3)"] in cells
    assert ["ESP (ours)", "61.0 ± 1.4", "71.0 ± 1.4"] in cells
    assert len({len(line) for line in wide[6:] if "±" in line}) == 1  # aligned
    narrow = show.show(tmp_path, 40)
    assert max(map(len, narrow.splitlines()[6:])) <= 40
    assert narrow.count("ESP (ours)") == 2


def test_show_without_tables_or_with_anothers_says_what_to_do(tmp_path):
    with pytest.raises(UserError, match=re.escape(f"{tmp_path}/tables/table1.csv: not there; run snakemake")):
        show.show(tmp_path, 80)
    (tmp_path / "tables").mkdir()
    for content in ("", "a,b\n1,2\n", ",".join(summary.COLUMNS) + "\n"):
        (tmp_path / "tables/table1.csv").write_text(content)
        with pytest.raises(UserError, match="not a table of this version"):
            show.show(tmp_path, 80)


def test_the_command_is_quick_to_load_and_ends_a_mistake_with_one_line(tmp_path):
    command = [sys.executable, "-m", "esp_core", "show", str(tmp_path)]
    result = subprocess.run(command, cwd=ROOT, env={**os.environ}, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == f"error: {tmp_path}/tables/table1.csv: not there; run snakemake for this study first\n"
    program = "import sys, esp_core.stages.tables; print(sorted({'torch', 'torchvision', 'matplotlib', 'scipy'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert result.stdout == "[]\n"


def test_html_holds_the_same_entries_escaped_and_its_head_spans_its_columns():
    columns = pd.MultiIndex.from_tuples([("CIFAR-10", "IPC 1"), ("CIFAR-10", "IPC 10"), ("SVHN", "IPC 1")])
    rows = pd.MultiIndex.from_tuples([("A & B",)], names=["Method"])
    long = "x<y" * 40
    page = rendering.web("<T>", [pd.DataFrame([["**1.0 ± 0.1** (2.0)", "not measured (**3.0**)", long]], rows, columns), "a < b"])
    assert "<title>&lt;T&gt;</title>" in page and "<p>a &lt; b</p>" in page
    root = ElementTree.fromstring(page[page.index("<table") : page.index("</table>") + len("</table>")])
    top, below = root.findall("thead/tr")
    assert [(th.text, int(th.get("colspan", "1"))) for th in top] == [(None, 1), ("CIFAR-10", 2), ("SVHN", 1)]
    assert [th.text for th in below] == ["Method", "IPC 1", "IPC 10", "IPC 1"]
    (line,) = root.findall("tbody/tr")
    assert ["".join(cell.itertext()) for cell in line] == ["A & B", "1.0 ± 0.1 (2.0)", "not measured (3.0)", long]
    assert [cell.findtext("b") for cell in line] == [None, "1.0 ± 0.1", "3.0", None]


def test_a_file_of_a_run_that_the_table_does_not_show_is_left_out_and_counted_and_one_given_twice_refused(tmp_path, capsys):
    put(tmp_path, "digits", 1, "esp", ESP)
    put(tmp_path, "digits", 1, "other", DM, torch="2.11.0")
    frame, _, _ = make(tmp_path, spec([("digits", 1)], ["esp"]))
    assert frame.method.tolist() == ["esp"]
    assert capsys.readouterr().out.endswith("1 rows, 1 of them measured; 1 files of other rows left out\n")
    again = tmp_path / "again.csv"
    again.write_bytes((tmp_path / "evaluated/digits/ipc-1/esp/convnet3.csv").read_bytes())
    with pytest.raises(UserError, match="the same run as .*; give one of them"):
        tables.run(spec([("digits", 1)], ["esp"]), [*row_files(tmp_path), again], PUBLISHED, tmp_path / "out.csv")


def test_a_saturated_set_is_named_once_below_the_table(tmp_path):
    assert present.SATURATED == saturation.TOLD  # which the table's module is too light to import
    put(tmp_path, "digits", 1, "esp", DM)
    _, markdown, _ = make(tmp_path, spec([("digits", 1)], ["esp"]))
    assert "Saturated" not in markdown
    put(tmp_path, "digits", 1, "dm", DM, saturated=0.894)
    put(tmp_path, "digits", 1, "dsa", DM, saturated=0.24)
    _, markdown, _ = make(tmp_path, spec([("digits", 1)], ["esp", "dm", "dsa"]))
    assert markdown.count("Saturated") == 1 and "by too high a rate: dm for digits, IPC 1 (89%).\n" in markdown
