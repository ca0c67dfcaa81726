"""Specs of experts that train in a second."""

import copy

SPEC = {
    "study_seed": 3,
    "dataset": "digits",
    "network": {"name": "convnet3", "width": 4, "depth": 2},
    "training": {
        "epochs": 3,
        "lr": 0.05,
        "momentum": 0.0,
        "weight_decay": 0.0,
        "batch": 300,
        "augment": "color_crop_cutout_scale_rotate",
        "zca": False,
        "precision": "float32",
    },
    "keep": 4,
    "first": 0,
    "count": 2,
    "device": "cpu",
}


def shard_spec(**changes):
    """SPEC with changes, those of its training by name as well."""
    spec = copy.deepcopy(SPEC)
    for key, value in changes.items():
        (spec["training"] if key in spec["training"] else spec)[key] = value
    return spec


def manifest_spec(total, **changes):
    spec = shard_spec(**changes)
    return {key: value for key, value in spec.items() if key not in ("first", "count")} | {"total": total, "shard": spec["count"]}
