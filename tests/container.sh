#!/usr/bin/env bash
# Builds the Dockerfile and runs the image in its three ways: `make container-test`. Needs root, and of
# Debian's packages buildah and mmdebstrap. The base is a Debian made here in place of Amazon's image: this
# proves the steps and the entry, not Amazon's base.
set -euo pipefail
cd "$(dirname "$0")/.."
for tool in buildah mmdebstrap; do
    command -v "$tool" >/dev/null || { echo "skipped: $tool is not installed"; exit 0; }
done
PYTHON=${PYTHON:-.venv/bin/python}
BASE=localhost/fl/python-base
work=$(mktemp -d)
container= job=
# buildah's end does not end what it runs; the end of a process namespace does.
start() {
    unshare --fork --pid --kill-child --mount-proc \
        buildah run --isolation chroot "$@" >"$work/log" 2>&1 &
    job=$!
}
stop() {
    [ -z "$job" ] || { kill -KILL "$job" || true; wait "$job" || true; job=; } 2>/dev/null
}
finish() {
    stop
    [ -z "$container" ] || buildah rm "$container" >/dev/null
    kill $(jobs -p) 2>/dev/null || true
    rm -rf "$work"
}
trap finish EXIT

if ! buildah inspect --type image "$BASE" >/dev/null 2>&1; then
    mmdebstrap --quiet --variant=minbase --include=python3,python3-pip,ca-certificates \
        bookworm "$work/base.tar"
    emulator=$("$PYTHON" -c 'from examples.lambda_local import emulator_path; print(emulator_path())')
    base=$(buildah from scratch)
    buildah add --quiet "$base" "$work/base.tar" / >/dev/null
    buildah copy --quiet --chmod 755 "$base" "$emulator" /usr/local/bin/aws-lambda-rie >/dev/null
    buildah commit --quiet "$base" "$BASE" >/dev/null
    buildah rm "$base" >/dev/null
fi
buildah bud --quiet --isolation chroot --build-arg "BASE=$BASE" \
    --volume /etc/ssl/certs:/etc/ssl/certs:ro --tag fl/coordinator . >/dev/null
container=$(buildah from fl/coordinator)
size() { buildah inspect --type image --format '{{.Manifest}}' "$1" | "$PYTHON" -c '
import json, sys
print(sum(layer["size"] for layer in json.load(sys.stdin)["layers"]) // 10**6)'; }
echo "image: $(size fl/coordinator) MB, of which the base takes $(size "$BASE") MB"

# Patient: the emulator does not bear a second call while a first one starts the runtime.
until_up() {
    for _ in $(seq 300); do
        curl --silent --fail --max-time 60 --output /dev/null "$@" && return 0
        sleep 0.1
    done
    echo "no answer: $*"; cat "$work/log"; return 1
}
in_image() { buildah run --isolation chroot "$container" -- "$@"; }
[ "$(in_image id -u)" = 10001 ] || { echo "runs as root"; exit 1; }
in_image python3 -c 'import app.main, importlib.util as u
assert u.find_spec("torch") is None and u.find_spec("client_sdk") is None'
echo "not root; no torch, no client SDK"

start --env FL_ADMIN_KEY=a-key-for-the-container "$container" -- /entrypoint.sh
until_up http://127.0.0.1:8000/v1/experiments
in_image python3 -c 'import urllib.request as u
assert u.urlopen("http://127.0.0.1:8000/ready", timeout=4).status == 200'
echo "server on 8000: answers and is ready, with SQLite in /data"
stop

start "$container" -- /entrypoint.sh openwhisk
until_up --request POST --data '{"value": {}}' http://127.0.0.1:8080/init
curl --silent --data '{"value": {"__ow_method": "get", "__ow_path": "/health", "__ow_query": ""}}' \
    http://127.0.0.1:8080/run | grep --quiet "bind MONGODB_URL and FL_ADMIN_KEY"
echo "OpenWhisk action on 8080: answers, and says what to bind"
stop

"$PYTHON" -c '
from examples.containers import LocalMongo
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
with LocalMongo() as mongo:
    print(mongo.url, flush=True)
    sys.stdin.read()' > "$work/mongo" < <(sleep 120) &
until [ -s "$work/mongo" ]; do sleep 0.1; done
start --env FL_ADMIN_KEY=a-key-for-the-container --env MONGODB_URL="$(cat "$work/mongo")" \
    "$container" -- /entrypoint.sh lambda
event='{"version":"2.0","rawPath":"/health","rawQueryString":"","headers":{},"isBase64Encoded":false,
  "requestContext":{"http":{"method":"GET","path":"/health","sourceIp":"192.0.2.1"},"stage":"$default"}}'
until_up --data "$event" http://127.0.0.1:8080/2015-03-31/functions/function/invocations
curl --silent --data "$event" http://127.0.0.1:8080/2015-03-31/functions/function/invocations
echo
echo "Lambda emulator on 8080: answers"
