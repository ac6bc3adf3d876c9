#!/bin/bash
# Build the lab's images:  build.sh [TARGET...]    (default: all)
#   DOCKER          the engine's client: docker (default) or podman
#   BASE_IMAGE      a Debian 12; default as in the Containerfile
#   BUILD_NETWORK   handed to --network, e.g. host for an engine that has no bridge while it builds
#   PIP_CERT, SSL_CERT_FILE            what pip must trust (default: what this host does); goes into no published layer
#   PIP_INDEX_URL, PIP_EXTRA_INDEX_URL from here or from pip's own settings, if they are web addresses
set -euo pipefail

here=$(dirname "$(realpath "$0")")
checkout=$(realpath "$here/../..")
docker=${DOCKER:-docker}
targets=("$@")
[ $# -gt 0 ] || targets=(slurm node controller plant database)

# A setting of pip that means something inside a build too.
web_address() {
    local value=${!1:-}
    [ -n "$value" ] || value=$(pip config get "global.$2" 2>/dev/null) || true
    [[ $value =~ ^https?:// && $value != *file:* ]] && echo "$value"
}

context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
tar -C "$checkout" -c --exclude=__pycache__ --exclude='*.so' --exclude='*.so.1' --exclude='*.o' \
    pyproject.toml LICENSE slurm_power spank prolog_epilog batch_templates containers | tar -C "$context" -x
# The package's metadata wants a readme; a fixed one, so that a better text does not rebuild an image.
echo "slurm-power, see its repository." >"$context/README.md"
mkdir "$context/ca"
: >"$context/ca/bundle.pem"
bundle=${PIP_CERT:-${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}}
[ ! -e "$bundle" ] || cp "$bundle" "$context/ca/bundle.pem"

options=()
[ -z "${BASE_IMAGE:-}" ] || options+=(--build-arg "BASE_IMAGE=$BASE_IMAGE")
[ -z "${BUILD_NETWORK:-}" ] || options+=(--network "$BUILD_NETWORK")
for name in http_proxy https_proxy no_proxy; do
    [ -z "${!name:-}" ] || options+=(--build-arg "$name=${!name}")
done
if url=$(web_address PIP_INDEX_URL index-url); then options+=(--build-arg "PIP_INDEX_URL=$url"); fi
if url=$(web_address PIP_EXTRA_INDEX_URL extra-index-url); then options+=(--build-arg "PIP_EXTRA_INDEX_URL=$url"); fi

for target in "${targets[@]}"; do
    echo "building $target"
    DOCKER_BUILDKIT=1 "$docker" build -q "${options[@]}" -f "$context/containers/images/Containerfile" \
        --target "$target" -t "localhost/slurm-power/$target:lab" "$context"
done
