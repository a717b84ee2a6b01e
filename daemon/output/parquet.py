"""Results as a Parquet file, written a row group at a time.

Times are UTC timestamps in microseconds. A file name is text with escapes for what is not UTF-8,
and its exact bytes are in `<column>_bytes`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, BinaryIO

from config.errors import BtError
from config.extras import package_hint
from config.text import printable_name
from daemon.output.columns import Column, Kind
from daemon.output.json_text import json_text

# Rows in memory at a time; smaller groups compress worse and make the file slower to read.
GROUP_ROWS = 65_536


def require_pyarrow() -> None:
    """Raise BtError when the optional dependency is not installed."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise BtError(
            "Parquet needs the package pyarrow, which is not installed",
            hint=f"{package_hint('pyarrow')}, or choose --format csv",
        ) from error


def write_parquet(rows: Iterable[Any], columns: Sequence[Column], stream: BinaryIO) -> int:
    """Write a Parquet file; return the number of rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([field for column in columns for field in _fields(column, pa)])
    count = 0
    with pq.ParquetWriter(pa.PythonFile(stream, mode="w"), schema, compression="zstd") as writer:
        for group in _groups(iter(rows)):
            arrays = [array for column in columns for array in _arrays(column, group)]
            batch = [pa.array(values, field.type) for values, field in zip(arrays, schema, strict=True)]
            writer.write_table(pa.Table.from_arrays(batch, schema=schema))
            count += len(group)
    return count


def _groups(rows: Iterator[Any]) -> Iterator[list[Any]]:
    while group := list(islice(rows, GROUP_ROWS)):
        yield group


def _fields(column: Column, pa: Any) -> list[Any]:
    if column.kind is Kind.NAME:
        return [pa.field(column.name, pa.string()), pa.field(f"{column.name}_bytes", pa.binary())]
    kinds = {
        Kind.INTEGER: pa.int64(),
        Kind.FLAG: pa.bool_(),
        Kind.CONFIDENCE: pa.float64(),
        Kind.TIME: pa.timestamp("us", tz="UTC"),
    }
    return [pa.field(column.name, kinds.get(column.kind, pa.string()))]


def _arrays(column: Column, group: list[Any]) -> list[list[Any]]:
    values = [column.read(row) for row in group]
    if column.kind is Kind.NAME:
        return [[None if value is None else printable_name(value) for value in values], values]
    if column.kind is Kind.MAPPING:
        return [[None if value is None else json_text(value) for value in values]]
    return [values]
