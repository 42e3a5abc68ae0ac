#!/usr/bin/env bash
# RHrc as published: CIDEr-D, beam of 5.
# Set MODEL (a model folder), DATA (a dataset file), KIND (its layout: rec, rkpt, rpar, rhrc, or person, our own), GPUS.
# Further arguments go to evaluate.py (--limit N, --out FOLDER, ...).
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

if [ -z "${DATA:-}" ]; then KIND=${KIND:-rhrc}; fi
exec "$root/run_scripts/launch.sh" "$root/evaluate.py" --model "${MODEL:-$root/checkpoints/refhcm}" \
    --data "${DATA:-$root/dataset/rhrc/capcihp_val.tsv}" ${KIND:+--kind "$KIND"} --tasks rhrc --beam 5 "$@"
