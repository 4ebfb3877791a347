#!/bin/sh
# Writes docker/requirements.txt anew, from pyproject.toml and constraints.txt: after either has changed.
set -eu
cd "$(dirname "$0")/.."
{
    echo "# What the image installs, each file by its hash, for every architecture: docker/requirements.sh made it"
    uv pip compile pyproject.toml --extra server --extra aws --constraint constraints.txt \
        --generate-hashes --universal --python-version 3.11 --no-header --no-annotate --quiet
} > docker/requirements.new
mv docker/requirements.new docker/requirements.txt
