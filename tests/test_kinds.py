"""The settings of a kind stand in the signature that takes them: the plan, the command line and a call from Python go by it."""

import pytest

from esp_core import networks, objectives, parametrisations, teachers
from esp_core.runtime.errors import UserError
from esp_core.study import declarations, kinds, listing, provenance, schema

KINDS = [(section, kind) for section in (*kinds.SECTIONS, "optimiser") for kind in kinds.names(section)]


@pytest.mark.parametrize(("section", "kind"), KINDS)
def test_every_setting_of_a_kind_says_what_it_means_and_what_it_may_be(section, kind):
    declared = kinds.settings(section, kind)
    assert not declared["additionalProperties"]
    for name, entry in declared["properties"].items():
        assert name == "kind" or (entry["description"] != name and {"type", "enum"} & entry.keys()), name
    assert schema.mistakes(kinds.defaults(section, kind), {**declared, "required": []}) == []


OWN = '''
import functools
from functools import partial
from typing import Annotated, Any, Literal
from torch import Tensor

GROUPS = ("codes", "decoders")

def build(
    task,
    many: Annotated[int, ">= 1, < 5"] = 2,
    some: Annotated[float, "> 0"] | None = None,
    which: Literal["a", "b"] | None = "a",
    *,
    path: str,
    sizes: Sequence[Annotated[int, ">= 1"]] = SIZES,
    more: dict[str, Any] | None = None,
    other: "Tensor | list" = 3,
    plain=True,
    note: Annotated[int, "in words"] = 1,
    named: Literal[Names.a] = "a",
):
    """Builds.

    many: how many of them; a paper
    path: where it lies, in words that go on
        below; ours
    """

def open_(task, **more): ...

bound = partial(own.build, None)
'''


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A package of one module, whose declarations are read."""
    (tmp_path / "own.py").write_text(OWN)
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    for read in (declarations._body, declarations.function):
        read.cache_clear()
    return lambda name, given=1: declarations.settings(
        *declarations.function("own", name)[:1], given + declarations.function("own", name)[1]
    )


def test_a_signature_is_read_as_a_schema(own):
    declared = own("build")
    assert declared["required"] == ["path"] and not declared["additionalProperties"] and own("open_")["additionalProperties"]
    entries = {name: {k: v for k, v in entry.items() if k != "description"} for name, entry in declared["properties"].items()}
    assert entries == {
        "many": {"type": ["integer"], "minimum": 1, "exclusiveMaximum": 5, "default": 2},
        "some": {"type": ["number", "null"], "exclusiveMinimum": 0, "default": None},
        "which": {"enum": ["a", "b", None], "default": "a"},
        "path": {"type": ["string"]},
        "sizes": {"type": ["array"], "items": {"type": ["integer"], "minimum": 1}},  # its default is not written there
        "more": {"type": ["object", "null"], "default": None},
        "other": {"default": 3},
        "plain": {"default": True},
        "note": {"type": ["integer"], "default": 1},
        "named": {"default": "a"},
    }
    assert declared["properties"]["path"]["description"] == "where it lies, in words that go on below; ours"
    assert declarations.constant("own", "GROUPS", ()) == ("codes", "decoders") and declarations.constant("own", "TEACHER", None) is None
    assert own("bound", 0) == declared and declarations.function("own", "nope") is None
    (provenance.ROOT / "broken.py").write_text("def build(:")
    with pytest.raises(UserError, match=r"broken\.py is not Python that can be read .*; correct it$"):
        declarations.function("broken", "build")


@pytest.mark.parametrize(
    ("ask", "line"),
    [
        (lambda: objectives.build("distribution", output="x"), "objectives.distribution.output: 'x' is unknown; allowed: features, logits"),
        (lambda: objectives.build("distribution", outputs="x"), "objectives.distribution.outputs: unknown key; did you mean output?"),
        (lambda: objectives.build("distributions"), "objectives: distributions is unknown; did you mean distribution?"),
        (lambda: objectives.build("kernel", ridge=0), "objectives.kernel.ridge: 0 is not allowed; allowed: more than 0"),
        (lambda: parametrisations.build(None, "pixels", clamp=False), "parametrisation.clamp: false is not a whole number"),
        (lambda: teachers.build(None, "trained_on_synthetic", loops="free"), "teacher.loops: 'free' is unknown; allowed: fixed, dynamic"),
        (lambda: networks.build("convnet3", 3, 8, 10, width=0), "network convnet3: width: 0 is not allowed; allowed: at least 1"),
        (lambda: networks.build("convnet", 3, 8, 10), "network: convnet is unknown; did you mean convnet3?"),
    ],
)
def test_a_call_from_python_goes_by_the_same_declarations(ask, line):
    with pytest.raises(UserError) as error:
        ask()
    assert str(error.value).startswith(line) and "\n" not in str(error.value)


def test_a_dataset_is_a_module_that_reads_one():
    known = ("cifar10", "cifar100", "digits", "hdf5", "imagefolder", "npz", "svhn", "tinyimagenet", "torchvision_class")
    assert kinds.names("dataset") == known


def test_the_list_of_settings_has_every_key():
    text = "\n".join(listing.lines())
    for section, kind in KINDS:
        assert all(f"  {name}: " in text for name in kinds.settings(section, kind)["properties"])
    assert "  length: a whole number, at least 1, default 5\n      T, the length of a segment, in epochs; open in the paper" in text
    assert "  basis: one of 'raw', 'difference', default 'raw'\n" in text and "  lr_<group>: a number, more than 0\n" in text
