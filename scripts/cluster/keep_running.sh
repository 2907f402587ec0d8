#!/usr/bin/env bash
# Runs a command, and runs it again if it ended because of a signal or another process. Appends its output to a log.
#
#   bash scripts/cluster/keep_running.sh LOG COMMAND [ARGUMENTS]
#
# The command is run again after the exit statuses 75 (another process was lost), 143 (SIGTERM) and 137 (killed). After any
# other status this script ends: 0, or an error that would happen again. SIGTERM to this script is passed on to the
# command; then the script ends too. A second call with the same log does nothing while the first one runs. Tested:
# tests/test_launchers.py.
set -uo pipefail

log="${1:?log file}"
shift
mkdir -p "$(dirname "$log")"
exec 9>>"$log.lock" # the lock is held until this script ends
flock --nonblock 9 || { echo "already running: $log"; exit 0; }
echo $$ >"$log.pid"

stopped=
trap 'stopped=1; kill -TERM "$child" 2>/dev/null' TERM
while true; do
  "$@" >>"$log" 2>&1 9>&- &
  child=$!
  wait "$child"
  status=$?
  while kill -0 "$child" 2>/dev/null; do # the signal ended `wait`, not the command
    wait "$child"
    status=$?
  done
  case "$status" in
    75 | 137 | 143) [ -z "$stopped" ] || break ;;
    *) break ;;
  esac
  echo "status $status: started again in ${RESTART_SECONDS:-10} s" >>"$log"
  sleep "${RESTART_SECONDS:-10}"
done
echo "ended with status $status" >>"$log"
exit "$status"
