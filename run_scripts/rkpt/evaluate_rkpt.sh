#!/usr/bin/env bash
# RKpt as published: share of people with OKS of 0.5 or more, beam of 5, on Refpose testA.
# Set MODEL (a model folder), DATA (a dataset file), KIND (its layout: rec, rkpt, rpar, rhrc, or person, our own), GPUS.
# Further arguments go to evaluate.py (--limit N, --out FOLDER, ...).
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

if [ -z "${DATA:-}" ]; then KIND=${KIND:-rkpt}; fi
exec "$root/run_scripts/launch.sh" "$root/evaluate.py" --model "${MODEL:-$root/checkpoints/refhcm}" \
    --data "${DATA:-$root/dataset/rkpt/refcoco_pose_testA.tsv}" ${KIND:+--kind "$KIND"} --tasks rkpt --beam 5 \
    --published-reading "$@"
