from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from client_sdk.data.splits.split import Examples, Split
from client_sdk.data.tables.words import listed, shown
from client_sdk.errors import DataError


class ByColumn(Split):
    """One site, one client: a column says whose each example is, such as a hospital's name.

    Choose it where the data come from several places.
    """

    sets_clients: ClassVar[bool] = True

    name: Literal["by-column"] = "by-column"
    column: str = Field(
        "site",
        min_length=1,
        max_length=200,
        description="The column of the table, or `folder` for pictures in a folder for each site",
        json_schema_extra={"x-group": "data"},
    )

    def sites(self, examples: Examples) -> list[str]:
        """The names of the sites, in the order of the clients. Raises DataError."""
        return sorted(set(self._column(examples).tolist()))

    def clients(self, examples: Examples, wanted: int) -> int:
        """One for each site."""
        return len(self.sites(examples))

    def draw(self, examples: Examples, clients: int, seed: int) -> Sequence[np.ndarray]:
        """The examples of each site, sites in the order of their names. Nothing is random."""
        sites = self.sites(examples)
        if len(sites) != clients:
            raise DataError(
                f"Column {shown(self.column)} has {len(sites)} sites, but there are "
                f"{clients} clients."
            )
        column = self._column(examples)
        return [np.flatnonzero(column == site) for site in sites]

    def _column(self, examples: Examples) -> np.ndarray:
        columns = examples.columns or {}
        if self.column not in columns:
            there = f"; its columns are {listed(list(columns))}" if columns else ""
            raise DataError(f"The data have no column {shown(self.column)}{there}.")
        return columns[self.column]
