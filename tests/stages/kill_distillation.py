"""Distil in child processes that are killed (SIGKILL) at random moments, until one lives to the end.

    python kill_distillation.py SPEC OUT KILLS SEED

Every child checkpoints after each step and is killed at a random moment after it has gone one step further than the one before.
Prints, as JSON, the steps that the .part file held after each kill.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from safetensors.torch import load
from small import Experts, dataset

from esp_core import datasets
from esp_core.distillation import condensed
from esp_core.distillation import outer_loop as distillation
from esp_core.stages import distill  # all that a child runs, imported once before the forks
from esp_core.trajectories import reader

datasets.load = lambda *_: dataset()
reader.Trajectories = lambda *_: Experts()
assert condensed and distillation


def main() -> None:
    spec, out, chance = json.loads(sys.argv[1]), Path(sys.argv[2]), random.Random(int(sys.argv[4]))
    part, steps = out.with_name(out.name + ".part"), [0]
    distill.CHECKPOINT_SECONDS = 0.0
    for _ in range(int(sys.argv[3])):
        child = start(spec, out)
        while step(part) <= steps[-1]:
            time.sleep(0.002)
        time.sleep(chance.uniform(0, 0.05))
        os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        assert os.WIFSIGNALED(status), f"the child had ended by itself with status {status}: give it more steps"
        steps.append(step(part))
    assert os.waitpid(start(spec, out), 0)[1] == 0
    print(json.dumps(steps[1:]))


def start(spec: dict, out: Path) -> int:
    if child := os.fork():
        return child
    sys.stdout = sys.stderr
    distill.run(spec, Path("data.h5"), Path("manifest.json"), out)
    os._exit(0)


def step(part: Path) -> int:
    if not part.exists():
        return 0
    return int(load(part.read_bytes())["step"])  # in one read: the child replaces the file at any moment


if __name__ == "__main__":
    main()
