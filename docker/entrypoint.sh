#!/bin/sh
# One image serves every platform. Without arguments it takes the role ROLE (a build argument).
set -eu
HANDLER=app.entry.aws_lambda.handler
if [ -n "${AWS_LAMBDA_RUNTIME_API:-}" ]; then # on Lambda
    exec python3 -m awslambdaric "$HANDLER"
fi
[ $# -gt 0 ] || set -- "$ROLE"
case $1 in
    server) exec python3 -m app --host 0.0.0.0 --port 8000 ;;
    # Under the emulator in AWS's base image.
    lambda) exec /usr/local/bin/aws-lambda-rie python3 -m awslambdaric "$HANDLER" ;;
    openwhisk) exec python3 -m uvicorn app.entry.openwhisk:action --host 0.0.0.0 --port 8080 \
        --log-level warning --no-access-log ;;
    *) exec "$@" ;;
esac
