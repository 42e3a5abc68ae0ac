#!/usr/bin/env bash
# GREC: Pr@(F1=1), N-acc, T-acc, precision, recall and F1 of sets; with EACH=mask also GRES (gIoU, cIoU), for which a model
# that answers masks by regions asks everyone it found.
# Set MODEL (a model folder), DATA (a file of our own kind), EACH, GPUS. Further arguments go to evaluate.py (--limit N, ...).
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

exec "$root/run_scripts/launch.sh" "$root/evaluate.py" --model "${MODEL:-$root/checkpoints/compact}" \
    --data "${DATA:-$root/dataset/grefcoco/val.tsv}" ${KIND:+--kind "$KIND"} --tasks grec ${EACH:+--each "$EACH"} "$@"
