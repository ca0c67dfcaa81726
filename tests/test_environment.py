"""requirements.txt, environment.yml, pyproject.toml and what is installed name the same versions."""

import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
LINES = (ROOT / "requirements.txt").read_text().splitlines()
SECTIONS = [part.splitlines() for part in re.split(r"\n# [^\n]*\n", "\n".join(LINES))][1:]
PINS = {line.partition("==")[0]: line.partition("==")[2] for line in LINES if line and not line.startswith("#")}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_every_line_of_the_requirements_is_an_exact_pin():
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in LINES if line and not line.startswith("#"))


def test_the_conda_environment_names_the_pins_of_the_package_and_the_workflow():
    packages = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"][-1]["pip"]
    run_time = [line for section in SECTIONS[:-2] for line in section if line]
    assert packages == run_time and "torch==2.13.0" in packages and any(p.startswith("snakemake==") for p in packages)


def test_the_environment_of_tables_names_pins_too_and_is_enough_to_import_their_stages():
    packages = yaml.safe_load((ROOT / "workflow" / "envs" / "reporting.yml").read_text())["dependencies"][-1]["pip"]
    assert set(packages) <= {f"{name}=={version}" for name, version in PINS.items()}
    kept = {package.partition("==")[0].lower() for package in packages} | {"yaml"}
    others = {"torch", "torchvision", "kornia", "sklearn", "PIL", "h5py", "safetensors", "filelock"}
    assert not others & kept
    stages = "tables claims plots settings".split()
    code = f"import sys; sys.modules |= dict.fromkeys({others}); import " + ", ".join(f"esp_core.stages.{name}" for name in stages)
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.parametrize("wanted", [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["workflow"]])
def test_the_pins_satisfy_what_the_package_asks_for(wanted):
    requirement = Requirement(wanted)
    assert requirement.specifier.contains(PINS[requirement.name])


def test_what_is_installed_is_what_is_pinned():
    names = {name for name in PINS if name != "setuptools"}
    found = {name: metadata.version(name).partition("+")[0] for name in names}
    assert found == {name: PINS[name] for name in names}


def test_what_the_package_imports_is_among_its_dependencies():
    imported = set()
    for path in (ROOT / "esp_core").rglob("*.py"):
        imported |= set(re.findall(r"^\s*(?:import|from) (\w+)", path.read_text(), flags=re.MULTILINE))
    outside = imported - set(sys.stdlib_module_names) - {"esp_core"}
    modules = {"sklearn": "scikit-learn", "PIL": "pillow", "yaml": "PyYAML"}
    declared = {Requirement(line).name for line in PROJECT["dependencies"]}
    assert {modules.get(name, name) for name in outside} <= declared


def test_the_citation_and_the_package_are_of_one_version():
    import esp_core

    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == esp_core.__version__
