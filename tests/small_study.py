"""A small study, and the specs of its jobs."""

import copy

from esp_core.study import job_specs
from esp_core.study.config import Study

SMALL = {
    "study": "small",
    "datasets": {"digits": {"ipc": [1, 10], "options": {"size": 32}}, "cifar10": {"ipc": [1]}},
    "distill_network": {"name": "convnet3", "width": 8},
    "experts": {"count": 4, "shard": 2},
    "methods": {"random": {}, "dm": None, "esp": {}, "full": {}},
}


def small(**changes):
    return Study({**copy.deepcopy(SMALL), **changes})


def spec(study, *job):
    return job_specs.spec(study, *job)
