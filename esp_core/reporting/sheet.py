"""A table as it is read, rows under headings, written as Markdown, LaTeX, HTML or plain text."""

import html
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

NOT_MEASURED = "not measured"
_TEX = {"\\": r"\textbackslash{}", "±": r"$\pm$", "−": "$-$", "×": r"$\times$", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
_TEX |= {sign: f"\\{sign}" for sign in "&%$#_{}"}


@dataclass(frozen=True)
class Entry:
    """What stands at one place: our value, and beside it the paper's. `bold` marks ours, or the paper's where ours is missing."""

    value: str
    aside: str = ""
    bold: bool = False

    def written(self, bold: Callable[[str], str], plain: Callable[[str], str]) -> str:
        """The entry as text, its parts written by `bold` and `plain`."""
        missing = self.value == NOT_MEASURED
        value = (bold if self.bold and not missing else plain)(self.value)
        aside = (bold if self.bold and missing else plain)(self.aside)
        return f"{value} ({aside})" if aside else value


@dataclass(frozen=True)
class Sheet:
    """`corner` heads the row headings; every column heading has one part a level, and every row as many entries as columns."""

    corner: tuple[str, ...]
    columns: list[tuple[str, ...]]
    rows: list[tuple[tuple[str, ...], list[Entry]]]


def markdown(sheet: Sheet) -> str:
    """A table of GitHub's Markdown."""

    def line(parts: Sequence[str]) -> str:
        return "| " + " | ".join(part.replace("|", "\\|") for part in parts) + " |"

    def entries(row: Sequence[Entry]) -> list[str]:
        return [entry.written(lambda text: f"**{text}**", str) for entry in row]

    rule = ["---"] * len(sheet.corner) + ["---:"] * len(sheet.columns)
    head = [*sheet.corner, *(", ".join(parts) for parts in sheet.columns)]
    return "\n".join([line(head), line(rule), *(line([*heading, *entries(row)]) for heading, row in sheet.rows)])


def latex(sheet: Sheet) -> str:
    """A tabular of package booktabs; equal neighbours in the upper levels of the head are joined."""
    *upper, last = zip(*sheet.columns, strict=True)
    blank = [""] * len(sheet.corner)
    head = [[*blank, *_joined(level)] for level in upper] + [[*map(escaped, sheet.corner), *map(escaped, last)]]
    body = [
        [*map(escaped, heading), *(entry.written(lambda text: f"\\textbf{{{escaped(text)}}}", escaped) for entry in row)]
        for heading, row in sheet.rows
    ]
    lines = [f"\\begin{{tabular}}{{{'l' * len(sheet.corner)}{'c' * len(sheet.columns)}}}", "\\toprule"]
    lines += [" & ".join(row) + " \\\\" for row in head] + ["\\midrule"]
    lines += [" & ".join(row) + " \\\\" for row in body] + ["\\bottomrule", "\\end{tabular}"]
    return "\n".join(lines)


def web(sheet: Sheet) -> str:
    """A table element of HTML; equal neighbours in the upper levels of the head are joined."""

    def line(cells: Sequence[str]) -> str:
        return f"<tr>{''.join(cells)}</tr>"

    *upper, last = zip(*sheet.columns, strict=True)
    corner = [f"<th>{html.escape(part)}</th>" for part in sheet.corner]
    head = [line([*["<th></th>"] * len(corner), *(f'<th colspan="{n}">{html.escape(t)}</th>' for t, n in _runs(level))]) for level in upper]
    head.append(line([*corner, *(f"<th>{html.escape(title)}</th>" for title in last)]))
    body = [
        line(
            [
                *(f"<th>{html.escape(part)}</th>" for part in heading),
                *(f"<td>{entry.written(lambda text: f'<b>{html.escape(text)}</b>', html.escape)}</td>" for entry in row),
            ]
        )
        for heading, row in sheet.rows
    ]
    return "\n".join(["<table>", "<thead>", *head, "</thead>", "<tbody>", *body, "</tbody>", "</table>"])


def plain(sheet: Sheet, width: int) -> str:
    """Aligned text: our values, or the paper's in parentheses where nothing was measured; as many columns at a time as fit `width`."""

    def entry(e: Entry) -> str:
        return f"({e.aside})" if e.value == NOT_MEASURED and e.aside else e.value

    headings = _aligned([sheet.corner, *(heading for heading, _ in sheet.rows)], str.ljust)
    entries = [[entry(e) for e in row] for _, row in sheet.rows]
    columns = [_aligned([[", ".join(title)], *([row[i]] for row in entries)], str.rjust) for i, title in enumerate(sheet.columns)]
    room = max(1, (width - len(headings[0])) // (2 + max(len(column[0]) for column in columns)))
    blocks = [zip(headings, *columns[i : i + room], strict=True) for i in range(0, len(columns), room)]
    return "\n\n".join("\n".join("  ".join(line).rstrip() for line in block) for block in blocks)


def escaped(text: str) -> str:
    """`text` as LaTeX prints it."""
    return "".join(_TEX.get(sign, sign) for sign in text)


def _joined(level: Sequence[str]) -> list[str]:
    return [f"\\multicolumn{{{n}}}{{c}}{{{escaped(title)}}}" for title, n in _runs(level)]


def _runs(level: Sequence[str]) -> list[tuple[str, int]]:
    """Each title of a level of the head and how many neighbouring columns it spans."""
    return [(title, len(list(same))) for title, same in itertools.groupby(level)]


def _aligned(rows: Sequence[Sequence[str]], align: Callable[[str, int], str]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(align(cell, width) for cell, width in zip(row, widths, strict=True)) for row in rows]
