#!/bin/bash
# Install the Debian packages one or more groups need, and only those that are missing:
#   install-packages.sh GROUP...      GROUP: build cluster accounting snmp stores gateway browser engine versions
# No service is started by the installation: the lab runs its own daemons in its own directory.
set -euo pipefail

policy=/usr/sbin/policy-rc.d

packages_of() {
    case $1 in
        build) echo gcc libc6-dev make libslurm-dev lua5.1 shellcheck systemd ;;
        cluster) echo slurmctld slurmd slurm-client slurm-wlm-basic-plugins munge openssl ;;
        accounting) echo slurmdbd mariadb-server ;;
        snmp) echo snmp ;;
        stores) echo victoria-metrics postgresql ;;
        gateway) echo haproxy ;;
        browser) echo chromium chromium-driver ;;
        engine) echo docker.io docker-compose debootstrap iproute2 iptables ;;
        versions) echo debootstrap ;;
        *)
            echo "install-packages.sh: unknown group '$1'; groups: build cluster accounting snmp stores gateway browser engine versions" >&2
            return 2
            ;;
    esac
}

installed() {
    [ "$(dpkg-query --show --showformat='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

known_to_apt() {
    apt-cache show --no-all-versions "$@" >/dev/null 2>&1
}

forbid_services() {
    [ ! -e "$policy" ] || return 0 # the administrator's own rule stays
    trap 'rm -f "$policy"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 0755 "$policy"
}

main() {
    local group package names wanted=() missing=()
    [ $# -gt 0 ] || {
        sed -n '2,4s/^# //p' "$0" >&2
        exit 2
    }
    for group in "$@"; do
        names=$(packages_of "$group")
        read -ra names <<<"$names"
        wanted+=("${names[@]}")
    done

    if ! { command -v dpkg-query && command -v apt-get; } >/dev/null; then
        echo "install-packages.sh: this is no Debian system; install the equivalent of: ${wanted[*]}" >&2
        exit 1
    fi
    for package in "${wanted[@]}"; do
        installed "$package" || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || exit 0

    local line="apt-get install -y --no-install-recommends ${missing[*]}"
    if [ "$(id -u)" -ne 0 ]; then
        echo "install-packages.sh: only root may install packages; run: $line" >&2
        exit 1
    fi
    echo "installing ${missing[*]}" >&2
    export DEBIAN_FRONTEND=noninteractive
    known_to_apt "${missing[@]}" || apt-get update -q >&2
    forbid_services
    $line >&2 || { # package lists may be older than what the mirror still holds
        apt-get update -q >&2
        $line >&2
    }
}

main "$@"
