"""Config files of any content: read as they are written, or refused with a word; never a traceback, never a key lost."""

import os
import re
import tempfile
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from esp_core.runtime.errors import UserError
from esp_core.study.config import load
from esp_core.study.configfile import read

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = int(os.environ.get("ESP_FUZZ", "20"))
many = settings(max_examples=5 * EXAMPLES, deadline=None, derandomize="ESP_FUZZ_SEED" not in os.environ)
DEMO = (ROOT / "config" / "demo.yaml").read_text().splitlines()

plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
values = st.recursive(plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3))
mappings = st.dictionaries(st.text(max_size=5), values, min_size=1, max_size=4)
words = st.sampled_from(["&a ", "*a", "<<: ", "!!int ", "!!set ", "? ", "- ", ": ", "010", "1:30", "---\n", *"a[]{},'\"\n\t|#", "  "])


def written(text, use):
    """The result of `use` on a file with this text, or the words with which it is refused."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "own.yaml")
        path.write_bytes(text.encode(errors="surrogatepass"))
        try:
            return use(path)
        except UserError as error:
            assert str(error).strip()
            return str(error)


@many
@given(mappings)
def test_what_is_written_plainly_is_read_as_it_is_written(content):
    assert written(yaml.safe_dump(content), read) == content


@many
@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from("abc")), min_size=1, max_size=12))
def test_no_key_is_lost(rows):
    """A tree of keys, each on its line: those given twice in one mapping are all named, with their lines."""
    lines, above, mappings = [], [], [{}]
    every = [mappings[0]]
    for depth, key in rows:
        depth = min(depth, len(above))
        above, mappings = [*above[:depth], key], [*mappings[: depth + 1], {}]
        lines.append(f"{'  ' * depth}{key}:")
        mappings[depth].setdefault(".".join(above), []).append(len(lines))
        every.append(mappings[-1])
    twice = [(name, given_at) for mapping in every for name, given_at in mapping.items() if len(given_at) > 1]
    found = written("\n".join(lines), read)
    if not twice:
        assert found == yaml.safe_load("\n".join(lines))
    for name, given_at in twice:
        assert re.search(rf"{re.escape(name)}: given [^;]*, lines {' and '.join(map(str, given_at))}; ", found)


@many
@given(st.lists(words | st.text(max_size=3), max_size=20).map("".join) | st.text(max_size=30))
def test_any_text_is_read_or_refused_in_one_line(text):
    found = written(text, read)
    assert isinstance(found, dict) or "\n" not in found


@pytest.mark.parametrize("kind", ["lines", "values"])
def test_a_study_with_any_lines_changed_is_read_or_refused(kind):
    @many
    @given(st.data())
    def check(data):
        lines = list(DEMO)
        for _ in range(data.draw(st.integers(1, 3))):
            at, other = (data.draw(st.integers(0, len(lines) - 1)) for _ in range(2))
            if kind == "values" and ":" in lines[at]:
                lines[at] = (
                    f"{lines[at].partition(':')[0]}: {yaml.safe_dump(data.draw(values), default_flow_style=True, width=10**6).strip()}"
                )
            else:
                change = data.draw(st.sampled_from(["double", "drop", "swap", "indent"]))
                lines[at : at + 1] = {"double": [lines[at]] * 2, "drop": [], "swap": [lines[other]], "indent": [f"  {lines[at]}"]}[change]
        written("\n".join(lines), load)

    check()
