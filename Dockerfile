# The image of the coordinator, without torch and without the client SDK.
#   docker build -t coordinator .
#   docker run -p 8000:8000 -e FL_ADMIN_KEY=... -v fl-data:/data coordinator        a server, on SQLite
#   docker run -p 8080:8080 -e FL_ADMIN_KEY=... -e MONGODB_URL=... coordinator lambda     the emulator
# `sam build` builds it for Lambda; with --build-arg ROLE=openwhisk it is an OpenWhisk Docker action.
#
# This file builds for any architecture: docker fetches the base and the wheels of the platform.
#   docker buildx build --platform linux/amd64 --provenance=false -t coordinator:amd64 --load .
#   docker buildx build --platform linux/arm64 --provenance=false -t coordinator:arm64 --load .
# A platform other than the machine's needs QEMU (docker run --privileged tonistiigi/binfmt --install all).
# Lambda takes plain manifests only, therefore no provenance. Elsewhere one name may hold both:
#   docker buildx build --platform linux/amd64,linux/arm64 -t YOU/coordinator --push .
#
# AWS moves the base's tag to newer patches. For an image that stays the same, name a digest:
#   docker buildx imagetools inspect public.ecr.aws/lambda/python:3.13      shows the present one
#   docker build --build-arg BASE=public.ecr.aws/lambda/python:3.13@sha256:... -t coordinator .
# This file names no digest, because we could not look one up and try it.
#
# Python 3.11 and older have the base Amazon Linux 2, whose C library is too old for NumPy's wheels.
ARG BASE=public.ecr.aws/lambda/python:3.13

FROM ${BASE} AS build
WORKDIR /build
COPY docker/requirements.txt ./
# Wheels only, each checked by its hash, so the build runs no package's code.
RUN python3 -m pip install --no-cache-dir --disable-pip-version-check \
        --require-hashes --only-binary :all: --target /coordinator --requirement requirements.txt
COPY serverless_fl /coordinator/serverless_fl
COPY app /coordinator/app
# Lambda's disk is read-only. Without these files every cold start would compile all modules again.
RUN python3 -m compileall -q -j 0 /coordinator

FROM ${BASE}
ARG ROLE=server
COPY --from=build /coordinator /coordinator
COPY docker/entrypoint.sh docker/healthcheck.py /
RUN mkdir -p /data && chown 10001:10001 /data
ENV PYTHONPATH=/coordinator PYTHONUNBUFFERED=1 FL_DATA_DIR=/data ROLE=${ROLE}
WORKDIR /coordinator
# Lambda runs every image as its own user. Elsewhere this user without rights runs it.
USER 10001:10001
EXPOSE 8000 8080
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s CMD ["python3", "/healthcheck.py"]
ENTRYPOINT ["/entrypoint.sh"]
