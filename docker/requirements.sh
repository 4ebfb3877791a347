#!/bin/sh
# Writes docker/requirements.txt from pyproject.toml and constraints.txt. Run it after changing either.
set -eu
cd "$(dirname "$0")/.."
{
    echo "# The image's packages with the hash of each file, for every architecture; docker/requirements.sh writes this"
    uv pip compile pyproject.toml --extra server --extra aws --extra oidc --constraint constraints.txt \
        --generate-hashes --universal --python-version 3.11 --no-header --no-annotate --quiet
} > docker/requirements.new
mv docker/requirements.new docker/requirements.txt
