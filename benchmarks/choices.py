"""One choice at a time: every method of a study distilled and evaluated once a seed, paired with one of them.

    snakemake all_experts --configfile docs/choices/digits.yaml
    python -m benchmarks.choices docs/choices/digits.yaml --against esp_dm --out docs/choices/digits.csv

A seed decides the first codes, real batches, augmentations, segments and the evaluation's network, the same for every method,
so that differences are paired; data and experts are the study's. Interrupted, the same command goes on; `--table` only prints.
"""

import argparse
import csv
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd

from esp_core.reporting.table_text import spread
from esp_core.runtime import files
from esp_core.runtime.progress import Progress
from esp_core.study.config import Study, load
from esp_core.study.job_specs import spec

COLUMNS = ["dataset", "ipc", "method", "seed", "accuracy", "images", "seconds", "torch", "device"]


def measure(study: Study, cell: tuple[str, int], method: str, seed: int, root: Path) -> dict[str, Any]:
    """Distil and evaluate one method under one seed; a row of `COLUMNS`."""
    from esp_core.stages import distill, evaluate

    dataset, ipc = cell
    data, manifest = root / "data" / f"{dataset}.h5", root / "experts" / dataset / "manifest.json"
    job = {**spec(study, "distill", dataset, str(ipc), method), "study_seed": seed}
    test = {**spec(study, "evaluate", dataset, str(ipc), method, study.networks[0]), "study_seed": seed, "seeds": 1}
    start = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "set.safetensors"
        distill.run(job, data, manifest if job["experts"] else None, out)
        row = evaluate.run(test, data, out)[0]
    took = round(time.process_time() - start, 1)
    return {**row, "ipc": ipc, "seed": seed, "seconds": took}


def table(rows: pd.DataFrame, against: str) -> str:
    """Markdown: mean and std over seeds, and the paired difference to `against` with its 95 % t-interval, where there are two or more."""
    from scipy import stats

    wide = rows.pivot_table(index="seed", columns="method", values="accuracy")
    lines = [f"| method | accuracy, % | difference to {against} | n | CPU s |", "| --- | --- | --- | --- | --- |"]
    for method in dict.fromkeys(rows["method"]):
        values = wide[method].dropna()
        paired = (wide[method] - wide[against]).dropna()
        n = len(paired)
        half = f" ± {stats.t.ppf(0.975, n - 1) * paired.std() / n**0.5:.1f}" if n > 1 else ""
        difference = "" if method == against else f"{paired.mean():+.1f}{half}"
        seconds = rows.loc[rows["method"] == method, "seconds"].mean()
        lines.append(f"| {method} | {spread(values.mean(), values.std())} | {difference} | {n} | {seconds:.0f} |")
    return "\n".join(lines)


def main() -> None:
    """Measure what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("--against", default="esp_dm", help="the method that the others are paired with")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--methods", nargs="+", help="only these; all by default")
    parser.add_argument("--out", type=Path, required=True, help="a row a method and seed, .csv")
    parser.add_argument("--table", action="store_true", help="print the table of what is there and measure nothing")
    args = parser.parse_args()
    study = load(args.config)
    done = pd.read_csv(args.out) if args.out.exists() else pd.DataFrame(columns=COLUMNS)
    if not args.table:
        done = _measured(study, args, done)
    print(table(done, args.against))


def _measured(study: Study, args: argparse.Namespace, done: pd.DataFrame) -> pd.DataFrame:
    wanted = [(cell, m, seed) for seed in range(args.seeds) for cell in study.cells for m in args.methods or study.methods]
    there = {(row.dataset, row.ipc, row.method, row.seed) for row in done.itertuples()}
    missing = [(cell, m, seed) for cell, m, seed in wanted if (*cell, m, seed) not in there]
    progress = Progress("choices", len(wanted), done=len(wanted) - len(missing), unit="runs", every=0)
    rows = done[COLUMNS].to_dict("records")
    for cell, method, seed in missing:
        row = measure(study, cell, method, seed, Path("results") / study.name)
        rows.append({column: row[column] for column in COLUMNS})
        files.write(args.out, pd.DataFrame(rows).to_csv(index=False, quoting=csv.QUOTE_MINIMAL))
        progress.step(f"{method} {row['accuracy']}")
    return pd.read_csv(args.out) if missing else done


if __name__ == "__main__":
    sys.exit(main())
