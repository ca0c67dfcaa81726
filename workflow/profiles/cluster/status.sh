#!/usr/bin/env bash
# status.sh JOB: print running, success or failed.
set -euo pipefail

# The controller forgets a job minutes after its end, the accounting does not; a cluster may have no accounting.
state=$(scontrol --oneliner show job "$1" 2> /dev/null | sed -n 's/.* JobState=\([A-Z_]*\).*/\1/p' || true)
if [[ -z $state ]]; then
    state=$(sacct --jobs="$1" --allocations --noheader --parsable2 --format=State 2> /dev/null | head -n 1 | cut -d ' ' -f 1 || true)
fi
case $state in
    COMPLETED) echo success ;;
    PENDING | CONFIGURING | RUNNING | COMPLETING | SUSPENDED | STOPPED | REQUEUED | REQUEUE_HOLD | REQUEUE_FED | RESIZING | SIGNALING | STAGE_OUT) echo running ;;
    *) echo failed ;;
esac
