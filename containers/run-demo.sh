#!/bin/bash
# The demo in containers, from nothing to nothing:  run-demo.sh [--no-control] [DEMO OPTIONS]
# Brings an engine up where none is asked for, builds the images, starts the lab, plays the demo, takes all of it down
# again on any way out, and checks that nothing is left.  Exit status: the demo's; 1 if the lab does not come up or
# something is left.
#   ENGINE       private (default): an engine of our own, for root | docker | podman: the one that runs here
#   ENGINE_DIR   the private engine's folder; its images stay there for the next time
#   DEMO_RUNNER  the demo's command (default: python -m containers.images.demo of the checkout's .venv)
set -euo pipefail

here=$(dirname "$(realpath "$0")")
checkout=$(dirname "$here")
engine=${ENGINE:-private}
engine_dir=${ENGINE_DIR:-${TMPDIR:-/tmp}/slurm-power-engine}
project=slurm-power-lab
services=(munge database slurmdbd slurmctld c1 c2 c3 c4 plant powerctld)
readonly ready_seconds=90 healthy_seconds=30

say() { echo "== $*"; }

private_engine() { "$here/engine/engine.sh" "$1" "$engine_dir" "${@:2}" 8>&-; }

choose_engine() {
    case $engine in
        private)
            docker=/usr/bin/docker compose=(/usr/bin/docker-compose)
            private_engine up build >/dev/null
            private_engine base
            export DOCKER_HOST=unix://$engine_dir/docker.sock
            export BASE_IMAGE=localhost/debian:bookworm-slim BUILD_NETWORK=host
            ;;
        docker)
            docker=docker compose=(docker-compose)
            if docker compose version >/dev/null 2>&1; then compose=(docker compose); fi
            ;;
        podman) docker=podman compose=(podman-compose) ;;
        *)
            echo "run-demo.sh: ENGINE is private, docker or podman, not '$engine'" >&2
            exit 2
            ;;
    esac
    export DOCKER=$docker
}

in_compose() { "${compose[@]}" -p "$project" -f "$here/images/compose.yaml" "$@"; }

container() {
    "$docker" ps -q --filter "label=com.docker.compose.project=$project" \
        --filter "label=com.docker.compose.service=$1" | head -n 1
}

# Each service says by itself that it is ready: not every engine runs the health checks.
await_services() {
    local service role id
    for service in "${services[@]}"; do
        role=$service
        [[ $service != c[0-9] ]] || role=node
        id=$(container "$service")
        if [ -z "$id" ] || ! "$docker" exec "$id" lab await "$ready_seconds" "$role"; then
            say "$service is not ready"
            in_compose logs --tail 20 "$service" || true
            return 1
        fi
        say "$service is ready after $SECONDS s"
    done
}

await_health() {
    [ "$engine" != podman ] || return 0
    local deadline=$((SECONDS + healthy_seconds))
    while "$docker" ps --filter "label=com.docker.compose.project=$project" --format '{{.Status}}' | grep -q starting; do
        [ "$SECONDS" -lt "$deadline" ] || return 0 # the list shows it
        sleep 0.5
    done
}

await_idle_nodes() {
    local deadline=$((SECONDS + ready_seconds)) id
    id=$(container powerctld)
    until [ "$("$docker" exec "$id" timeout 5 sinfo -h -N -t idle -o %N 2>/dev/null | wc -l)" -eq 4 ]; do
        [ "$SECONDS" -lt "$deadline" ] || {
            say "the nodes are not idle"
            "$docker" exec "$id" timeout 5 scontrol -o show node || true
            return 1
        }
        sleep 0.5
    done
}

leftovers() {
    if [ "$engine" = private ]; then
        private_engine check
    else
        local left
        left=$(for kind in ps network volume; do
            words=("$kind" ls)
            [ $kind != ps ] || words=(ps -a)
            "$docker" "${words[@]}" -q --filter "label=com.docker.compose.project=$project" | sed "s/^/$kind: /"
        done)
        [ -z "$left" ] || {
            echo "$left"
            return 1
        }
    fi
}

teardown() {
    local status=$?
    trap '' INT TERM HUP
    trap - EXIT
    set +e
    if [ -n "${lab_started:-}" ]; then
        say "taking the lab down"
        in_compose down -v
    fi
    [ "$engine" != private ] || private_engine down
    if leftovers; then
        say "nothing is left: no process, container, network, mount or interface"
    else
        say "this is left of the lab"
        [ "$status" -ne 0 ] || status=1
    fi
    say "$SECONDS s in all, status $status"
    exit "$status"
}

main() {
    local word id runner left
    export LAB_CONTROL=true LAB_GRID_LIMIT_WATTS
    local demo_options=()
    for word in "$@"; do
        if [ "$word" = --no-control ]; then LAB_CONTROL=false; else demo_options+=("$word"); fi
    done
    if [ "$engine" = private ]; then
        engine_dir=$(realpath -m -- "$engine_dir")
        left=$(private_engine check) || true # makes the folder, too
        exec 8>"$engine_dir/demo.lock"
        flock -n 8 || {
            echo "run-demo.sh: another demo uses $engine_dir; set ENGINE_DIR to another folder" >&2
            exit 1
        }
        [ -z "$left" ] || say "an earlier run has left an engine, which ends now"
    fi
    trap teardown EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    choose_engine
    say "the engine is up after $SECONDS s"
    "$here/images/build.sh"
    [ "$engine" != private ] || private_engine up run >/dev/null
    say "the images are built after $SECONDS s"
    LAB_GRID_LIMIT_WATTS=$(cd "$checkout" && .venv/bin/python -c 'from containers.demo.story import *; print(GRID_LIMIT_WATTS)')
    export LAB_SCENARIO=/opt/test-bed/containers/demo/scenario.toml
    lab_started=yes
    in_compose up -d
    await_services
    await_idle_nodes
    await_health
    in_compose ps
    say "the lab is up after $SECONDS s"
    id=$(container powerctld)
    runner=("$checkout/.venv/bin/python" -m containers.images.demo --engine "$docker" --container "$id")
    [ -z "${DEMO_RUNNER:-}" ] || read -ra runner <<<"$DEMO_RUNNER"
    PYTHONPATH=$checkout LAB_CONTAINER=$id "${runner[@]}" "${demo_options[@]}"
}

main "$@"
