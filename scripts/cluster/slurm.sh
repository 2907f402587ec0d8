#!/usr/bin/env bash
# Trains SRGAN on several GPU nodes of a SLURM cluster, one process for each GPU:
#
#   sbatch --nodes=4 --gpus-per-node=8 scripts/cluster/slurm.sh configs/srgan.py /shared/runs/srgan [more flags]
#
# JAX reads the environment variables of SLURM (jax.distributed.initialize without arguments). The checkout, its .venv
# (bash scripts/setup.sh cuda), the data set and the run folder must be on a file system that all nodes share.
# SLURM sends SIGTERM two minutes before the time limit: the run saves and exits, is requeued, and resumes.
#
# Tested: `bash -n`, and the same command with two processes on the CPUs of one machine (tests/test_processes.py).
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

config="${1:?config file, such as configs/srgan.py}"
workdir="${2:?run folder, on a shared file system}"
shift 2
cd "${SLURM_SUBMIT_DIR:?submit this script with sbatch, from the checkout}"

# Proxies would break the connections between the processes. If a process fails, srun kills the others, which would wait.
unset http_proxy https_proxy HTTP_PROXY HTTPS_PROXY
srun --kill-on-bad-exit=1 .venv/bin/python -m srgan_jax.main --config "$config" --workdir "$workdir" "$@"
status=$?
if [ "$status" -eq 143 ]; then # the run got SIGTERM and has saved
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
