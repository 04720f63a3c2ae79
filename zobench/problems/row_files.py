"""Rows in local files: JSON lines and Parquet. A file that cannot be right is named with the line."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zobench.spec import EnvironmentUnmet

FORMATS = ("jsonl", "parquet")
BOM = b"\xef\xbb\xbf"
Row = Mapping[str, Any]


class Rows(list[Row]):
    """The rows of a file, and what an error calls each of them."""

    def __init__(self, path: Path, rows: Sequence[Row], lines: Sequence[int] | None = None) -> None:
        super().__init__(rows)
        self.path, self.lines = path, lines

    def where(self, index: int) -> str:
        """The file and the line (JSON lines; empty ones count) or the row (Parquet) of a row counted from 0."""
        return f"{self.path}, row {index + 1}" if self.lines is None else f"{self.path}, line {self.lines[index]}"


def read(path: Path) -> Rows:
    """All rows of a .jsonl or .parquet file; EnvironmentUnmet names the line where it is broken."""
    try:
        rows = read_parquet(path) if path.suffix == ".parquet" else read_jsonl(path)
    except OSError as error:
        raise EnvironmentUnmet(f"{path}: {error.strerror or error}") from error
    if not rows:
        raise EnvironmentUnmet(f"{path}: there are no rows in it")
    return rows


def read_jsonl(path: Path) -> Rows:
    """UTF-8, one object a line, with or without a byte order mark and carriage returns."""
    rows, lines = [], []
    with open(path, "rb") as file:
        for number, raw in enumerate(file, 1):
            raw = raw.removeprefix(BOM) if number == 1 else raw
            if raw.strip():
                rows.append(_parse(path, number, raw))
                lines.append(number)
    return Rows(path, rows, lines if lines and lines[-1] != len(lines) else range(1, len(lines) + 1))


def _parse(path: Path, number: int, raw: bytes) -> Row:
    where = f"{path}, line {number}"
    try:
        row = json.loads(raw.decode("utf-8"), parse_constant=_refuse)
    except UnicodeDecodeError as error:
        found = f"byte 0x{raw[error.start]:02x} at place {error.start + 1}"
        raise EnvironmentUnmet(f"{where}: not UTF-8 text ({found}); save the file as UTF-8") from error
    except (ValueError, RecursionError) as error:
        reason = getattr(error, "msg", None) or str(error)
        cut = "" if raw.endswith(b"\n") else "; the file ends inside this line, as one that was cut short"
        raise EnvironmentUnmet(f"{where}: not JSON ({reason}){cut}") from error
    if not isinstance(row, dict):
        raise EnvironmentUnmet(f"{where}: not a JSON object")
    return row


def _refuse(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def read_parquet(path: Path) -> Rows:
    import pyarrow
    import pyarrow.parquet

    with open(path, "rb") as file:
        try:
            return Rows(path, whole(pyarrow.parquet.read_table(file)).to_pylist())
        except (pyarrow.ArrowException, OSError) as error:  # some of pyarrow's are an OSError
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise EnvironmentUnmet(f"{path}: not a readable Parquet file, perhaps cut short ({reason})") from error
        except UnicodeDecodeError as error:
            raise EnvironmentUnmet(f"{path}: a text in it is not UTF-8 ({error.reason})") from error


def whole(table: Any) -> Any:
    """A pyarrow table whose columns of floats are integers where each value is whole or missing.

    pandas writes labels as floats once one of them is missing.
    """
    import pyarrow

    for place, column in enumerate(table.schema):
        if pyarrow.types.is_floating(column.type):
            values = table.column(place).to_pylist()
            try:
                values = pyarrow.array(values, column.type, from_pandas=True)  # a NaN is a missing one
                table = table.set_column(place, column.name, values.cast(pyarrow.int64()))
            except pyarrow.ArrowInvalid:
                continue
    return table


def count(path: Path) -> int:
    """How many rows a file has, without reading them into memory; nothing is checked."""
    if path.suffix == ".parquet":
        import pyarrow.parquet

        return pyarrow.parquet.read_metadata(path).num_rows
    with open(path, "rb") as file:
        return sum(bool(line.strip()) for line in file)
