#!/usr/bin/env bash
# How much of part maps survives a label-map tokenizer, class by class: the ceiling of RPar with its codes. With
# PRESET=mask how much of masks does: the ceiling of referring segmentation, and of regions.
# Set DATA (a file with part maps or masks: converted CIHP or RefCOCO, scenes, or published RPar), TOKENIZER (a folder with
# label_map.json or mask.json, or the published VQGAN's model.ckpt), GPUS; further arguments go to label_map_evaluation
# (--limit N, --json FILE, ...).
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

if [ "${PRESET:-}" = mask ]; then set -- --name mask "$@"; fi
exec "$root/run_scripts/launch.sh" -m refhcm.inference.label_map_evaluation "${DATA:-$root/dataset/cihp/val.tsv}" \
    --tokenizer "${TOKENIZER:-$root/checkpoints/compact}" "$@"
