"""Specs of experts that train in a second."""

import copy

import h5py
import numpy as np
from scipy.linalg import subspace_angles

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
        "precision": "float32",
    },
    "keep": 4,
    "first": 0,
    "count": 2,
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


def content(path):
    """What a shard's training computed, by name, an expert a row: all that it holds but seconds."""
    with h5py.File(path) as file:
        return {name: file[name][:] for name in file if name != "seconds"}


def same(one, other):
    """Whether two shards hold the same experts to the bit."""
    one, other = content(one), content(other)
    return one.keys() == other.keys() and all(np.array_equal(values, other[name]) for name, values in one.items())


def largest_angle(exact, stored):
    """The largest principal angle in degrees between the spans of two segments (T + 1, P): of their first snapshots and their steps."""
    spans = (np.asarray(segment, np.float64) for segment in (exact, stored))
    return np.degrees(subspace_angles(*(np.diff(span, axis=0, prepend=0.0).T for span in spans)).max())
