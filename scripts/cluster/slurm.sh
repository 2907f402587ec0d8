#!/usr/bin/env bash
# Trains SRGAN on several GPU nodes of a SLURM cluster, one process for each GPU:
#
#   sbatch --nodes=4 --gpus-per-node=8 --ntasks-per-node=8 scripts/cluster/slurm.sh srgan /shared/runs/srgan [more flags]
#
# --ntasks-per-node is the number of GPUs of a node: each process uses the GPU that has the local index of the process. JAX
# reads the environment variables of SLURM (jax.distributed.initialize without arguments). The checkout, its .venv
# (bash scripts/setup.sh train,cuda), the data set and the run folder must be on a file system that all nodes share.
#
# The job is requeued, and resumes, when it ends with one of these exit statuses:
#   143  SIGTERM, which SLURM sends two minutes before the time limit and when it pre-empts the job: the run has saved
#   75   another process was lost, by a crash or with its node
#   137  a process was killed, for instance by the kernel because it used too much memory
# After any other status the job is not requeued, because the error would happen again. The job is requeued at most
# MAX_RESTARTS times (default: 100).
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
# line about the last checkpoint; --wait=120 ends those that haven't ended after 120 seconds.
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
