#!/usr/bin/env bash
# Trains SRGAN on all hosts of a Cloud TPU slice, one process for each host:
#
#   export TPU=my-v5e-64 ZONE=us-west4-a
#   bash scripts/cluster/tpu_pod.sh srgan gs://my-bucket/runs/srgan --config.data.dataset=gs://my-bucket/data/mine \
#     --config.compilation_cache=gs://my-bucket/cache [more flags]
#   bash scripts/cluster/tpu_pod.sh stop          # saves, and ends the run
#
# Every host needs the checkout in ~/srgan_jax (bash scripts/setup.sh train,gcs,tpu). JAX gets the addresses of the hosts
# from the TPU metadata. With the cache in a bucket, process 0 writes the compiled programs, and all hosts read them at the
# next start.
#
# The processes don't depend on this script or its ssh connection: scripts/cluster/keep_running.sh runs on each host in a
# session of its own, and starts the process again after the exit statuses 75, 137 and 143. This script only prints the log
# of the first host. If it is called again with the same arguments, it finds the run and continues to print.
#
# A spot slice that was pre-empted no longer exists. With these two variables it is created again, and the run resumes:
#   CREATE="gcloud compute tpus tpu-vm create my-v5e-64 --zone us-west4-a --accelerator-type v5litepod-64 --spot ..."
#   PREPARE="git clone ... ~/srgan_jax && cd ~/srgan_jax && bash scripts/setup.sh train,gcs,tpu"   # on each host
#
# Tested: the syntax of this script by `bash -n`; keep_running.sh and this script with a substitute for gcloud
# (tests/test_launchers.py); the same command with two processes on the CPUs of one machine (tests/test_processes.py,
# tests/test_peers.py).
# Not tested: gcloud, TPUs, more than one machine.
set -uo pipefail

TPU="${TPU:?name of the TPU}" ZONE="${ZONE:?zone of the TPU}"
log='~/srgan_jax-run/log' # on each host; its shell expands ~

on_hosts() { # on_hosts WORKER COMMAND
  gcloud compute tpus tpu-vm ssh "$TPU" --zone "$ZONE" --worker="$1" --command "$2"
}

if [ "${1:-}" = stop ]; then
  on_hosts all "kill -TERM \$(cat $log.pid)"
  exit
fi
config="${1:?recipe or config file, such as srgan}"
workdir="${2:?run folder: gs://BUCKET/PATH, or a folder that all hosts mount}"
shift 2
printf -v arguments ' %q' --config "$config" --workdir "$workdir" "$@"
run="cd ~/srgan_jax && mkdir -p ~/srgan_jax-run && (setsid nohup bash scripts/cluster/keep_running.sh $log"
run+=" .venv/bin/python -m srgan_jax.main$arguments > /dev/null 2>&1 < /dev/null &) && sleep 1"

while true; do
  state="$(gcloud compute tpus tpu-vm describe "$TPU" --zone "$ZONE" --format 'value(state)' 2>/dev/null)"
  if [ "$state" = READY ]; then
    on_hosts all "$run" && on_hosts 0 "tail -n 50 -F --pid=\$(cat $log.pid) $log"
    if ended="$(on_hosts 0 "tail -n 1 $log | grep '^ended with status'")" && [ -n "$ended" ]; then
      echo "$ended"
      exit "${ended##* }"
    fi
  elif [ -n "${CREATE:-}" ] && [ "$state" != CREATING ]; then
    [ -z "$state" ] || gcloud compute tpus tpu-vm delete "$TPU" --zone "$ZONE" --quiet
    bash -c "$CREATE" && on_hosts all "${PREPARE:-true}"
  elif [ -z "${CREATE:-}" ]; then
    echo "error: the TPU $TPU is ${state:-not there}; make it again and repeat the command, or set CREATE" >&2
    exit 75
  fi
  sleep "${RETRY_SECONDS:-30}"
done
