#!/usr/bin/env bash
# RPar, token by token, as published: mIoU of part maps, beam of 5, stepped outlines.
# Set MODEL (a model folder), DATA (a dataset file), KIND (its layout: rec, rkpt, rpar, rhrc, or person, our own), GPUS.
# Further arguments go to evaluate.py (--limit N, --out FOLDER, ...).
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

if [ -z "${DATA:-}" ]; then KIND=${KIND:-rpar}; fi
exec "$root/run_scripts/launch.sh" "$root/evaluate.py" --model "${MODEL:-$root/checkpoints/refhcm}" \
    --data "${DATA:-$root/dataset/rpar/refcihp_val.tsv}" ${KIND:+--kind "$KIND"} --tasks rpar --beam 5 --published-reading "$@"
