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
#
# The base is a tag, which AWS moves to newer patches. For an image that stays the same, name a digest:
#   docker buildx imagetools inspect public.ecr.aws/lambda/python:3.13      shows the present one
#   docker build --build-arg BASE=public.ecr.aws/lambda/python:3.13@sha256:... -t coordinator .
# None stands here, because none could be looked up and tried where this was written.
#
# Not 3.11 or older: their base is Amazon Linux 2, whose C library is older than NumPy's wheels take.
ARG BASE=public.ecr.aws/lambda/python:3.13

FROM ${BASE} AS build
WORKDIR /build
COPY docker/requirements.txt ./
# Wheels alone, each by its hash: nothing that was not looked at is run here.
RUN python3 -m pip install --no-cache-dir --disable-pip-version-check \
        --require-hashes --only-binary :all: --target /coordinator --requirement requirements.txt
COPY serverless_fl /coordinator/serverless_fl
COPY app /coordinator/app
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
