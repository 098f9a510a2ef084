#!/usr/bin/env bash
# All GPUs of one machine (or its CPUs), without a scheduler. The same command resumes.
#
#   examples/cluster/one-node.sh                      # as below
#   PROCESSES=2 examples/cluster/one-node.sh --device cpu --smoke
#   DATA='shards/cc3m/{00000..00331}.tar' examples/cluster/one-node.sh --recipe cc3m-112-clip
set -euo pipefail

PYTHON=${PYTHON:-python}
DATA=${DATA:-emoji}
OUT=${OUT:-runs/one-node}
PROCESSES=${PROCESSES:-gpu} # one a GPU; a number on a machine without

# a process of the run keeps a core busy beside its decoding workers; more threads pay on CPUs alone
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

exec "$PYTHON" -m torch.distributed.run --standalone --nproc-per-node "$PROCESSES" \
    -m pretrain.train --data "$DATA" --out "$OUT" --precision bf16 --validation emoji "$@"
