# The image of a party's client as a function of AWS Lambda, which takes one turn an event:
#   docker build --file docker/client.Dockerfile --tag party .
# `sam build --template template-client.yaml` builds it. On arm64 pip installs PyTorch for the CPU. On
# x86_64 it installs the build for NVIDIA's GPUs, some gigabytes more, unless an index of PyTorch's own
# is given: --build-arg PIP_OPTIONS="--extra-index-url URL".
ARG BASE=public.ecr.aws/lambda/python:3.13

FROM ${BASE}
ARG PIP_OPTIONS=""
WORKDIR /party
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY serverless_fl serverless_fl
COPY client_sdk client_sdk
RUN python3 -m pip install --no-cache-dir --disable-pip-version-check --constraint constraints.txt \
        ${PIP_OPTIONS} ".[client,aws]" && rm -rf /party/*
# Lambda runs every image as its own user, and lets it write to /tmp alone.
ENV HOME=/tmp MPLCONFIGDIR=/tmp PYTHONUNBUFFERED=1
USER 10001:10001
ENTRYPOINT ["python3", "-m", "awslambdaric"]
CMD ["client_sdk.entry.function.handler"]
