#!/usr/bin/env bash
# submit.sh CORES MEGABYTES MINUTES GPUS JOBSCRIPT: hand the script to the scheduler and print the job's number, nothing else.
set -euo pipefail
cores=$1 megabytes=$2 minutes=$3 gpus=$4 script=$5

mkdir -p .snakemake/cluster_logs
options=(--parsable --ntasks=1 --cpus-per-task="$cores" --mem="$megabytes" --time="$minutes")
options+=(--job-name="$(basename "$script")" --output=.snakemake/cluster_logs/%j.log)
if ((gpus > 0)); then
    options+=(--gpus="$gpus") # with --partition=gpu where GPUs are in a partition of their own
fi
sbatch "${options[@]}" "$script" | cut -d ';' -f 1
