"""A batch script for SLURM: a Ray cluster on the nodes of the job, a matrix on it, and nothing left behind."""

from __future__ import annotations

import re
import shlex

from cluster.launch.config import ClusterConfig
from cluster.launch.text import exports

# Before the time limit, or before a job is taken from its nodes, the matrix has this long to leave with checkpoints.
LEAVE_SECONDS = 180

_BODY = r"""
set -euo pipefail

@variables@
export PATH=@venv@/bin:"$PATH"
export RAY_TMPDIR="/tmp/@name@-$SLURM_JOB_ID" # of each node; removed by it
export RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S=0 # when its nodes are ended, nothing of ours runs on them
export RAY_AUTH_TOKEN_PATH=@storage@/.ray-token-"$SLURM_JOB_ID"
storage=@storage@
nodes=$SLURM_JOB_NUM_NODES
port=$((20000 + SLURM_JOB_ID % 4000)) # two jobs on one machine do not meet

child=
ended=
steps=()

end() {
  ended=1
  if [[ -n $child ]]; then kill -TERM "$child" 2>/dev/null || true; fi
}

# Run a command that SIGTERM and SIGINT are passed on to; its exit code, however often it was waited for in vain.
run() {
  [[ -z $ended ]] || return 143
  "$@" &
  child=$!
  local code
  while true; do
    code=0
    wait "$child" || code=$?
    kill -0 "$child" 2>/dev/null || break
  done
  child=
  return "$code"
}

# Ray on one node of the job, in the background.
start() {
  local node=$1
  shift
  srun --nodes=1 --ntasks=1 --nodelist="$node" --cpus-per-task="$SLURM_CPUS_PER_TASK" bash -c '
    trap : TERM INT # Ray has them too, and ends all that it started; then go on here
    "$@"
    for _ in {1..20}; do # the last of its processes still write there
      rm -rf "$RAY_TMPDIR" || true
      sleep 0.5
      [[ -e $RAY_TMPDIR ]] || break
    done
  ' ray ray start --block --disable-usage-stats @resources@ --dashboard-agent-listen-port=0 "$@" &
  steps+=($!)
}

finish() {
  local code=$? step
  trap '' TERM INT
  scancel --signal=TERM "$SLURM_JOB_ID" || true # to the nodes, not to this script; `srun` itself would kill them
  for _ in {1..60}; do
    kill -0 "${steps[@]}" 2>/dev/null || break
    sleep 0.5
  done
  for step in "${steps[@]}"; do kill -KILL "$step" 2>/dev/null || true; done
  rm -f "$RAY_AUTH_TOKEN_PATH"
  exit "$code"
}

trap end TERM INT
trap finish EXIT

mkdir -p "$storage"
(
  umask 077
  rm -f "$RAY_AUTH_TOKEN_PATH"
  head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \n' >"$RAY_AUTH_TOKEN_PATH"
)

# This script runs on the first node, which is the head, and trains as the others do.
mapfile -t hosts < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head_ip=$(python -c 'import ray.util; print(ray.util.get_node_ip_address())')
address="$head_ip:$port"
start "${hosts[0]}" --head --port="$port" --node-ip-address="$head_ip" \
  --dashboard-host=127.0.0.1 --dashboard-port=$((port + 4000)) --ray-client-server-port=$((port + 8000))
run altformer cluster wait --address "$address" --nodes 1 --seconds 300
for host in "${hosts[@]:1}"; do start "$host" --address="$address"; done
run altformer cluster wait --address "$address" --nodes "$nodes" --seconds 300
echo "Ray of $nodes nodes at $address"

run altformer ablate @ablate@ --address "$address" --out @out@
"""


def slurm(config: ClusterConfig) -> dict[str, str]:
    """A script for `sbatch`; submitted again it goes on from what is finished."""
    file = f"{config.name}.sbatch"
    options = {
        "job-name": config.name,
        "nodes": config.nodes,
        "ntasks-per-node": 1,
        "cpus-per-task": config.cpus,
        "gpus-per-node": config.gpus or None,
        "mem": f"{config.memory_gb}G",
        "time": f"{config.slurm.hours}:00:00",
        "partition": config.slurm.partition,
        "account": config.slurm.account,
        "signal": f"B:TERM@{LEAVE_SECONDS}",
        "output": "%x-%j.txt",
    }
    lines = [
        "#!/bin/bash",
        f"# A matrix on a Ray cluster of its own, on the nodes of a SLURM job: sbatch {file}",
        "# It ends early, with checkpoints, by: scancel --batch --signal=TERM JOBID",
        "# Submitted again, it goes on from what is finished.",
        *(f"#SBATCH --{name}={value}" for name, value in options.items() if value is not None),
    ]
    values = {
        "variables": exports(config.variables),
        "venv": shlex.quote(config.venv),
        "name": config.name,
        "storage": shlex.quote(config.storage),
        "resources": f"--num-cpus={config.cpus} --num-gpus={config.gpus}",
        "ablate": shlex.join(config.ablate),
        "out": shlex.quote(config.out),
    }
    body = re.sub(r"@(\w+)@", lambda found: values[found[1]], _BODY)
    return {file: "\n".join(lines) + "\n" + body}
