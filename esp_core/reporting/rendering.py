"""A page of a title, paragraphs and tables as Markdown, LaTeX and HTML.

A table is a text DataFrame whose index holds the row headings. `**bold**`, as in Markdown, is rendered bold in every format.
"""

import html
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from esp_core.runtime import files

Part = str | pd.DataFrame  # a paragraph, or a table

STYLE = (
    "body{font-family:sans-serif;margin:2em}h1{font-size:1.2em}p{max-width:60em}table{border-collapse:collapse;margin:1em 0}"
    "th,td{padding:.3em .8em;border-bottom:1px solid #ccc;text-align:right;white-space:nowrap}"
    "th:first-child,td:first-child{text-align:left}"
)
_BOLD = re.compile(r"\*\*(.+?)\*\*")
_TEX = {"\\": r"\textbackslash{}", "±": r"$\pm$", "−": "$-$", "×": r"$\times$", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
_TEX |= {sign: f"\\{sign}" for sign in "&%$#_{}"}


def markdown(title: str, parts: Sequence[Part]) -> str:
    """The page in GitHub's Markdown."""
    return "\n\n".join([f"# {title}", *(part if isinstance(part, str) else _markdown_table(part) for part in parts)]) + "\n"


def web(title: str, parts: Sequence[Part], style: str = "") -> str:
    """The page in HTML; `style` is CSS that follows the default style."""
    head = f'<!DOCTYPE html>\n<html lang="en">\n<meta charset="utf-8">\n<title>{html.escape(title)}</title>\n<style>{STYLE}{style}</style>'
    body = [f"<p>{html.escape(part)}</p>" if isinstance(part, str) else _web_table(part) for part in parts]
    return "\n".join([head, f"<h1>{html.escape(title)}</h1>", *body, "</html>"]) + "\n"


def latex(title: str, parts: Sequence[Part]) -> str:
    """The page as one float. LaTeX numbers tables itself, so "Table 1. " at the beginning of the title is removed."""
    lines = [
        "% needs packages booktabs and adjustbox",
        "\\begin{table}",
        "\\centering",
        f"\\caption{{{_escaped(title.partition('. ')[2])}.}}",
    ]
    for part in parts:
        if isinstance(part, str):
            lines.append(f"\n\\medskip\n{{\\footnotesize {_escaped(part)}\\par}}")
        else:
            lines.append(f"\n\\begin{{adjustbox}}{{max width=\\textwidth}}\n{_latex_table(part)}\\end{{adjustbox}}")
    return "\n".join([*lines, "\\end{table}"]) + "\n"


Form = Callable[[str, Sequence[Part]], str]
FORMS: dict[str, Form] = {".md": markdown, ".tex": latex, ".html": web}


def write(out: Path, frame: pd.DataFrame, title: str, parts: Sequence[Part], forms: Mapping[str, Form] = FORMS) -> None:
    """Write `frame` to `out`, a .csv, and the page to a file beside it for each suffix in `forms`."""
    files.write(out, frame.round(4).to_csv(index=False, lineterminator="\n"))
    for suffix, form in forms.items():
        files.write(out.with_suffix(suffix), form(title, parts))


def plain(table: pd.DataFrame, width: int) -> str:
    """A table with one row heading as text; its columns are split into blocks of at most `width` characters."""
    flat = table.set_axis(table.index.get_level_values(0), axis=0).set_axis([", ".join(key) for key in table.columns], axis=1)
    flat = flat.rename_axis(index=None, columns=str(table.index.names[0]))
    text = flat.to_string(line_width=width, col_space={title: len(title) + 1 for title in flat.columns})
    return re.sub(r" +\\?$", "", text, flags=re.MULTILINE)


def _markdown_table(table: pd.DataFrame) -> str:
    flat = _flat(table, str, r"**\1**")
    rule = ["---"] * table.index.nlevels + ["---:"] * len(table.columns)
    lines = [[", ".join(filter(None, column)) for column in flat.columns], rule, *flat.to_numpy().tolist()]
    return "\n".join("| " + " | ".join(text.replace("|", "\\|") for text in line) + " |" for line in lines)


def _web_table(table: pd.DataFrame) -> str:
    with pd.option_context("display.max_colwidth", None):
        return _flat(table, html.escape, r"<b>\1</b>").to_html(index=False, escape=False, border=0)


def _latex_table(table: pd.DataFrame) -> str:
    flat = _flat(table, _escaped, r"\\textbf{\1}")
    form = "l" * table.index.nlevels + "c" * len(table.columns)
    return flat.style.hide(axis="index").to_latex(hrules=True, multicol_align="c", column_format=form)


def _flat(table: pd.DataFrame, escape: Callable[[str], str], bold: str) -> pd.DataFrame:
    """The table with its row headings as first columns, and all text escaped and marked."""
    flat = table.reset_index(col_level=table.columns.nlevels - 1)
    columns = [tuple(map(escape, [column] if isinstance(column, str) else column)) for column in flat.columns]
    return flat.map(lambda text: _BOLD.sub(bold, escape(text))).set_axis(pd.MultiIndex.from_tuples(columns), axis=1)


def _escaped(text: str) -> str:
    """`text` escaped for LaTeX."""
    return "".join(_TEX.get(sign, sign) for sign in text)
