"""What the application logs."""

import io
import json
import logging

import pytest

from app.telemetry import logs


@pytest.fixture
def lines(monkeypatch):
    """What the application logs, as the JSON lines that a collector gets."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logs.JsonFormatter())
    logger = logging.getLogger("app")
    monkeypatch.setattr(logger, "level", logging.DEBUG)
    logger.manager._clear_cache()
    logger.addHandler(handler)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    logger.removeHandler(handler)
    logger.manager._clear_cache()
