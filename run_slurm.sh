#!/usr/bin/env bash
# Any recipe on several machines of a Slurm cluster: one torchrun on each, all of their GPUs.
#
#     sbatch --export=ALL,DATA=/data/kitti_raw run_slurm.sh
#     sbatch --nodes 4 --gpus-per-node 2 --export=ALL,DATA=... run_slurm.sh --num_epochs 40
#     (arguments go to train.py; CONFIG and LOGS are taken from the environment too)
#
# DATA and LOGS are folders that all machines share. Submit it in the environment that has the
# requirements, from this folder. The batch size of a file is that of each process: eight GPUs take
# four times the samples a step of two.
#
# Two minutes before the time limit every process gets SIGTERM: the step is finished, the run saved,
# and they end with 143, which Slurm tells as a failed job, as it is not done. Submitted again the
# same way it goes on where it was (--resume). If a machine fails, Slurm puts the job into the queue
# again by itself; if a process dies, torchrun starts all of them anew from the last checkpoint.
#
#SBATCH --job-name=bdedepth
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=52
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
# 52 CPUs: for each of four GPUs a process and its 12 loader workers (--num_workers).
set -euo pipefail
# Slurm runs a copy of this file: the project is where sbatch was called.
here="${PROJECT:-${SLURM_SUBMIT_DIR:?submit this file with sbatch}}"

DATA="${DATA:?set DATA to the root of the data set, on a file system that all machines share}"
LOGS="${LOGS:-$HOME/tmp}" # the run lives in $LOGS/EXP_NAME of the configuration
CONFIG="${CONFIG:-$here/configs/kitti_hrnet18_640x192.yaml}"
GPUS="${SLURM_GPUS_ON_NODE:-1}"
read -r first < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
port=$((20000 + SLURM_JOB_ID % 20000)) # another one for each job on a machine

# After a restart torchrun's processes would otherwise find what the dead ones left in its store.
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=110 # seconds for the step and its saving, instead of 30
srun --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" \
    torchrun --nnodes="$SLURM_JOB_NUM_NODES" --nproc_per_node="$GPUS" --max-restarts=3 \
    --rdzv_id="$SLURM_JOB_ID" --rdzv_backend=c10d --rdzv_endpoint="$first:$port" \
    "$here/train.py" --config "$CONFIG" \
    --data_path "$DATA" --log_dir "$LOGS" --resume "$@"
