#!/usr/bin/env bash
# A Slurm of two nodes, both of them this machine, beside that of slurm.sh: for tasks that start on several nodes.
# SLURM_CONF=$STATE/slurm-pair/slurm.conf leads to it.
source "$(dirname "$0")/lib.sh"
home=$STATE/slurm-pair
export SLURM_CONF=$home/slurm.conf

note() { # note NAME: a daemon that wrote its number itself is ours to stop
  local pid; pid=$(cat "$home/$1.pid")
  echo "$pid $(began "$pid")" >"$STATE/run/pair-$1.pid"
}

case ${1:-up} in
  up)
    need slurm-wlm munge
    munge -n >/dev/null 2>&1 || bash "$(dirname "$0")/slurm.sh" up # which brings munge up
    # Without the file sinfo would wait a minute for it.
    [ -e "$SLURM_CONF" ] && sinfo -h >/dev/null 2>&1 && exit 0
    host=$(hostname -s)
    mkdir -p "$home/state"
    cat >"$SLURM_CONF" <<K
# Written by tests/engines/slurm-pair.sh of mlcube.
ClusterName=pair
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=16817
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
StateSaveLocation=$home/state
SlurmdSpoolDir=$home/%n
SlurmctldPidFile=$home/slurmctld.pid
SlurmdPidFile=$home/%n.pid
SlurmctldLogFile=$home/slurmctld.log
SlurmdLogFile=$home/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=200
ReturnToService=2
SlurmdParameters=config_overrides
JobAcctGatherType=jobacct_gather/none
PropagateResourceLimits=NONE
AccountingStorageType=accounting_storage/none
MinJobAge=3600
NodeName=$host NodeHostname=$host NodeAddr=127.0.0.1 Port=16818 CPUs=4 RealMemory=2000 State=UNKNOWN
NodeName=$host-2 NodeHostname=$host NodeAddr=127.0.0.1 Port=16819 CPUs=4 RealMemory=2000 State=UNKNOWN
PartitionName=pair Nodes=$host,$host-2 Default=YES MaxTime=INFINITE State=UP
K
    setsid slurmctld -c </dev/null
    until_ok 20 scontrol show config # a node that finds no controller waits for long before it tries again
    setsid slurmd -N "$host" </dev/null; setsid slurmd -N "$host-2" </dev/null
    until_ok 60 sh -c "sinfo -h -o '%t %D' | grep -q 'idle 2'" || { sinfo -R; tail -n 20 "$home"/*.log; exit 1; } >&2
    for name in slurmctld "$host" "$host-2"; do note "$name"; done
    sinfo
    ;;
  down) stop "pair-$(hostname -s)" "pair-$(hostname -s)-2" pair-slurmctld ;;
esac
