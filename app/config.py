"""Settings, from the environment. No other file reads it."""

from __future__ import annotations

from pathlib import Path

from pydantic import AliasChoices, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """What an operator may set; each name in the environment carries the prefix `FL_`."""

    model_config = SettingsConfigDict(
        env_prefix="FL_", populate_by_name=True, extra="ignore", hide_input_in_errors=True
    )

    data_dir: Path = Field(Path("fl-data"), description="Where the embedded database lies")
    mongodb_url: SecretStr | None = Field(
        None,
        validation_alias=AliasChoices("MONGODB_URL", "FL_MONGODB_URL"),
        description="Use MongoDB instead; the driver's own connection string",
    )
    mongodb_database: str = "federated_learning"
    admin_key: SecretStr | None = Field(
        None,
        min_length=16,
        description="Creates and stops experiments. Without one the coordinator makes one, prints "
        "it, and answers callers on this machine only",
    )
    secret_id: str | None = Field(
        None,
        description="On AWS: the secret (or, with a leading slash, the SSM parameter) whose JSON "
        "holds MONGODB_URL and FL_ADMIN_KEY",
    )
    part_bytes: int = Field(8 * 1024**2, ge=64 * 1024, le=8 * 1024**2)
    max_model_bytes: int = Field(1024**3, ge=1024)
    answer_bytes: int | None = Field(
        None,
        ge=64 * 1024,
        description="The most bytes of a model in one answer, where the platform has such a limit",
    )
    lease_seconds: float = Field(30.0, gt=0)
    poll_min_seconds: float = Field(0.2, gt=0)
    poll_max_seconds: float = Field(15.0, gt=0)
