"""A choice: a setting whose value is one of several alternatives with settings of their own.

A choice travels as the name of the alternative where all settings of it are at their defaults, else
as an object: `"fedavg"`, `{"name": "fedadam", "server_learning_rate": 0.1}`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from serverless_fl.alternatives import NAME, Alternative, name_of, suggestion
from serverless_fl.wire.bounds import require_few


class OneOf:
    """An annotation: the value is one of these alternatives, told apart by the field `name`."""

    def __init__(self, alternatives: Sequence[type[Alternative]]) -> None:
        self._models = {name_of(alternative): alternative for alternative in alternatives}
        self._rule = f"must be one of {', '.join(self._models)}, or an object with such a `{NAME}`"

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        # Without the alternatives' own schemas: most are never chosen, and `_read` gives a model.
        return core_schema.no_info_plain_validator_function(
            self._read, serialization=core_schema.plain_serializer_function_ser_schema(plain)
        )

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        for model in self._models.values():
            model.model_rebuild()
        models = {name: model.__pydantic_core_schema__ for name, model in self._models.items()}
        objects = handler(core_schema.tagged_union_schema(models, NAME))
        for reference in objects["oneOf"]:
            handler.resolve_ref_schema(reference)["required"] = [NAME]
        return {"anyOf": [{"type": "string", "enum": list(self._models)}, objects]}

    def _read(self, value: Any) -> Any:
        """Make the model, so that the places in its errors do not name the alternative."""
        if isinstance(value, tuple(self._models.values())):
            return value
        given = {NAME: value} if isinstance(value, str) else require_few(value)
        name = given.get(NAME) if isinstance(given, dict) else None
        if not isinstance(name, str) or name not in self._models:
            hint = suggestion(name[:100], self._models) if isinstance(name, str) else ""
            raise PydanticCustomError("choice", "{rule}", {"rule": self._rule + hint})
        return self._models[name].model_validate(given)


def plain(chosen: Alternative) -> str | dict[str, Any]:
    """Give the form in which a choice travels."""
    settings = chosen.model_dump(mode="json", exclude_defaults=True, exclude={NAME})
    return {NAME: chosen.name, **settings} if settings else chosen.name
