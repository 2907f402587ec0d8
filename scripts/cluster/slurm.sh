#!/usr/bin/env bash
# Trains SRGAN on several GPU nodes of a SLURM cluster, one process for each GPU:
#
#   sbatch --nodes=4 --gpus-per-node=8 --ntasks-per-node=8 scripts/cluster/slurm.sh srgan /shared/runs/srgan [more flags]
#
# --ntasks-per-node is the number of GPUs of a node: each process takes the GPU of its number on the node. JAX reads the
# environment variables of SLURM (jax.distributed.initialize without arguments). The checkout, its .venv
# (bash scripts/setup.sh cuda), the data set and the run folder must be on a file system that all nodes share.
#
# The job is requeued, and resumes, when it ends with one of these exit statuses:
#   143  SIGTERM, which SLURM sends two minutes before the time limit and at a pre-emption: the run has saved
#   75   another process was lost, by a crash or with its node
#   137  a process was killed, for instance by the kernel for its memory
# Any other status is an error that would come again. At most MAX_RESTARTS times (100).
#
# Tested: the requeueing with substitutes for srun and scontrol (tests/test_launchers.py), and the same command with two
# processes on the CPUs of one machine (tests/test_processes.py, tests/test_peers.py).
# Not tested: SLURM itself, GPUs, more than one machine.
#SBATCH --job-name=srgan
#SBATCH --nodes=2
#SBATCH --gpus-per-node=8
#SBATCH --ntasks-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
set -uo pipefail

config="${1:?recipe or config file, such as srgan}"
workdir="${2:?run folder, on a shared file system}"
shift 2
cd "${SLURM_SUBMIT_DIR:?submit this script with sbatch, from the checkout}"
gpus="${SLURM_GPUS_ON_NODE:-}" tasks="${SLURM_NTASKS_PER_NODE:-}"
if [ -n "$gpus" ] && [ -n "$tasks" ] && [ "$gpus" != "$tasks" ]; then
  echo "error: $gpus GPUs a node, but --ntasks-per-node=$tasks: expected one process a GPU, --ntasks-per-node=$gpus" >&2
  exit 2
fi

# Proxies would break the connections between the processes. When a process ends, the others end by themselves, with a
# line about the last checkpoint; --wait ends those that can't.
unset http_proxy https_proxy HTTP_PROXY HTTPS_PROXY
srun --kill-on-bad-exit=0 --wait=120 .venv/bin/python -m srgan_jax.main --config "$config" --workdir "$workdir" "$@"
status=$?
case "$status" in
  75 | 137 | 143)
    if [ "${SLURM_RESTART_COUNT:-0}" -lt "${MAX_RESTARTS:-100}" ]; then
      scontrol requeue "$SLURM_JOB_ID"
    fi
    ;;
esac
exit "$status"
