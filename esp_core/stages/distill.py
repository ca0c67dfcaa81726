"""Stage `distill`: condense one (dataset, IPC) cell by one method.

python -m esp_core distill run --spec JSON --data D.h5 [--experts manifest.json] --out S.safetensors
python -m esp_core distill export S.safetensors FOLDER [--format png|npz|pt|imagefolder]
"""

from pathlib import Path
from typing import Any

from esp_core.runtime.errors import UserError, command
from esp_core.runtime.progress import Progress
from esp_core.study import arguments
from esp_core.study.provenance import canonical

CHECKPOINT_SECONDS = 60.0
EVERY = 20  # steps between two reads of the losses; each waits for the device


def run(spec: dict[str, Any], data_path: Path, experts_path: Path | None, out: Path, code: str = "", device: str = "auto") -> None:
    """Distil `spec` into `out`; resumes from `out` + ".part" if an interrupted job of the same spec, code and data left one."""
    from esp_core import datasets
    from esp_core.distillation import saturation
    from esp_core.distillation.checkpoint import Checkpoint, Clock
    from esp_core.distillation.condensed import save_condensed
    from esp_core.distillation.outer_loop import Distillation
    from esp_core.runtime import devices, files
    from esp_core.trajectories.reader import Trajectories

    devices.reuse_memory()
    place = devices.pick(device)
    data = datasets.load(data_path, place, spec.get("validation"))
    data.check_ipc(spec["ipc"])
    experts = Trajectories(experts_path, place) if experts_path else None
    if experts is not None:
        experts.check(spec, data.digest)
    job = Distillation(spec, data, experts, place)
    checkpoint = Checkpoint(out.with_name(out.name + ".part"), canonical({"spec": spec, "code": code, "data": data.digest}))
    seconds, losses = checkpoint.resume(job)
    print(f"{job.title}: {job.synthetic.images} images from {job.synthetic.used:,} of {job.synthetic.task.budget:,} numbers", flush=True)
    total = spec["recipe"]["iterations"]
    progress = Progress(job.title, total, done=job.step)
    clock = Clock(seconds)

    def each(job: Distillation, outcome: Any) -> None:
        progress.step(losses.see(job.step, outcome) if job.step % EVERY == 0 or job.step == total else "")
        if clock.since_mark() > CHECKPOINT_SECONDS:
            checkpoint.save(job, clock.seconds(), losses)
            clock.mark()

    synthetic = job.run(each)
    saturated = round(saturation.saturation(synthetic, data), 4)
    for line in _warnings(job, saturated):
        print(line, flush=True)
    metadata = {
        "spec": spec,
        "code": code,
        "data": data.digest,
        "seconds": round(clock.seconds(), 1),
        **({"learned": {name: t.tolist() for name, t in job.learned.items()}} if job.learned else {}),
        "losses": losses.curves(),
        "saturated": saturated,
        **({"at_floor": job.at_floor} if job.learned else {}),
        "compiled": job.compiled,
        "precision": devices.arithmetic(job.network.precision, place),
        "peak_memory_bytes": devices.peak_memory(place),
        **devices.describe(place),
    }
    save_condensed(out, synthetic, spec["recipe"]["parametrisation"], data.classes, metadata)
    files.discard(checkpoint.path)


def _warnings(job: Any, saturated: float) -> list[str]:
    """Warnings about learning rates, from the finished set."""
    from esp_core.distillation.saturation import TOLD

    lines = [f"{name} ends at the lowest value that it may take; lower optimiser.lr_{name}" for name in job.at_floor]
    if saturated > TOLD:
        lines.append(f"saturated: {saturated:.0%} of the pixels are at an end of their range; lower optimiser.lr_pixels")
    return [f"{job.title}: {line}" for line in lines]


@command
def main() -> None:
    parser = arguments.named("distill", __doc__)
    stages = parser.add_subparsers(dest="stage", required=True)
    one = stages.add_parser("run", help="condense one cell by one method")
    arguments.add(one, "spec", "data", "code", "device")
    one.add_argument("--experts", type=Path, help="manifest.json of the expert trajectories")
    one.add_argument("--out", type=Path, required=True, help="the condensed set, .safetensors")
    export = stages.add_parser("export", help="write a condensed set's images for other programs")
    export.add_argument("condensed", type=Path)
    export.add_argument("folder", type=Path)
    export.add_argument("--format", choices=("png", "npz", "pt", "imagefolder"), default="imagefolder")
    args = parser.parse_args()
    if args.stage == "run":
        if args.experts is not None and not args.experts.exists():
            raise UserError(f"--experts {args.experts}: no such file")
        run(args.spec, args.data, args.experts, args.out, args.code, args.device)
    else:
        from esp_core.distillation.export import export as write

        print(write(args.condensed, args.folder, args.format))
