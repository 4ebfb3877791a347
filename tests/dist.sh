#!/usr/bin/env bash
# Installs dist/*.whl in new environments, with the newest versions that its extras allow, and lets an
# installed client train through an installed coordinator: `make dist-check`. Needs a network.
set -euo pipefail
wheel=$(realpath "$(dirname "$0")"/../dist/*.whl)
work=$(mktemp -d)
job=
finish() {
    [ -z "$job" ] || kill "$job" 2>/dev/null || true
    rm -rf "$work"
}
trap finish EXIT
cd "$work"
echo 'raise SystemExit("the wrong app")' >app.py # a user's own, beside the commands
export FL_ADMIN_KEY=a-key-for-the-dist-check

install() { # PYTHON FOLDER EXTRAS
    "$1" -m venv "$2"
    "$2/bin/python" -m pip install --quiet --disable-pip-version-check "$wheel[$3]"
}
lacks() { # FOLDER MODULE
    ! "$1/bin/python" -P -c "import $2" 2>/dev/null || { echo "$1 has $2"; exit 1; }
}
check() { # PYTHON
    local started=$SECONDS
    rm -rf server client data runs
    install "$1" server server
    lacks server torch
    install "$1" client client,completion
    lacks client fastapi
    echo "$("$1" --version): installed in $((SECONDS - started)) s;" \
        "server $(du -sm server | cut -f1) MB, client $(du -sm client | cut -f1) MB"
    FL_DATA_DIR=data server/bin/serverless-fl-coordinator --port 0 >log 2>&1 &
    job=$!
    until grep --quiet "^Listening on" log; do
        kill -0 "$job" || { cat log; exit 1; }
        sleep 0.1
    done
    local url
    url=$(sed -n 's/^Listening on //p' log)
    until client/bin/python -P -c "import httpx; httpx.get('$url/health').raise_for_status()" \
        2>/dev/null; do sleep 0.1; done
    client/bin/serverless-fl --version
    client/bin/serverless-fl completion bash | grep --quiet complete
    client/bin/serverless-fl --server "$url" --dataset digits --clients 3 --clients-per-round 2 \
        --rounds 1 --local-epochs 1 --workers 1 --out runs/one | tail -n 1
    kill "$job"
    wait "$job" || true  # its code says that a signal ended it
    job=
}

found=
for version in 3.11 3.12 3.13; do
    if "python$version" -c '' 2>/dev/null; then
        check "python$version"
        found="$found $version"
    else
        echo "python$version: not on this machine"
    fi
done
[ -n "$found" ] || { echo "no Python from 3.11 to 3.13 is here"; exit 1; }
echo "checked:$found"
