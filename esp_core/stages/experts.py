"""Stage `experts`: train a shard of expert trajectories, list shards in a manifest, verify stored experts, exchange them with MTT."""

import argparse
import importlib
from pathlib import Path

from esp_core.runtime.errors import UserError, command
from esp_core.study import arguments


def train(args: argparse.Namespace) -> None:
    """Train the experts of one shard."""
    from esp_core.runtime import devices
    from esp_core.study.kinds import place
    from esp_core.study.provenance import module_file, source_digest
    from esp_core.trajectories.train_shard import produce

    devices.reuse_memory()
    network = place("network", args.spec["network"]["name"])[0]
    code = source_digest("esp_core.stages.experts", *([network] if module_file(network) else []))  # an installed package is not our code
    produce(args.spec, code, args.data, args.out, args.device)


def manifest(args: argparse.Namespace) -> None:
    """List shards in a manifest."""
    # Imported by name, so that a change to the manifest retrains no expert.
    written = importlib.import_module("esp_core.trajectories.manifest").build(args.out, args.spec, args.shards)
    accuracy = [expert["accuracy"] for expert in written["experts"]]
    print(f"{args.out}: {len(accuracy)} experts, accuracy {min(accuracy):.1f} to {max(accuracy):.1f} %")


def verify(args: argparse.Namespace) -> None:
    """Check every byte of a manifest's shards, or of one shard."""
    problems = importlib.import_module("esp_core.trajectories.verification").verify(args.path)
    if problems:
        raise UserError("\n".join(problems))
    print(f"{args.path}: all is well")


def import_(args: argparse.Namespace) -> None:
    """Import experts that other code trained."""
    read = importlib.import_module("esp_core.trajectories.mtt").read
    print(read(args.mtt, args.data, args.out, whitened=args.whitened, device=args.device))


def export(args: argparse.Namespace) -> None:
    """Write experts for other code."""
    print(importlib.import_module("esp_core.trajectories.mtt").write(args.path, args.mtt))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = arguments.named("experts", __doc__)
    commands = top.add_subparsers(required=True)
    one = commands.add_parser("train", help="train one shard; a killed job goes on from its .part folder")
    arguments.add(one, "spec", "data", "device")
    one.add_argument("--out", type=Path, required=True, help="the shard to write")
    one.set_defaults(run=train)
    two = commands.add_parser("manifest", help="list the shards of a study")
    arguments.add(two, "spec")
    two.add_argument("--shards", type=Path, nargs="+", required=True)
    two.add_argument("--out", type=Path, required=True, help="manifest.json, beside the shards")
    two.set_defaults(run=manifest)
    three = commands.add_parser("verify", help="check every byte of what is stored")
    three.add_argument("path", type=Path, help="a manifest.json or a shard")
    three.set_defaults(run=verify)
    four = commands.add_parser("import", help="take over experts that MTT's code trained")
    four.add_argument("--mtt", type=Path, required=True, help="the folder of its replay_buffer_*.pt")
    arguments.add(four, "data", "device")
    four.add_argument("--out", type=Path, required=True, help="the folder for shards and manifest.json")
    four.add_argument("--whitened", action="store_true", help="they were trained on whitened images")
    four.set_defaults(run=import_)
    five = commands.add_parser("export", help="write experts as MTT's code reads them")
    five.add_argument("path", type=Path, help="a manifest.json")
    five.add_argument("--mtt", type=Path, required=True, help="the folder for replay_buffer_*.pt")
    five.set_defaults(run=export)
    return top


@command
def main() -> None:
    """Run one of the commands."""
    args = parser().parse_args()
    args.run(args)
