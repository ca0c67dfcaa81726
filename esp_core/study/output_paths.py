"""The first output of each job, below the results folder. The rules write the same paths, and a test compares both."""

import re
from pathlib import PurePosixPath

from esp_core.study.methods import FULL

PATTERNS = {
    "download": "downloads/{dataset}/files.json",
    "prepare": "{study}/data/{dataset}.h5",
    "trial": "{study}/data/{dataset}.trial.json",
    "network": "{study}/data/{dataset}.network.json",
    "experts": "{study}/experts/{dataset}/shard-{shard}.h5",
    "manifest": "{study}/experts/{dataset}/manifest.json",
    "distill": "{study}/distilled/{dataset}/ipc-{ipc}/{method}.safetensors",
    "import_set": "{study}/distilled/{dataset}/ipc-{ipc}/{method}.safetensors",
    "evaluate": "{study}/evaluated/{dataset}/ipc-{ipc}/{method}/{network}.csv",
    "evaluate_full": "{study}/evaluated/{dataset}/full/{network}.csv",
    "tables": "{study}/tables/table{table}.csv",
    "comparisons": "{study}/tables/comparisons.csv",
    "claims": "{study}/tables/claims.csv",
    "settings": "{study}/tables/settings.yaml",
    "footprint": "{study}/figures/{figure}.csv",
    "grids": "{study}/figures/{figure}.png",
    "plots": "{study}/figures/{figure}.png",
    "losses": "{study}/figures/losses-{dataset}-ipc-{ipc}.png",
}
# The arguments that identify a job of each stage, in the order of `Study.jobs`.
ARGUMENTS = {stage: tuple(re.findall(r"{(\w+)}", pattern.removeprefix("{study}"))) for stage, pattern in PATTERNS.items()}


def output(study: str, stage: str, *job: str) -> PurePosixPath:
    """The first output of a job of the study called `study`, relative to the results folder."""
    given = dict(zip(ARGUMENTS[stage], job, strict=True))
    if "shard" in given:
        given["shard"] = given["shard"].zfill(3)
    if "table" in given and not given["table"].isdecimal():
        given["table"] = f"-{given['table']}"
    pattern = PATTERNS["evaluate_full" if given.get("method") == FULL else stage]
    return PurePosixPath(pattern.format(study=study, **given))
