#!/usr/bin/env bash
# All GPUs of one machine (or its CPUs) for crossgap.encode, invert or evaluate, without a scheduler. The same
# command resumes, with another number of processes too.
#
#   examples/cluster/measure.sh encode --encoder ViT-B-32 --pretrained openai --dataset photos/ --out features/
#   PROCESSES=2 examples/cluster/measure.sh evaluate --encoder runs/mine --dataset emoji --device cpu --out runs/eval
set -euo pipefail

PYTHON=${PYTHON:-python}
PROCESSES=${PROCESSES:-gpu} # one a GPU; a number on a machine without
COMMAND=${1:?encode, invert or evaluate, then its options}
shift

export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

exec "$PYTHON" -m torch.distributed.run --standalone --nproc-per-node "$PROCESSES" -m "crossgap.$COMMAND" "$@"
