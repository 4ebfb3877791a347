"""Fetches the secret that FL_SECRET_ID names, for a coordinator or a client that AWS runs."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

CONNECT_SECONDS, READ_SECONDS = 2.0, 3.0


def fetch_secret(secret_id: str) -> dict[str, str]:
    """Fetch a secret, a JSON object, from Secrets Manager; from SSM if the id starts with a slash.

    Raises RuntimeError, without the secret in its message, if AWS does not answer within seconds or
    if the secret is not a JSON object of strings.
    """
    # Imported here, because the import takes a tenth of a second of a cold start.
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    limits = Config(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        retries={"mode": "standard", "total_max_attempts": 2},
    )
    service = "ssm" if secret_id.startswith("/") else "secretsmanager"
    try:
        client = boto3.client(service, config=limits)
        if service == "ssm":
            text = client.get_parameter(Name=secret_id, WithDecryption=True)["Parameter"]["Value"]
        else:
            text = client.get_secret_value(SecretId=secret_id).get("SecretString")
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "no code")
        raise RuntimeError(
            f"The secret {secret_id!r} of FL_SECRET_ID cannot be read: {service} answers {code}."
        ) from None
    except BotoCoreError as error:
        raise RuntimeError(
            f"The secret {secret_id!r} of FL_SECRET_ID cannot be read: {service} does not answer "
            f"({type(error).__name__}). In a VPC the function needs an interface endpoint for "
            f"{service}, or a NAT gateway."
        ) from None
    secret: Any = None
    with suppress(ValueError):  # the error's own message would quote the secret
        secret = json.loads(text or "")
    if not isinstance(secret, dict) or not all(isinstance(v, str) for v in secret.values()):
        raise RuntimeError(f"The secret {secret_id!r} is not a JSON object of strings.")
    return secret
