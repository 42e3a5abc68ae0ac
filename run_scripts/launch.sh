#!/usr/bin/env bash
# Run a Python script (or `-m MODULE`) with its arguments in GPUS processes on each of NODES machines, through torchrun
# (launch.py) where that is more than one. Set PYTHON (default: .venv of this repository, else python), GPUS, and for several machines
# NODES, NODE_RANK (0 on the first; SLURM sets its own), MASTER_ADDR (name of the first) and MASTER_PORT.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

if [ -z "${PYTHON:-}" ]; then
    PYTHON=python
    if [ -x "$root/.venv/bin/python" ]; then PYTHON=$root/.venv/bin/python; fi
fi
GPUS=${GPUS:-1} NODES=${NODES:-1}
. "$root/run_scripts/numbers.sh" && whole_numbers GPUS NODES NODE_RANK:0 MASTER_PORT
if [ "$NODES" -gt 1 ]; then
    : "${MASTER_ADDR:?set MASTER_ADDR to the name of the first machine}"
    NODE_RANK=${NODE_RANK:-${SLURM_NODEID:?set NODE_RANK: 0 on the first machine, 1 on the next, ...}}
    exec "$PYTHON" "$root/run_scripts/launch.py" --nnodes "$NODES" --node_rank "$NODE_RANK" --nproc_per_node "$GPUS" \
        --master_addr "$MASTER_ADDR" --master_port "${MASTER_PORT:-29500}" "$@"
elif [ "$GPUS" -gt 1 ]; then
    exec "$PYTHON" "$root/run_scripts/launch.py" --standalone --nproc_per_node "$GPUS" "$@"
fi
exec "$PYTHON" "$@"
