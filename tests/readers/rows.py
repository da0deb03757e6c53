"""Prints the rows of a file as another program reads them, one JSON value a line, in a form that does not depend on it.

usage: rows.py fastavro|pyarrow|duckdb FILE [COLUMN_TO_LEAVE_OUT ...]

Integers and decimals are texts, floats are their 16 hexadecimal digits, bytes are {"bytes": hex}, dates {"days": n},
times {"time": microseconds}, instants and civil times {"us": microseconds since 1970}.
"""

import datetime
import decimal
import json
import math
import struct
import sys

EPOCH = datetime.datetime(1970, 1, 1)


def micros(delta):
    return delta.days * 86_400_000_000 + delta.seconds * 1_000_000 + delta.microseconds


def form(value):
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return {"float": "nan" if math.isnan(value) else struct.pack(">d", value).hex()}
    if isinstance(value, decimal.Decimal):
        text = format(value, "f")
        text = text.rstrip("0").rstrip(".") if "." in text else text
        return "0" if text == "-0" else text
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"bytes": bytes(value).hex()}
    if isinstance(value, datetime.datetime):
        return {"us": str(micros(value.replace(tzinfo=None) - EPOCH))}
    if isinstance(value, datetime.date):
        return {"days": str((value - EPOCH.date()).days)}
    if isinstance(value, datetime.time):
        seconds = (value.hour * 60 + value.minute) * 60 + value.second
        return {"time": str(seconds * 1_000_000 + value.microsecond)}
    if isinstance(value, dict):
        return {"record": {name: form(inner) for name, inner in value.items()}}
    if isinstance(value, (list, tuple)):
        return [form(item) for item in value]
    raise TypeError(f"a {type(value).__name__} was not expected")


def fastavro_rows(path):
    import fastavro

    with open(path, "rb") as file:
        yield from fastavro.reader(file)


def pyarrow_rows(path):
    import pyarrow.parquet

    for batch in pyarrow.parquet.ParquetFile(path).iter_batches():
        yield from batch.to_pylist()


def duckdb_rows(path, without):
    import duckdb

    columns = ", ".join('"' + name.replace('"', '""') + '"' for name in without)
    left_out = f" EXCLUDE ({columns})" if without else ""
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    result = connection.execute(f"SELECT *{left_out} FROM read_parquet(?)", [path])
    names = [column[0] for column in result.description]
    while rows := result.fetchmany(1000):
        for row in rows:
            yield dict(zip(names, row))


def main():
    library, path, *without = sys.argv[1:]
    if library == "fastavro":
        rows = fastavro_rows(path)
    elif library == "pyarrow":
        rows = pyarrow_rows(path)
    elif library == "duckdb":
        rows = duckdb_rows(path, without)
    else:
        sys.exit(f"'{library}' is no library; hint: fastavro, pyarrow or duckdb")
    for row in rows:
        kept = {name: value for name, value in row.items() if name not in without}
        print(json.dumps(form(kept), ensure_ascii=True, sort_keys=True))


main()
