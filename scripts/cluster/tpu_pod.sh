#!/usr/bin/env bash
# SRGAN on all hosts of a Cloud TPU slice, one process for each host:
#
#   TPU=my-v5e-64 ZONE=us-west4-a bash scripts/cluster/tpu_pod.sh configs/srgan.py /mnt/share/runs/srgan [more flags]
#
# Every host needs the checkout in ~/srgan_jax (bash scripts/setup.sh tpu) and a folder that all of them see (Filestore,
# or a bucket mounted with gcsfuse) for the data set and the run. JAX finds the other hosts through the TPU's metadata.
# Maintenance and pre-emption send SIGTERM: the run saves; this command again goes on from there.
#
# Run here: `bash -n`, and the same command as two processes of one machine on CPUs (tests/test_processes.py).
# Not run: gcloud, TPUs, more than one machine.
set -euo pipefail

config="${1:?config file, such as configs/srgan.py}"
workdir="${2:?folder of the run, on a shared file system}"
shift 2
printf -v arguments ' %q' --config "$config" --workdir "$workdir" "$@"
gcloud compute tpus tpu-vm ssh "${TPU:?name of the TPU}" --zone "${ZONE:?its zone}" --worker=all \
  --command "cd ~/srgan_jax && .venv/bin/python -m srgan_jax.main$arguments"
