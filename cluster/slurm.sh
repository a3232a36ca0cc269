#!/usr/bin/env bash
# sbatch cluster/slurm.sh
#
# One run on whole machines of a SLURM cluster: Ray is started on all of them, does the work and
# ends. A job that is preempted or comes to its time limit stops cleanly, is queued again and goes on
# where it stopped. `dfshield doctor --template cluster/slurm.sh` names the placeholders that are
# left. Submit it from a folder that all machines share.
#SBATCH --job-name=dfshield
#SBATCH --partition=CHANGE_ME_PARTITION   # as `sinfo` names it
#SBATCH --nodes=2                         # machines
#SBATCH --gpus-per-node=4                 # GPUs of one machine; of one kind: a100:4
#SBATCH --cpus-per-task=32                # cores of one machine
#SBATCH --time=24:00:00
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:TERM@180               # three minutes to stop in, before the time limit
set -uo pipefail

environment=CHANGE_ME_ENVIRONMENT   # the virtual environment with dfshield, on a shared file system;
                                    # torch.compile wants a C++ compiler (module load gcc) and Python.h
config=CHANGE_ME_CONFIG             # the YAML file; its storage.path must be shared, too
command=(dfshield run "$config" cluster.address=auto)
port=6379

# shellcheck disable=SC1091
source "$environment/bin/activate" || exit 1

folder=$SLURM_SUBMIT_DIR/.dfshield-$SLURM_JOB_ID

# SLURM's warning, from here on: the command is told to stop, and has two minutes to do so.
warned=
deadline=$((SECONDS + 10 ** 9))
# shellcheck disable=SC2329
stop() {
    warned=yes
    deadline=$SECONDS
    if [ -s "$folder/pid" ] && kill -TERM "$(cat "$folder/pid")"; then
        deadline=$((SECONDS + 120))
    fi
}
trap stop TERM

# What the machines have to know of one another lies in a folder that only their user can open.
rm -rf "$folder" && mkdir -m 700 "$folder" || exit 1
trap 'rm -rf "$folder"' EXIT
(umask 077 && python -c 'import secrets; print(secrets.token_hex(32))' >"$folder/token") || exit 1

export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$folder/token RAY_USAGE_STATS_ENABLED=0
export RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=600   # seconds for all machines to join
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)

# The head's machine, which is this one, runs the command and notes how it ended: what srun ends
# with does not tell, since a Ray that does not start can end with 0.
# shellcheck disable=SC2016
noting='folder=$1; shift; "$@" & echo $! >"$folder/pid"; wait $!; echo $? >"$folder/exit-code"'
# A machine that is lost does not end the others (--wait, --kill-on-bad-exit).
srun --cpus-per-task="$SLURM_CPUS_PER_TASK" --wait=0 --kill-on-bad-exit=0 \
    ray symmetric-run --address "$head:$port" --min-nodes "$SLURM_JOB_NUM_NODES" \
    --num-cpus="$SLURM_CPUS_PER_TASK" -- bash -c "$noting" noting "$folder" "${command[@]}" &
step=$!

while kill -0 "$step" 2>/dev/null && [ ! -s "$folder/exit-code" ] && [ "$SECONDS" -lt "$deadline" ]
do
    sleep 1 &
    wait $!   # unlike sleep alone, it ends when the warning comes
done

# SLURM ends what still runs when this script does.
code=$(cat "$folder/exit-code" 2>/dev/null)
if [ -n "$warned" ] && [ "$code" != 0 ]; then
    echo "slurm.sh: stopped before SLURM does it; queued again to go on" >&2
    scontrol requeue "$SLURM_JOB_ID"
elif [ -z "$code" ]; then
    echo "slurm.sh: no end of the command was noted: Ray did not start or was lost" >&2
fi
exit "${code:-1}"
