#!/bin/bash
# A private container engine where none runs:
#   engine.sh up DIR [build|run]   start it, if need be in place of the other kind; prints what `env` prints
#   engine.sh env DIR              the lines that point a shell at it
#   engine.sh base DIR             make sure it holds localhost/debian:bookworm-slim
#   engine.sh down DIR             end it; images stay in DIR for the next time
#   engine.sh check DIR            list what is left of it but files; status 1 if there is anything
#   engine.sh clean DIR            down, and remove DIR
#
# The daemon and everything it starts live in PID and mount namespaces of their own, which the kernel takes down when
# their first process ends, however it ends: no process, mount or interface can outlive it.  It comes in two kinds:
#   build  shares the host's network, so that builds reach what the host reaches, and configures none of it
#   run    has a network namespace of its own: bridges and names work, and nothing leaves the machine
# Needs root and Debian's docker.io, docker-compose, debootstrap, iproute2, iptables (install-packages.sh engine).
set -euo pipefail

readonly base_image=localhost/debian:bookworm-slim
readonly release=bookworm
readonly start_seconds=30 stop_seconds=20
readonly base_days=30

fail() {
    echo "engine.sh: $*" >&2
    exit 1
}

# Debian's client and daemon belong together; another client earlier in PATH may want a newer daemon.
debian_program() {
    if [ -x "/usr/bin/$1" ]; then echo "/usr/bin/$1"; elif [ -x "/usr/sbin/$1" ]; then echo "/usr/sbin/$1"; else return 1; fi
}

client() {
    DOCKER_HOST="unix://$dir/docker.sock" timeout 60 "$docker" "$@"
}

# The first process of the namespaces, as the host numbers it; nothing when there is none.  Found by its command line,
# so that an engine whose starter was killed is found too.
daemon_pid() {
    local file
    for file in /proc/[0-9]*/cmdline; do
        grep -qzxF -- "$dir/data" "$file" 2>/dev/null || continue
        if { awk '/^NSpid:/ { first = NF == 3 && $3 == 1 } END { exit !first }' "${file%/*}/status"; } 2>/dev/null; then
            file=${file%/*}
            echo "${file##*/}"
            return
        fi
    done
}

await_end() {
    local deadline=$((SECONDS + $2))
    # A zombie has ended: whoever started it may never ask.
    while [ -d "/proc/$1" ] && ! grep -q '^State:.Z' "/proc/$1/status" 2>/dev/null; do
        [ "$SECONDS" -lt "$deadline" ] || return 1
        sleep 0.1
    done
}

stop_daemon() {
    local pid
    pid=$(daemon_pid)
    if [ -n "$pid" ]; then
        kill "$pid" 2>/dev/null || true
        await_end "$pid" "$stop_seconds" || {
            kill -KILL "$pid" # all its children go with it
            await_end "$pid" "$stop_seconds" || fail "process $pid does not end"
        }
    fi
    rm -f "$dir/docker.sock" "$dir/docker.pid" "$dir/kind"
    rm -rf "$dir/exec"
    remove_cgroups
}

# A daemon that was killed leaves its containers' empty control groups.
remove_cgroups() {
    find /sys/fs/cgroup -depth -type d -path "*/$(cgroup_name)*" -exec rmdir {} + 2>/dev/null || true
}

cgroup_name() {
    echo "slurm-power-$(printf '%s' "$dir" | cksum | cut -d' ' -f1)"
}

start_daemon() {
    local kind=$1 prefix options deadline
    prefix=(setsid unshare --fork --pid --mount --mount-proc --kill-child)
    options=(
        --data-root "$dir/data" --exec-root "$dir/exec" --pidfile "$dir/docker.pid" -H "unix://$dir/docker.sock"
        --storage-driver overlay2 --cgroup-parent "/$(cgroup_name)" --log-driver json-file
    )
    if [ "$kind" = build ]; then
        options+=(--bridge=none --iptables=false --ip-forward=false)
    else
        prefix+=(--net)
        options+=(--bip 10.89.90.1/24 --default-address-pool "base=10.89.96.0/20,size=24")
    fi
    rm -f "$dir/docker.pid" "$dir/docker.sock"
    # shellcheck disable=SC2016  # the inner shell expands them
    "${prefix[@]}" sh -c 'ip link set lo up; exec "$@"' sh "$dockerd" "${options[@]}" >>"$dir/dockerd.log" 2>&1 </dev/null 9>&- &
    local outer=$!
    # shellcheck disable=SC2064  # the number as it is now
    trap "kill -KILL $outer 2>/dev/null; exit 130" INT TERM HUP
    deadline=$((SECONDS + start_seconds))
    until client info >/dev/null 2>&1; do
        if [ "$SECONDS" -ge "$deadline" ] || ! kill -0 "$outer" 2>/dev/null; then
            kill -KILL "$outer" 2>/dev/null || true
            tail -n 5 "$dir/dockerd.log" >&2
            fail "the engine did not start, see $dir/dockerd.log"
        fi
        sleep 0.1
    done
    echo "$kind" >"$dir/kind"
    trap - INT TERM HUP
}

up() {
    local kind=${1:-run}
    [[ $kind == build || $kind == run ]] || fail "up: the kinds are build and run, not '$kind'"
    if [ -n "$(daemon_pid)" ] && [ "$(cat "$dir/kind" 2>/dev/null)" = "$kind" ] && client info >/dev/null 2>&1; then
        return
    fi
    stop_daemon
    start_daemon "$kind"
}

check() {
    local left
    left=$(
        for file in /proc/[0-9]*/cmdline; do
            grep -qzF -- "$dir/" "$file" 2>/dev/null || continue
            # The engine's own kinds of process; an editor may well have a file of DIR open.
            { tr '\0' ' ' <"$file" | grep -E '^(\S*/)?(unshare|dockerd|docker-proxy|containerd\S*|runc) ' |
                sed "s/^/process $(basename "${file%/cmdline}"): /"; } 2>/dev/null
        done
        grep -hF -- " $dir/" /proc/[0-9]*/mountinfo 2>/dev/null | awk '{ print "mount: " $5 }' | sort -u
        ip -o link 2>/dev/null | awk -F': ' '$2 ~ /^(docker|br-|veth)/ { print "interface: " $2 }'
        find /sys/fs/cgroup -type d -path "*/$(cgroup_name)" 2>/dev/null | sed 's/^/control group: /'
    ) || true
    [ -z "$left" ] || {
        echo "$left"
        return 1
    }
}

print_env() {
    [ -n "$(daemon_pid)" ] || fail "no engine runs in $dir"
    echo "export DOCKER_HOST=unix://$dir/docker.sock"
    echo "export DOCKER=$docker"
}

# The host's own package mirror, whatever format its list of sources has.
mirror() {
    # shellcheck disable=SC2016  # apt-get expands them
    apt-get indextargets --format '$(RELEASE) $(SITE)' 'Created-By: Packages' |
        awk -v release=$release '$1 == release { print $2; exit }'
}

base() {
    client image inspect "$base_image" >/dev/null 2>&1 && return
    local cache=${SLURM_POWER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/slurm-power} archive
    archive=$cache/debian-$release-$(dpkg --print-architecture).tar
    mkdir -p "$cache"
    [ -n "$(find "$archive" -mtime "-$base_days" 2>/dev/null)" ] || make_base "$archive"
    client import "$archive" "$base_image" >/dev/null
}

# In a mount namespace of its own, so that an interrupted debootstrap leaves no mount behind.
make_base() {
    local archive=$1 work
    work=$(mktemp -d "$dir/base.XXXXXX")
    echo "making the base image from the host's package mirror" >&2
    # shellcheck disable=SC2016  # the inner shell expands them
    unshare --mount --pid --fork --kill-child -- sh -euc '
        debootstrap --variant=minbase "$1" "$2/root" "$3" >"$2/log" 2>&1 || { tail -n 5 "$2/log" >&2; exit 1; }
        # What goes into an image is thrown away on a crash: no sync after each file, and no manuals.
        printf "%s\n" force-unsafe-io "path-exclude /usr/share/man/*" "path-exclude /usr/share/locale/*" \
            "path-exclude /usr/share/doc/*" "path-include /usr/share/doc/*/copyright" \
            >"$2/root/etc/dpkg/dpkg.cfg.d/images"
        tar -C "$2/root" -c --exclude=./usr/share/man/* --exclude=./usr/share/locale/* --exclude=./var/cache/apt/* \
            --exclude=./var/lib/apt/lists/* --exclude=./proc/* --exclude=./sys/* --exclude=./dev/* . >"$2/base.tar"
    ' sh "$release" "$work" "$(mirror)" || {
        rm -rf "$work"
        fail "debootstrap failed"
    }
    mv "$work/base.tar" "$archive.new.$$"
    mv "$archive.new.$$" "$archive"
    rm -rf "$work"
}

main() {
    [ $# -ge 2 ] || {
        sed -n '2,8s/^# \{0,1\}//p' "$0" >&2
        exit 2
    }
    local verb=$1
    [ "$(id -u)" -eq 0 ] || fail "only root may run an engine"
    dir=$(realpath -m -- "$2")
    [ ${#dir} -lt 90 ] || fail "$dir: too long for the engine's sockets"
    shift 2
    docker=$(debian_program docker) || fail "Debian's docker.io is not installed"
    dockerd=$(debian_program dockerd) || fail "Debian's docker.io is not installed"
    if [[ $verb == down || $verb == clean ]] && [ ! -d "$dir" ]; then exit 0; fi
    mkdir -p "$dir"
    [ -O "$dir" ] || fail "$dir belongs to somebody else"
    chmod 0700 "$dir"
    exec 9>"$dir/lock" # one verb at a time
    flock 9
    case $verb in
        up)
            up "$@"
            print_env
            ;;
        env) print_env ;;
        base) base ;;
        check) check ;;
        down) stop_daemon ;;
        clean)
            stop_daemon
            rm -rf "$dir"
            ;;
        *) fail "no verb '$verb'" ;;
    esac
}

main "$@"
