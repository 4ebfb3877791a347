#!/bin/sh
# One image, three ways to run it.
set -eu
HANDLER=app.entry.aws_lambda.handler
if [ -n "${AWS_LAMBDA_RUNTIME_API:-}" ]; then # on Lambda
    exec python3 -m awslambdaric "$HANDLER"
elif [ "${1:-}" = lambda ]; then # under the emulator that AWS's base image carries, on port 8080
    exec /usr/local/bin/aws-lambda-rie python3 -m awslambdaric "$HANDLER"
elif [ $# -gt 0 ]; then
    exec "$@"
fi
exec python3 -m uvicorn app.main:app --host 0.0.0.0 --port 8000
