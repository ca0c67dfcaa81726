"""Digests: what changes them, and what does not, on a small package made for it."""

import math

import pytest

from esp_core.study import provenance
from esp_core.study.provenance import canonical, source_digest

FILES = {
    "package/__init__.py": "",
    "package/stage.py": "from package.noun import kind\nimport package.other\n\ndef main():\n    return kind.f()\n",
    "package/other.py": "VALUE = 1\n",
    "package/noun/__init__.py": "from . import shared\n",
    "package/noun/kind.py": '"""Words."""\n\ndef f():\n    """More words."""\n    return 1\n',
    "package/noun/shared.py": "A = 1\n",
    "package/noun/unused.py": "B = 1\n",
}


@pytest.fixture
def package(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)

    def digest_after(name=None, text=None, *entries):
        if name:
            (tmp_path / name).write_text(text)
        provenance._parsed.cache_clear()
        return source_digest(*(entries or ("package.stage",)))

    yield digest_after
    provenance._parsed.cache_clear()


@pytest.mark.parametrize(
    "name", ["package/stage.py", "package/other.py", "package/noun/__init__.py", "package/noun/kind.py", "package/noun/shared.py"]
)
def test_code_that_can_be_reached_counts(package, name):
    before = package()
    assert package(name, FILES[name] + "\nNEW = 2\n") != before
    assert package(name, FILES[name]) == before


def test_words_and_layout_and_unreached_modules_do_not_count(package):
    before = package()
    kind = '"""Other words."""\n# A comment.\n\n\ndef f():\n    """Other words."""\n\n    return (1)\n'
    assert package("package/noun/kind.py", kind) == before
    assert package("package/noun/unused.py", "B = 2\n") == before
    assert package(None, None, "package.stage", "package.noun.unused") != before


def test_a_missing_module_is_named(package):
    with pytest.raises(ModuleNotFoundError, match=r"package\.gone"):
        package(None, None, "package.stage", "package.gone")


def test_an_objective_is_reached_only_by_the_methods_that_name_it():
    def digests():
        provenance._parsed.cache_clear()
        return [source_digest("esp_core.stages.distill", f"esp_core.objectives.{kind}") for kind in ("distribution", "projection")]

    assert len(set(digests())) == 2 and digests() == digests()


def test_one_string_for_one_spec():
    assert canonical({"b": 1, "a": [1, {"d": None, "c": 0.1}]}) == '{"a":[1,{"c":0.1,"d":null}],"b":1}'
    assert canonical({"x": 1, "y": 2}) != canonical({"x": 2, "y": 1})
    for value in (math.nan, math.inf):
        with pytest.raises(ValueError, match="Out of range"):
            canonical({"x": value})
    with pytest.raises(TypeError):
        canonical({"x": {1, 2}})
