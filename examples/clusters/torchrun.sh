#!/bin/bash
# Several nodes without SLURM: run this on each of them, with the address of the first.
#   HEAD=10.0.0.1 NODES=8 GPUS=8 RUN=my_run DATA=/data/photos bash torchrun.sh objective=simclr
# After a failure torchrun starts the processes again (RESTARTS times); they go on from the newest checkpoint.
set -euo pipefail
torchrun --nnodes="$NODES" --nproc-per-node="$GPUS" --max-restarts="${RESTARTS:-3}" \
  --rdzv-backend=c10d --rdzv-endpoint="$HEAD:${PORT:-29500}" --rdzv-id="$RUN" \
  -m ssl_mi train data=image_folder "data.root=$DATA" trainer=ddp \
  trainer.num_nodes="$NODES" trainer.devices="$GPUS" "$@"
