#!/usr/bin/env bash
# How much of part maps survives a label-map tokenizer, class by class: the ceiling of RPar with its codes.
# Set DATA (a file with part maps: converted CIHP, scenes, or published RPar), TOKENIZER (a folder with label_map.json, or
# the published VQGAN's model.ckpt); further arguments go to label_map_evaluation (--limit N, --json FILE, ...).
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

GPUS=1 NODES=1 exec "$root/run_scripts/launch.sh" -m refhcm.inference.label_map_evaluation "${DATA:-$root/dataset/cihp/val.tsv}" \
    --tokenizer "${TOKENIZER:-$root/checkpoints/compact}" "$@"
