"""Comparisons of small studies written by hand, against sums done with the standard library; rows that cannot stand together."""

import math
import statistics

import pytest
from handwritten_rows import DM, ESP, entries, made, make, put

from esp_core.runtime.errors import UserError
from esp_core.stages import comparisons

T4 = 2.776445  # Student's t at 0.975 with 4 degrees of freedom, from a printed table


def compare(results, *compared, **titles):
    return made(comparisons, results, {"study": "small", "compared": compared, "titles": titles}, "comparisons")


def test_comparisons_are_differences_seed_by_seed_with_their_interval_and_the_papers(tmp_path):
    put(tmp_path, "cifar10", 1, "esp_dm", DM)
    put(tmp_path, "cifar10", 1, "esp", ESP)
    put(tmp_path, "cifar10", 10, "esp", ESP, torch="1.0")  # of no comparison
    frame, markdown, tex = compare(tmp_path, *(("esp", "esp_dm", "cifar10", ipc, "convnet3") for ipc in (1, 50)), esp="A", esp_dm="B")
    differences = [a - b for a, b in zip(ESP, DM, strict=True)]
    mean, std = statistics.mean(differences), statistics.stdev(differences)
    half = T4 * std / math.sqrt(5)
    assert list(frame.columns) == comparisons.COLUMNS and frame.n.tolist() == [5, 0]
    assert frame.iloc[0, 6:].tolist() == pytest.approx([mean, std, mean - half, mean + half, 62.6 - 48.0], abs=1e-4)
    written = f"{mean:+.1f} [{mean - half:+.1f}, {mean + half:+.1f}] (+14.6)"
    assert entries(markdown) == [["Method", "CIFAR10, IPC 1", "CIFAR10, IPC 50"], ["A − B", written, "not measured (+1.9)"]]
    assert "over seeds, n = 5" in markdown and "paper's means" in markdown and written in tex
    assert "Protocol: dsa-1a2b3c4d for cifar10. Networks: ConvNet-3 of 320,010 parameters." in markdown


def test_a_comparison_drops_seeds_without_a_partner_and_has_a_row_a_pair_and_a_column_a_network(tmp_path):
    put(tmp_path, "digits", 1, "mine", [90.0, 80.0, 70.0])
    path = put(tmp_path, "digits", 1, "esp", [60.0, 75.0])
    path.write_text(path.read_text().replace(",convnet3,0,", ",convnet3,7,"))
    for method, accuracies in (("mine", [50.0, 51.0, 53.0]), ("esp", [49.0, 49.0, 50.0]), ("dm", [1.0, 2.0, 4.0])):
        put(tmp_path, "digits", 1, method, accuracies, network="resnet10")
    rows = [("mine", "esp", "digits", 1, "convnet3"), ("mine", "esp", "digits", 1, "resnet10"), ("mine", "dm", "digits", 1, "resnet10")]
    frame, markdown, _ = compare(tmp_path, *rows, mine="Mine", esp="ESP", dm="DM")
    assert frame.n.tolist() == [1, 3, 3] and frame["mean"].tolist() == [5.0, 2.0, 49.0]
    assert math.isnan(frame.low[0]) and (frame.low[2], frame.high[2]) == (49.0, 49.0)
    assert entries(markdown)[1][:2] == ["Mine − ESP", "+5.0"] and entries(markdown)[2] == ["Mine − DM", "", "+49.0"]
    assert entries(markdown)[0] == ["Method", "digits, IPC 1, ConvNet-3", "digits, IPC 1, ResNet-10"]


@pytest.mark.parametrize(
    ("changes", "what", "value"),
    [({"torch": "2.11.0"}, "torch", "2.11.0"), ({"protocol": "idc-00000000"}, "protocol for digits on convnet3", "idc-00000000")],
)
@pytest.mark.parametrize("compared", [False, True])
def test_rows_of_two_versions_of_torch_or_two_protocols_are_refused_by_name(tmp_path, changes, what, value, compared):
    put(tmp_path, "digits", 1, "esp", ESP)
    put(tmp_path, "digits", 10, "dm", DM)
    other = put(tmp_path, "digits", 1, "dm", DM, **changes)
    with pytest.raises(UserError, match=f"^rows of more than one {what} cannot stand in one table: ") as caught:
        if compared:
            compare(tmp_path, ("esp", "dm", "digits", 1, "convnet3"), esp="", dm="")
        else:
            make(tmp_path, [("digits", 1), ("digits", 10)], ["dm", "esp"])
    message = str(caught.value)
    assert f"{value} ({other})" in message and message.endswith("delete the files of all but one and run again") and "\n" not in message
    assert not (tmp_path / "tables").exists()
