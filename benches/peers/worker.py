#!/usr/bin/env python3
"""A database that is a library, behind one JSON line per request on standard input and one per reply on standard output.

    worker.py duckdb|chdb FOLDER | --version
"""
import json
import os
import sys
import time

from sql import FIELDS, questions

PACKAGE, FOLDER = sys.argv[1], sys.argv[2]
NAMES = ["ts", "device_id", "data_source", "location", *FIELDS]


class Duck:
    def __init__(self):
        import duckdb
        self.database = duckdb.connect(os.path.join(FOLDER, "db.duckdb"))
        self.types = dict(zip(NAMES, ["BIGINT"] + ["VARCHAR"] * 3 + ["DOUBLE"] * len(FIELDS)))
        self.database.execute("CREATE TABLE IF NOT EXISTS energy_data(" + ",".join(f"{name} {kind}" for name, kind in self.types.items()) + ")")

    def insert(self, path):
        self.database.execute(f"INSERT INTO energy_data SELECT * FROM read_csv('{path}', header=false, columns={self.types})")

    def ask(self, query, start_s, end_s):
        return self.database.execute(questions(start_s, end_s, lambda width: f"ts // {width} * {width}")[query]).fetchall()

    @staticmethod
    def rows(answer):
        return answer

    def flush(self):
        self.database.execute("CHECKPOINT")

    def close(self):
        self.database.close()

    @staticmethod
    def version():
        import duckdb
        return "DuckDB " + duckdb.__version__


class ClickHouse:
    """Timestamps DoubleDelta and ZSTD, fields ZSTD: the smaller of the usual settings."""

    def __init__(self):
        from chdb import session
        self.session = session.Session(os.path.join(FOLDER, "db"))
        self.session.query("CREATE DATABASE IF NOT EXISTS b ENGINE = Atomic")
        words = ",".join(f"{name} LowCardinality(String)" for name in NAMES[1:4])
        fields = ",".join(f"{name} Float64 CODEC(ZSTD(1))" for name in FIELDS)
        self.session.query(f"CREATE TABLE IF NOT EXISTS b.energy_data(ts UInt32 CODEC(DoubleDelta, ZSTD(1)), {words}, {fields}) "
                           "ENGINE = MergeTree ORDER BY (device_id, ts)")

    def insert(self, path):
        kinds = ",".join(f"{name} {kind}" for name, kind in zip(NAMES, ["UInt32"] + ["String"] * 3 + ["Float64"] * len(FIELDS)))
        self.session.query(f"INSERT INTO b.energy_data SELECT * FROM file('{path}', CSV, '{kinds}')")

    def ask(self, query, start_s, end_s):
        text = questions(start_s, end_s, lambda width: f"intDiv(ts, {width}) * {width}")[query]
        return self.session.query(text.replace("energy_data", "b.energy_data"), "JSONCompactEachRow").bytes()

    @staticmethod
    def rows(answer):
        return [json.loads(line) for line in answer.splitlines()]

    def active_bytes(self):
        text = "SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND database = 'b'"
        return int(self.rows(self.session.query(text, "JSONCompactEachRow").bytes())[0][0])

    def flush(self):
        self.session.query("OPTIMIZE TABLE b.energy_data FINAL")

    def close(self):
        self.session.close()

    @staticmethod
    def version():
        import chdb
        return f"chDB {chdb.__version__}, ClickHouse " + chdb.query("SELECT version()").bytes().decode().strip()


def reply_to(database, request):
    match request["do"]:
        case "insert":
            database.insert(request["path"])
        case "query":
            begin = time.perf_counter()
            answer = database.ask(request["query"], request["start_s"], request["end_s"])
            seconds = time.perf_counter() - begin
            return {"seconds": seconds, "rows": database.rows(answer)}
        case "flush":
            database.flush()
        case "active bytes":
            return {"bytes": database.active_bytes()}
    return {}


def main():
    kind = {"duckdb": Duck, "chdb": ClickHouse}[PACKAGE]
    if FOLDER == "--version":
        print(kind.version())
        return
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # a library may print
    database = kind()
    print("ready", file=replies, flush=True)
    for line in sys.stdin:
        try:
            reply = reply_to(database, json.loads(line))
        except Exception as error:
            reply = {"error": repr(error)[:500]}
        print(json.dumps(reply), file=replies, flush=True)
    database.close()


if __name__ == "__main__":
    main()
