"""The split `by-column`: the sites that a column names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from client_sdk.data.splits.split import Examples, Split
from client_sdk.data.tables.words import listed, shown
from client_sdk.errors import DataError


class ByColumn(Split):
    """One site, one client: a column says whose each example is, such as a hospital's name.

    Choose it where the data come from several places.
    """

    name: Literal["by-column"] = "by-column"
    site_column: str = Field(
        "site",
        min_length=1,
        max_length=200,
        description="Column of a table that names each row's site; of pictures, `folder`",
    )

    def names(self, examples: Examples) -> Sequence[str]:
        """The sites. Raises DataError."""
        return sorted(set(self._column(examples).tolist()))

    def clients_in(self, examples: Examples) -> int | None:
        """One for each site."""
        return len(self.names(examples))

    def draw(self, examples: Examples, clients: int, seed: int) -> Sequence[np.ndarray]:
        """The examples of each site, sites in the order of their names. Nothing is random."""
        sites = self.names(examples)
        if len(sites) != clients:
            raise DataError(
                f"Column {shown(self.site_column)} has {len(sites)} sites, but there are "
                f"{clients} clients."
            )
        column = self._column(examples)
        return [np.flatnonzero(column == site) for site in sites]

    def _column(self, examples: Examples) -> np.ndarray:
        columns = examples.columns
        if self.site_column not in columns:
            there = f"; its columns are {listed(list(columns))}" if columns else ""
            raise DataError(f"The data have no column {shown(self.site_column)}{there}.")
        return columns[self.site_column]
