"""Stage `experts`: train a shard of expert trajectories, list shards in a manifest, verify stored experts, exchange them with MTT."""

import argparse
import importlib
from pathlib import Path

from esp_core.runtime.errors import UserError, command
from esp_core.study import spec_argument


def train(arguments: argparse.Namespace) -> None:
    """Train the experts of one shard."""
    from esp_core.runtime import devices
    from esp_core.study.kinds import place
    from esp_core.study.provenance import module_file, source_digest
    from esp_core.trajectories.train_shard import produce

    devices.reuse_memory()
    network = place("network", arguments.spec["network"]["name"])[0]
    code = source_digest("esp_core.stages.experts", *([network] if module_file(network) else []))  # an installed package is not our code
    produce(arguments.spec, code, arguments.data, arguments.out, arguments.device)


def manifest(arguments: argparse.Namespace) -> None:
    """List shards in a manifest."""
    # Imported by name, so that a change to the manifest retrains no expert.
    written = importlib.import_module("esp_core.trajectories.manifest").build(arguments.out, arguments.spec, arguments.shards)
    accuracy = [expert["accuracy"] for expert in written["experts"]]
    print(f"{arguments.out}: {len(accuracy)} experts, accuracy {min(accuracy):.1f} to {max(accuracy):.1f} %")


def verify(arguments: argparse.Namespace) -> None:
    """Check every byte of a manifest's shards, or of one shard."""
    problems = importlib.import_module("esp_core.trajectories.verification").verify(arguments.path)
    if problems:
        raise UserError("\n".join(problems))
    print(f"{arguments.path}: all is well")


def import_(arguments: argparse.Namespace) -> None:
    """Import experts that other code trained."""
    read = importlib.import_module("esp_core.trajectories.mtt").read
    print(read(arguments.mtt, arguments.data, arguments.out, whitened=arguments.whitened, device=arguments.device))


def export(arguments: argparse.Namespace) -> None:
    """Write experts for other code."""
    print(importlib.import_module("esp_core.trajectories.mtt").write(arguments.path, arguments.mtt))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="python -m esp_core experts", description=__doc__)
    commands = top.add_subparsers(required=True)
    one = commands.add_parser("train", help="train one shard; a killed job goes on from its .part folder")
    one.add_argument("--spec", type=spec_argument.read, required=True, help="JSON: what to train")
    one.add_argument("--data", type=Path, required=True, help="the prepared dataset")
    one.add_argument("--out", type=Path, required=True, help="the shard to write")
    one.add_argument("--device", default="auto", help="auto, cpu, mps, cuda or cuda:NUMBER")
    one.set_defaults(run=train)
    two = commands.add_parser("manifest", help="list the shards of a study")
    two.add_argument(
        "--spec", type=spec_argument.read, required=True, help="JSON: that of the shards, with total and shard for first and count"
    )
    two.add_argument("--shards", type=Path, nargs="+", required=True)
    two.add_argument("--out", type=Path, required=True, help="manifest.json, beside the shards")
    two.set_defaults(run=manifest)
    three = commands.add_parser("verify", help="check every byte of what is stored")
    three.add_argument("path", type=Path, help="a manifest.json or a shard")
    three.set_defaults(run=verify)
    four = commands.add_parser("import", help="take over experts that MTT's code trained")
    four.add_argument("--mtt", type=Path, required=True, help="the folder of its replay_buffer_*.pt")
    four.add_argument("--data", type=Path, required=True, help="the prepared dataset that they were trained on")
    four.add_argument("--out", type=Path, required=True, help="the folder for shards and manifest.json")
    four.add_argument("--whitened", action="store_true", help="they were trained on whitened images")
    four.add_argument("--device", default="auto", help="auto, cpu, mps, cuda or cuda:NUMBER")
    four.set_defaults(run=import_)
    five = commands.add_parser("export", help="write experts as MTT's code reads them")
    five.add_argument("path", type=Path, help="a manifest.json")
    five.add_argument("--mtt", type=Path, required=True, help="the folder for replay_buffer_*.pt")
    five.set_defaults(run=export)
    return top


@command
def main() -> None:
    """Run one of the commands."""
    arguments = parser().parse_args()
    arguments.run(arguments)
