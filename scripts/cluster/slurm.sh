#!/usr/bin/env bash
# SRGAN on several GPU nodes of a SLURM cluster, one process for each GPU:
#
#   sbatch --nodes=4 --gpus-per-node=8 scripts/cluster/slurm.sh configs/srgan.py /shared/runs/srgan [more flags]
#
# JAX reads SLURM's variables by itself (jax.distributed.initialize without arguments). The checkout, its .venv
# (bash scripts/setup.sh cuda), the data set and the run's folder must lie on a file system that all nodes see.
# SLURM sends SIGTERM two minutes before the time is up: the run saves and ends, is queued again, and goes on.
#
# Run here: `bash -n`, and the same command as two processes of one machine on CPUs (tests/test_processes.py).
# Not run: SLURM itself, GPUs, more than one machine.
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

config="${1:?config file, such as configs/srgan.py}"
workdir="${2:?folder of the run, on a shared file system}"
shift 2
cd "${SLURM_SUBMIT_DIR:?submit it with sbatch, from the checkout}"

# Proxies keep the processes from finding each other; one that dies takes the others along, so that none waits for it.
unset http_proxy https_proxy HTTP_PROXY HTTPS_PROXY
srun --kill-on-bad-exit=1 .venv/bin/python -m srgan_jax.main --config "$config" --workdir "$workdir" "$@"
status=$?
if [ "$status" -eq 143 ]; then # it was told to stop and has saved
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
