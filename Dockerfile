# The coordinator alone: no torch, no client SDK.
#   docker build -t coordinator .
#   docker run -p 8000:8000 -e FL_ADMIN_KEY=... -v fl-data:/data coordinator        a server, on SQLite
#   docker run -p 8080:8080 -e FL_ADMIN_KEY=... -e MONGODB_URL=... coordinator lambda     the emulator
# `sam build` builds it for Lambda; with --build-arg ROLE=openwhisk it is an OpenWhisk Docker action.
#
# Nothing here knows the architecture: wheels and base come for the platform that is asked for.
#   docker buildx build --platform linux/amd64 --provenance=false -t coordinator:amd64 --load .
#   docker buildx build --platform linux/arm64 --provenance=false -t coordinator:arm64 --load .
# Another one than the machine's needs QEMU (docker run --privileged tonistiigi/binfmt --install all).
# Lambda takes plain manifests only, therefore no provenance; elsewhere both may go under one name:
#   docker buildx build --platform linux/amd64,linux/arm64 -t YOU/coordinator --push .
ARG BASE=public.ecr.aws/lambda/python:3.11

FROM ${BASE} AS build
WORKDIR /build
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY app ./app
RUN python3 -m pip install --no-cache-dir --disable-pip-version-check \
        --constraint constraints.txt --target /coordinator '.[server,aws]'
# Lambda's disk is read-only: without these files every cold start would compile everything again.
RUN python3 -m compileall -q -j 0 /coordinator

FROM ${BASE}
ARG ROLE=server
COPY --from=build /coordinator /coordinator
COPY docker/entrypoint.sh docker/healthcheck.py /
RUN mkdir -p /data && chown 10001:10001 /data
ENV PYTHONPATH=/coordinator PYTHONUNBUFFERED=1 FL_DATA_DIR=/data ROLE=${ROLE}
WORKDIR /coordinator
# Lambda runs every image as a user of its own; elsewhere this one has no rights to anything.
USER 10001:10001
EXPOSE 8000 8080
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s CMD ["python3", "/healthcheck.py"]
ENTRYPOINT ["/entrypoint.sh"]
