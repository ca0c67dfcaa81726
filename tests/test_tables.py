"""Tables of small studies written by hand, against sums done with the standard library and against text typed out."""

import math
import re
import statistics
import subprocess
import sys

import pytest
from handwritten_rows import DM, ESP, ROOT, entries, made, make, put, spec

from esp_core.distillation import saturation
from esp_core.reporting import summary, table_text
from esp_core.runtime.errors import UserError
from esp_core.stages import tables

T4 = 2.776445  # Student's t at 0.975 with 4 degrees of freedom, from a printed table


@pytest.mark.parametrize(("title", "heading"), [("", "Classification accuracies (%) on ConvNet-3"), ("What I changed", "What I changed")])
def test_a_studys_own_table_has_its_name_and_title_and_the_papers_numbers(tmp_path, title, heading):
    put(tmp_path, "cifar10", 1, "esp", ESP)
    own = {**spec([("cifar10", 1)], ["esp"]), "name": "mine", "title": title}
    frame, markdown, latex = made(tables, tmp_path, own, "table-mine")
    row = frame[frame.method == "esp"].iloc[0]
    assert markdown.startswith(f"# Table mine. {heading}\n") and f"\\caption{{{heading.replace('%', chr(92) + '%')}.}}" in latex
    assert (row.table, row.n, row.published_mean) == ("mine", 5, 63.0)


def test_the_tidy_table_holds_mean_sample_deviation_interval_difference_and_budget(tmp_path):
    put(tmp_path, "cifar10", 1, "esp", ESP)
    frame, _, _ = make(tmp_path, [("cifar10", 1)], ["esp"])
    row, mean, std = frame[frame.method == "esp"].iloc[0], statistics.mean(ESP), statistics.stdev(ESP)
    assert list(frame.columns) == summary.COLUMNS and (row.table, row.dataset, row.ipc, row.network, row.n) == (
        1,
        "cifar10",
        1,
        "convnet3",
        5,
    )
    half = T4 * std / math.sqrt(5)
    assert row[["mean", "std", "low", "high", "difference"]].tolist() == pytest.approx(
        [mean, std, mean - half, mean + half, mean - 63.0], abs=1e-4
    )
    assert (row.published_mean, row.published_std, row.budget, row.budget_used) == (63.0, 0.4, 2560, 2520)
    quoted = frame[frame.n == 0]
    assert len(quoted) and quoted[["mean", "std", "difference", "recovery", "gain", "budget"]].isna().all(axis=None)


def test_the_papers_layout_for_cells_that_the_paper_lacks_with_scores_against_full_data_and_random_images(tmp_path):
    put(tmp_path, "digits", 1, "dm", DM)
    put(tmp_path, "digits", 10, "dm", [96.0, 97.0])
    put(tmp_path, "digits", 1, "random", [60.0, 61.0])
    put(tmp_path, "digits", 0, "full", [99.0, 99.2], protocol="dsa-ffffffff")
    frame, markdown, _ = make(tmp_path, [("digits", 1), ("digits", 10)], ["full", "esp", "dm", "random"], titles={"dm": "Distribution"})
    head = ["Method", "digits, IPC 1", "digits, IPC 10"]
    assert entries(markdown) == [
        head,
        ["Random", "60.5 ± 0.7", "not measured"],
        ["Distribution", "**88.8 ± 1.3**", "**96.5 ± 0.7**"],
        ["ESP", "not measured", "not measured"],
        ["Full dataset", "99.1 ± 0.1", "99.1 ± 0.1"],
    ]
    used = [["Random", "2,520 (98.4%)", ""], ["Distribution", "2,520 (98.4%)", "25,200 (98.4%)"]]
    assert entries(markdown, 1) == [head, ["Budget", "2,560", "25,600"], *used]
    assert markdown.startswith("# Table 1. Classification accuracies (%) on ConvNet-3\n")
    for said in (
        "n = 2 to 5 (column n of the CSV says which)",
        "The paper has no numbers for these cells.",
        "Protocol: dsa-1a2b3c4d for digits; dsa-ffffffff for digits (full data). Networks: ConvNet-3 of 320,010 parameters.",
        "torch 2.13.0+cpu; device cpu: x86_64.",
    ):
        assert said in markdown
    assert markdown.count(table_text.SCORES) == 1 and frame.bold.sum() == 2
    scores = {(row.method, row.ipc): (row.recovery, row.gain) for row in frame.itertuples()}
    nothing = pytest.approx(math.nan, nan_ok=True)
    assert scores["dm", 1] == pytest.approx((statistics.mean(DM) / 99.1, statistics.mean(DM) - 60.5), abs=1e-4)
    assert scores["dm", 10] == (pytest.approx(96.5 / 99.1, abs=1e-4), nothing)  # no random images of this budget
    assert scores["esp", 1] == (nothing, nothing) and scores["random", 1] == (pytest.approx(60.5 / 99.1, abs=1e-4), 0)


def test_a_study_without_full_data_and_random_images_has_no_scores_and_one_of_full_data_alone_its_table(tmp_path):
    put(tmp_path, "digits", 1, "esp", ESP)
    frame, markdown, _ = make(tmp_path, [("digits", 1)], ["esp"])
    assert frame[["recovery", "gain"]].isna().all(axis=None) and table_text.SCORES not in markdown
    put(tmp_path, "digits", 0, "full", [99.0, 99.2])
    assert entries(make(tmp_path, [("digits", 1)], ["full"])[1]) == [["Method", "digits, IPC 0"], ["Full dataset", "99.1 ± 0.1"]]


def test_rows_that_only_the_paper_has_are_quoted_in_its_order(tmp_path):
    put(tmp_path, "cifar10", 10, "esp", [70.0, 72.0])
    put(tmp_path, "cifar10", 10, "mine", [71.0, 71.0])
    _, markdown, _ = make(tmp_path, [("cifar10", 10)], ["esp", "mine", "dm", "full"])
    rows = {row[0]: row[1] for row in entries(markdown)[1:]}
    quoted = ["Random", "Herding", "DC", "DSA", "DM", "KIP (random features)", "CAFE + DSA", "Traj. Matching", "IDC", "KFS"]
    assert list(rows) == [*quoted, "ESP", "mine", "Full dataset"]
    assert rows["DM"] == "not measured (48.9 ± 0.6)" and rows["KFS"] == "not measured (**72.0 ± 0.3**)"
    assert rows["ESP"] == "71.0 ± 1.4 (73.8 ± 0.2, −2.8)" and rows["mine"] == "71.0 ± 0.0"
    assert rows["Full dataset"] == "not measured (84.8 ± 0.1)"
    assert "where a row is not measured its quoted number takes part" in markdown


def test_the_best_are_bold_together_when_they_print_alike(tmp_path):
    for method, accuracies in (("dm", [90.01, 90.03]), ("esp", [89.98, 90.0]), ("random", [89.9, 89.9])):
        put(tmp_path, "digits", 1, method, accuracies)
    frame, _, _ = make(tmp_path, [("digits", 1)], ["random", "dm", "esp"])
    assert dict(zip(frame.method, frame.bold, strict=True)) == {"random": False, "dm": True, "esp": True}


def test_table_2_has_a_row_a_dataset_and_method_and_a_column_an_ipc_and_network(tmp_path):
    cells, networks = [("svhn", 1), ("svhn", 10), ("cifar10", 1)], ["convnet3", "resnet10"]
    for j, network in enumerate(networks):
        for i, (dataset, ipc) in enumerate(cells):
            put(tmp_path, dataset, ipc, "esp", [80 + 2 * i + j], network=network)
        for dataset, base in (("svhn", 90), ("cifar10", 95)):
            put(tmp_path, dataset, 0, "full", [base + j], network=network)
    _, markdown, _ = make(tmp_path, cells, ["esp", "full"], table=2, networks=networks)
    head, *rows = entries(markdown)
    assert head == ["Dataset", "Method", "IPC 1, ConvNet-3", "IPC 1, ResNet-10", "IPC 10, ConvNet-3", "IPC 10, ResNet-10"]
    values = {tuple(row[:2]): [cell.partition(" (")[0].strip("*") for cell in row[2:]] for row in rows}
    assert [key[0] for key in values] == ["SVHN"] * 6 + ["CIFAR10"] * 6
    assert values["SVHN", "ESP"] == ["80.0", "81.0", "82.0", "83.0"]
    assert values["CIFAR10", "ESP"] == ["84.0", "85.0", "", ""]
    assert values["SVHN", "Full dataset"] == ["90.0", "91.0", "90.0", "91.0"]
    assert values["CIFAR10", "Full dataset"] == ["95.0", "96.0", "95.0", "96.0"]
    assert (rows[4][2], rows[5][3]) == ("80.0 (84.8 ± 0.3, −4.8)", "91.0 (93.8 ± 0.5, −2.8)")
    assert "IDC's code tests CIFAR on a ResNet-10 of widths 32 to 256, 1,228,970 parameters, for 64 to 512 and 4,903,242" in markdown


def test_table_3_stands_on_efficientnet_and_warns_of_the_quoted_full_data(tmp_path):
    put(tmp_path, "cifar10", 1, "esp", [30.0, 31.0], network="efficientnetv2s")
    _, markdown, _ = make(tmp_path, [("cifar10", 1)], ["esp"], table=3, networks=["efficientnetv2s"])
    assert markdown.startswith("# Table 3. Cross-architecture accuracies (%) on EfficientNetV2-S\n") and "without pre-training" in markdown
    assert entries(markdown)[3:5] == [
        ["CIFAR10", "Traj. Matching", "not measured (17.7 ± 0.2)"],
        ["CIFAR10", "ESP", "**30.5 ± 0.7** (35.3 ± 0.4, −4.8)"],
    ]


def test_datasets_and_full_data_may_have_protocols_of_their_own(tmp_path):
    for i, (dataset, method) in enumerate([("svhn", "esp"), ("cifar10", "esp"), ("cifar10", "full")]):
        put(tmp_path, dataset, 1, method, ESP, protocol=f"dsa-{i}")
    _, markdown, _ = make(tmp_path, [("svhn", 1), ("cifar10", 1)], ["esp", "full"])
    assert "dsa-0 for svhn; dsa-1 for cifar10; dsa-2 for cifar10 (full data)." in markdown


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda text: "", "No columns to parse"),
        (lambda text: text + "1,2," * 20 + "\n", "Expected 22 fields"),
        (lambda text: "\udcff\udcfe\x00\udc80,\n", "'utf-8' codec"),
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
    path.write_text(damage(path.read_text()), errors="surrogateescape")
    with pytest.raises(UserError) as caught:
        make(tmp_path, [("digits", 1)], ["esp"])
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and says in message and message.endswith("delete it and run again") and "\n" not in message


def test_nothing_measured_still_gives_the_papers_table_and_one_of_nothing_or_of_no_paper_is_refused(tmp_path):
    frame, markdown, tex = make(tmp_path, [("svhn", 1)], ["esp"])
    assert (frame.n == 0).all() and entries(markdown)[-2] == ["ESP", "not measured (**84.8 ± 0.3**)"]
    assert "Nothing in this table was measured" in markdown and tex.count("\\begin{tabular}") == 1
    with pytest.raises(UserError, match=r"^tables\.1: has no cell, method or network to show"):
        make(tmp_path, [], ["esp"])
    with pytest.raises(UserError, match=r"^table: 5 is none of the paper's; use one of 1, 2, 3, 4$"):
        make(tmp_path, [("svhn", 1)], ["esp"], table=5)


@pytest.mark.parametrize("content", [None, "table,method\n1,esp\n", ""])
def test_published_numbers_that_cannot_be_read_are_named(tmp_path, content):
    published = tmp_path / "published.csv"
    if content is not None:
        published.write_text(content)
    with pytest.raises(UserError, match=f"^{re.escape(str(published))}: .*restore the file$"):
        tables.run(spec([("svhn", 1)], ["esp"]), [], published, tmp_path / "out.csv")


def test_several_networks_in_table_1_get_columns_of_their_own(tmp_path):
    put(tmp_path, "digits", 1, "esp", [90.0])
    put(tmp_path, "digits", 1, "esp", [91.0], network="mine.nets:small")
    _, markdown, _ = make(tmp_path, [("digits", 1)], ["esp"], networks=["convnet3", "mine.nets:small"])
    head = ["Method", "digits, IPC 1, ConvNet-3", "digits, IPC 1, mine.nets:small"]
    assert entries(markdown) == [head, ["ESP", "**90.0**", "**91.0**"]]
    assert markdown.startswith("# Table 1. Classification accuracies (%) on ConvNet-3 and mine.nets:small\n")


def test_a_file_of_a_run_that_the_table_does_not_show_is_left_out_and_counted_and_one_given_twice_refused(tmp_path, capsys):
    path = put(tmp_path, "digits", 1, "esp", ESP)
    put(tmp_path, "digits", 1, "other", DM, torch="2.11.0")
    frame, _, _ = make(tmp_path, [("digits", 1)], ["esp"])
    assert frame.method.tolist() == ["esp"]
    assert capsys.readouterr().out.endswith("1 rows, 1 of them measured; 1 files of other rows left out\n")
    again = tmp_path / "evaluated/again.csv"
    again.write_bytes(path.read_bytes())
    with pytest.raises(UserError, match="the same run as .*; give one of them"):
        make(tmp_path, [("digits", 1)], ["esp"])


def test_a_saturated_set_is_named_once_below_the_table(tmp_path):
    assert table_text.SATURATED == saturation.TOLD  # which the table's module is too light to import
    put(tmp_path, "digits", 1, "esp", DM)
    assert "Saturated" not in make(tmp_path, [("digits", 1)], ["esp"])[1]
    put(tmp_path, "digits", 1, "dm", DM, saturated=0.894)
    put(tmp_path, "digits", 1, "dsa", DM, saturated=0.24)
    _, markdown, _ = make(tmp_path, [("digits", 1)], ["esp", "dm", "dsa"])
    assert markdown.count("Saturated") == 1 and "by too high a rate: dm for digits, IPC 1 (89%).\n" in markdown


def test_the_stages_of_rows_are_quick_to_load_and_end_a_mistake_with_one_line(tmp_path):
    stages = ", ".join(f"esp_core.stages.{name}" for name in ("tables", "comparisons", "claims", "show", "grids", "plots", "settings"))
    program = f"import sys, {stages}; print(sorted({{'torch', 'torchvision', 'matplotlib', 'scipy'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True).stdout == "[]\n"
    command = [sys.executable, "-m", "esp_core", "show", str(tmp_path)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == f"error: {tmp_path}/tables/table1.csv: not there; run snakemake for this study first\n"
