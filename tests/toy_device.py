"""A study of digits and a device of round numbers, for tests of the plan."""

from esp_core.planning import costing, counting, rates

VALUES = {
    **{"operations": 1e9, "activations": 1e8, "step": 0.01, "call": 0.0, "augmented": 0.1, "speed_up": 1.0, "compiled": 4.0},
    **{"student": 0.03, "traced": 2.5, "waiting": 0.75},
    **{"compilation": 20.0, "start": 3.0, "first": 2.0, "light": 1.0, "memory": 1e8, "device_memory": 1e9},
}
SMALL = {
    "study": "small",
    "datasets": {"digits": {"ipc": [1], "options": {"size": 16}}},
    "distill_network": {"name": "convnet3", "width": 8},
    "experts": {"count": 5, "shard": 3, "epochs": 2, "batch": 700, "keep": 3},
    "methods": {
        "random": {},
        "dm": {"iterations": 4, "real_batch": 16},
        "esp_proj": {
            "iterations": 4,
            "parametrisation": {"kind": "latent", "decoders": 2, "code_channels": 1, "width": 2},
            "teacher": {"start_max": 0, "length": 1},
        },
        "full": {},
    },
    "evaluation": {"seeds": 3, "epochs": 10, "full": {"epochs": 1}},
}
DIGITS = counting.Shape(classes=10, channels=1, size=16, train=1400, test=397)
NET = counting.network(SMALL["distill_network"], DIGITS)  # a test below counts by hand
OPERATIONS, KEPT, PARAMETERS = NET.operations, NET.kept, NET.parameters
FORWARD = OPERATIONS / 1e9 + NET.activations / 1e8
PIXELS = 12 * 256 / 1e8  # taking an image out of the set, there and back


def on(**changes):
    return rates.Device("toy", {**VALUES, **changes})


def cost(study, *job, **changes):
    return costing.cost(study, on(**changes), *job)
