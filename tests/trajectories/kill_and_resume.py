"""Train a shard in child processes that are killed (SIGKILL) at random times, until one lives to the end.

    python kill_and_resume.py SPEC DATA OUT KILLS SEED

A child is killed after it has finished an epoch of its own, so that every life gets a little further, at a random moment of the
next epochs. Prints, as JSON, how many epochs lay in the .part folder after each kill.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from esp_core.trajectories.train_shard import produce


def main() -> None:
    spec, data, out = json.loads(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
    kills, chance = int(sys.argv[4]), random.Random(int(sys.argv[5]))
    counts = []
    for _ in range(kills):
        child = start(spec, data, out)
        part = out.with_name(out.name + ".part")
        wait_for_more(part, counts[-1] if counts else 0)
        time.sleep(chance.uniform(0, 0.15))
        os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        assert os.WIFSIGNALED(status), f"the child had ended by itself with status {status}: train longer"
        counts.append(records(part))
    child = start(spec, data, out)
    status = os.waitpid(child, 0)[1]
    assert status == 0, status
    print(json.dumps(counts))


def start(spec: dict, data: Path, out: Path) -> int:
    if child := os.fork():
        return child
    sys.stdout = sys.stderr
    produce(spec, "code", data, out)
    os._exit(0)


def records(part: Path) -> int:
    return len([*part.glob("expert-*")])


def wait_for_more(part: Path, count: int) -> None:
    """Until there are more than `count` records and one more."""
    while records(part) < count + 2:
        time.sleep(0.002)


if __name__ == "__main__":
    main()
