"""Result paths are spelled once, and are those that the design fixes."""

import re
from pathlib import Path

import pytest

from esp_core.study.output_paths import PATTERNS, output

RULES = Path(__file__).resolve().parents[1] / "workflow" / "rules"


@pytest.mark.parametrize(
    ("job", "path"),
    [
        (("download", "cifar10"), "downloads/cifar10/files.json"),
        (("prepare", "cifar10"), "s/data/cifar10.h5"),
        (("experts", "cifar10", "7"), "s/experts/cifar10/shard-007.h5"),
        (("manifest", "cifar10"), "s/experts/cifar10/manifest.json"),
        (("distill", "cifar10", "1", "esp"), "s/distilled/cifar10/ipc-1/esp.safetensors"),
        (("evaluate", "cifar10", "10", "esp", "resnet10"), "s/evaluated/cifar10/ipc-10/esp/resnet10.csv"),
        (("evaluate", "cifar10", "0", "full", "convnet3"), "s/evaluated/cifar10/full/convnet3.csv"),
        (("tables", "1"), "s/tables/table1.csv"),
        (("tables", "mine"), "s/tables/table-mine.csv"),
        (("comparisons",), "s/tables/comparisons.csv"),
        (("claims",), "s/tables/claims.csv"),
        (("plots", "figure7"), "s/figures/figure7.png"),
    ],
)
def test_where_a_job_leaves_its_first_output(job: tuple[str, ...], path: str) -> None:
    assert str(output("s", *job)) == path


def test_every_rule_leaves_its_first_output_there():
    bodies = "\n".join(path.read_text() for path in RULES.glob("*.smk"))
    outputs = re.findall(r'^rule \w+:\n(?:(?: .*)?\n)*?    output:\n[^"]*"([^"]+)"', bodies, flags=re.MULTILINE)
    assert len(outputs) == bodies.count("\nrule ") + bodies.startswith("rule ") > 10
    assert set(outputs) == {f"<results>/{path}" for path in PATTERNS.values()}
