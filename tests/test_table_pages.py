"""The forms of a table: LaTeX, HTML, and the text of `esp show`."""

import re
from xml.etree import ElementTree

import pandas as pd
import pytest
from handwritten_rows import ESP, make, put

from esp_core.reporting import rendering, summary
from esp_core.runtime.errors import UserError
from esp_core.stages import show


def test_latex_has_whole_rows_balanced_braces_and_no_bare_sign(tmp_path):
    for cell in (("cifar10", 1, "esp"), ("cifar10", 10, "esp"), ("my_set", 1, "a_b")):
        put(tmp_path, *cell, ESP)
    titles = {"a_b": "A_B & 50% {of} #1~^\\", "esp": "a|b"}
    _, markdown, tex = make(tmp_path, [("cifar10", 1), ("cifar10", 10), ("my_set", 1)], ["esp", "a_b"], titles=titles)
    assert "| a\\|b | **93.6 ± 0.6** " in markdown
    assert r"A\_B \& 50\% \{of\} \#1\textasciitilde{}\textasciicircum{}\textbackslash{}" in tex
    assert r"& \multicolumn{2}{c}{CIFAR10} & my\_set \\" in tex
    assert r"\textbf{93.6 $\pm$ 0.6} (63.0 $\pm$ 0.4, +30.6)" in tex
    bare = re.sub(r"\\[{}\\]", "", tex)
    assert bare.count("{") == bare.count("}")
    for environment in ("table", "tabular", "adjustbox"):
        assert tex.count(f"\\begin{{{environment}}}") == tex.count(f"\\end{{{environment}}}") > 0
    body = [line for line in tex.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
    assert {len(re.findall(r"(?<!\\)&", line)) for line in body} == {3} and not re.search(r"[±−×]", tex)


def test_show_says_where_everything_lies_and_prints_table_1_in_the_width_given(tmp_path):
    with pytest.raises(UserError, match=re.escape(f"{tmp_path}/tables/table1.csv: not there; run snakemake")):
        show.show(tmp_path, 80)
    for ipc, accuracies in ((1, [60.0, 62.0]), (10, [70.0, 72.0])):
        put(tmp_path, "cifar10", ipc, "esp", accuracies)
    make(tmp_path, [("cifar10", 1), ("cifar10", 10)], ["esp"])
    (tmp_path / "report.html").touch()
    wide = show.show(tmp_path, 100).splitlines()
    assert wide[:2] == [f"Tables   {tmp_path}/tables/ table1.md", f"Report   {tmp_path}/ report.html"]
    cells = [re.split(r" {2,}", line) for line in wide[5:]]
    assert cells[0] == ["Method", "CIFAR10, IPC 1", "CIFAR10, IPC 10"]
    assert ["KFS", "(59.8 ± 0.5)", "(72.0 ± 0.3)"] in cells and ["ESP", "61.0 ± 1.4", "71.0 ± 1.4"] in cells
    assert len({len(line) for line in wide[5:] if "±" in line}) == 1  # aligned
    narrow = show.show(tmp_path, 40)
    assert max(map(len, narrow.splitlines()[5:])) <= 40 and narrow.count("ESP") == 2
    for content in ("", "a,b\n1,2\n", ",".join(summary.COLUMNS) + "\n"):
        (tmp_path / "tables/table1.csv").write_text(content)
        with pytest.raises(UserError, match="not a table of this version"):
            show.show(tmp_path, 80)


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
