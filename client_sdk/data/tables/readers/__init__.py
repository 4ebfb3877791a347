"""Readers of tables. One kind of file a module.

`reader` has the contract, `READERS` the modules: a new one is a file here and a line there.
"""

from __future__ import annotations

from client_sdk.data.tables.readers.reader import TableReader
from serverless_fl.registry import registered

READERS = {
    suffix: reader
    for reader in registered(
        TableReader,
        __name__,
        "delimited",
        "npz",
        "parquet",
    )
    for suffix in reader.suffixes
}
