#!/bin/bash
# What a container of the lab does:  lab ROLE | lab healthy ROLE | lab await SECONDS ROLE
# Roles: munge database slurmdbd slurmctld node powerctld plant.  A node's name is its host name.
# Each role waits by itself for what it needs: not every engine starts containers in order, or knows when one is ready.
set -euo pipefail

readonly lab=/lab wait_seconds=120

await() { # await SECONDS WHAT COMMAND...: poll until the command succeeds
    local deadline=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        if [ "$SECONDS" -ge "$deadline" ]; then
            echo "lab: gave up waiting for $what" >&2
            return 1
        fi
        sleep 0.2
    done
}

listens() { timeout 2 bash -c ": </dev/tcp/$1/$2"; }
# The same for this container's own ports, without a connection for the daemon to complain about.
listening() { awk -v port="$(printf ':%04X' "$1")" '$2 ~ port "$" && $4 == "0A" { found = 1 } END { exit !found }' /proc/net/tcp /proc/net/tcp6; }
configured() { [ -e $lab/etc/complete ]; }
port() { sed -n "s/^$1=//p" $lab/etc/ports; }
munge_answers() { timeout 5 munge --no-input --socket=$lab/munge/munge.sock; }
slurmctld_answers() { timeout 3 scontrol ping | grep -q ' UP'; }
all_resolve() { for name in "$@"; do getent hosts "$name" || return 1; done; }

munge_role() {
    # One munged for all, its socket in a shared volume.  It knows its callers by the kernel's word (SO_PEERCRED), which
    # tells user ids also across PID namespaces, as long as the containers share one user namespace, and they do.  So
    # the key never leaves this container, and no other needs a daemon more.
    local key=/var/lib/munge/lab.key
    [ -e "$key" ] || (umask 0277 && head -c 1024 /dev/urandom >"$key")
    configured || python3 -m containers.images.configure $lab
    mkdir -p /run/munge
    chmod 0711 $lab/munge
    chown munge:munge $lab/munge "$key" /var/lib/munge /run/munge
    # munged is strict about who may write to the folders of its files; as its own user it owns them all.
    exec setpriv --reuid=munge --regid=munge --init-groups munged --foreground --force --num-threads=2 \
        --socket=$lab/munge/munge.sock --key-file="$key" --pid-file=/run/munge/munged.pid \
        --seed-file=/var/lib/munge/munged.seed --log-file=/dev/stderr
}

database_role() {
    printf '%s\n' "create database if not exists slurm_acct_db;" \
        "create user if not exists slurm identified by 'lab';" \
        "grant all on slurm_acct_db.* to slurm;" >/run/lab-users.sql
    # The lab's records need not survive the machine.
    exec mariadbd --no-defaults --user=root --datadir=/var/lib/lab-database --socket=/run/lab-database.sock \
        --bind-address=0.0.0.0 --init-file=/run/lab-users.sql --skip-name-resolve \
        --innodb-log-file-size=4M --innodb-buffer-pool-size=64M --innodb-flush-log-at-trx-commit=0
}

slurmdbd_role() {
    await $wait_seconds "the configuration" configured
    await $wait_seconds munge munge_answers
    await $wait_seconds "the database" listens database 3306
    exec slurmdbd -D
}

slurmctld_role() {
    await $wait_seconds "the configuration" configured
    await $wait_seconds munge munge_answers
    await $wait_seconds slurmdbd listens slurmdbd "$(port slurmdbd)"
    # It looks up its nodes' addresses when it starts, and only then.
    await $wait_seconds "the names of the nodes" all_resolve c1 c2 c3 c4
    slurmctld -D &
    local daemon=$!
    trap 'kill "$daemon"' TERM INT
    await $wait_seconds slurmctld slurmctld_answers
    [ -e $lab/state/accounts ] || { sacctmgr --immediate --quiet <$lab/etc/accounts >/dev/null && touch $lab/state/accounts; }
    touch $lab/run/slurmctld.ready
    until ended "$daemon"; do wait "$daemon" || true; done
}

ended() { ! kill -0 "$1" 2>/dev/null; }

node_role() {
    local name powerd='' slurmd
    name=$(hostname)
    await $wait_seconds "the configuration" configured
    for gpu in 0 1 2 3 4 5 6 7; do # what a real node's driver makes
        [ -c "$lab/dev/nvidia$gpu" ] || { mkdir -p $lab/dev && mknod -m 0666 "$lab/dev/nvidia$gpu" c 1 3; }
    done
    mkdir -p "$lab/spool/$name" "$lab/state/powerd.$name"
    export PLANT_NVML_STATE=$lab/nvml/$name.state
    await $wait_seconds "the GPUs" test -e "$PLANT_NVML_STATE"
    await $wait_seconds munge munge_answers
    # A slurmd that starts without a controller waits for ever, and hears no signal.
    await $wait_seconds slurmctld slurmctld_answers
    slurmd -D -N "$name" &
    slurmd=$!
    trap 'kill "$slurmd" $powerd' TERM INT
    # As systemd would: a powerd that dies comes back; the node goes on without it meanwhile.
    until ended "$slurmd"; do
        if [ -z "$powerd" ] || ended "$powerd"; then
            powerd --config $lab/etc/node.toml --node "$name" &
            powerd=$!
        fi
        wait -n "$slurmd" "$powerd" || sleep 1
    done
    kill "$powerd" 2>/dev/null || true
    wait "$powerd" || true
}

powerctld_role() {
    await $wait_seconds "the configuration" configured
    await $wait_seconds munge munge_answers
    await $wait_seconds "the plant" test -e $lab/run/plant.ready
    await $wait_seconds slurmctld slurmctld_answers
    exec powerctld --config $lab/etc/site.toml
}

plant_role() {
    await $wait_seconds "the configuration" configured
    exec python3 -m containers.plant run $lab --bind 0.0.0.0 ${LAB_SCENARIO:+--scenario "$LAB_SCENARIO"}
}

healthy() {
    case $1 in
        munge) munge_answers ;;
        database) timeout 5 mariadb --no-defaults -uroot --socket=/run/lab-database.sock -e 'select 1' ;;
        slurmdbd) listening "$(port slurmdbd)" ;;
        slurmctld) [ -e $lab/run/slurmctld.ready ] && slurmctld_answers ;;
        node) listening "$(port slurmd)" && [ -S "$lab/run/powerd.$(hostname).sock" ] ;;
        powerctld) [ -S $lab/run/powerctld.sock ] && listening "$(port powerctld)" ;;
        plant) [ -e $lab/run/plant.ready ] ;;
        *) return 2 ;;
    esac >/dev/null 2>&1
}

case ${1:-} in
    munge | database | slurmdbd | slurmctld | node | powerctld | plant) "${1}_role" ;;
    healthy) healthy "${2:?role}" ;;
    await) await "${2:?seconds}" "${3:?role}" healthy "$3" ;;
    *)
        sed -n '2,3s/^# //p' "$0" >&2
        exit 2
        ;;
esac
