#!/usr/bin/env bash
# Trains SRGAN on all hosts of a Cloud TPU slice, one process for each host:
#
#   TPU=my-v5e-64 ZONE=us-west4-a bash scripts/cluster/tpu_pod.sh configs/srgan.py /mnt/share/runs/srgan [more flags]
#
# Every host needs the checkout in ~/srgan_jax (bash scripts/setup.sh tpu) and a shared folder (Filestore, or a bucket
# mounted with gcsfuse) for the data set and the run. JAX gets the addresses of the hosts from the TPU metadata.
# Maintenance and pre-emption send SIGTERM: the run saves and exits; call this script again to resume.
#
# Tested: `bash -n`, and the same command with two processes on the CPUs of one machine (tests/test_processes.py).
# Not tested: gcloud, TPUs, more than one machine.
set -euo pipefail

config="${1:?config file, such as configs/srgan.py}"
workdir="${2:?run folder, on a shared file system}"
shift 2
printf -v arguments ' %q' --config "$config" --workdir "$workdir" "$@"
gcloud compute tpus tpu-vm ssh "${TPU:?name of the TPU}" --zone "${ZONE:?zone of the TPU}" --worker=all \
  --command "cd ~/srgan_jax && .venv/bin/python -m srgan_jax.main$arguments"
