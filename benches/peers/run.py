#!/usr/bin/env python3
"""Runs each system on the same data in turn and prints one table.

    run.py --size S [--wattlog BINARY] [--influxdb BINARY] [--victoriametrics BINARY] [--postgresql FOLDER]
           [--duckdb FOLDER] [--chdb FOLDER] [--data DIR] [--work DIR] [--out FILE]

Rounds, in turn: ingest on two connections (a library: one), kill -9 right after the last answer, time to the first
answer again, lost rows; kill -9 once more after about a million values. Then each system once more: load, memory after 60 s of idling in the process that loaded, bytes at
rest by what they are, queries. Every answer is compared with the generator's own. Data that is missing is generated.
"""
import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import threading
import time

from influx import Influx
from sql import ChDB, DuckDB, Postgres
from systems import QUERIES, Wattlog
from victoria import Victoria
from workload import BODY_LINES, SIZES

SYSTEMS = {kind.name: kind for kind in (Wattlog, Influx, Victoria, Postgres, DuckDB, ChDB)}

TICKS = os.sysconf("SC_CLK_TCK")
HERE = os.path.dirname(os.path.abspath(__file__))


def usage(pids):
    """Of these processes and the children they have seen end: processor seconds and bytes written; of the living: resident and anonymous bytes."""
    total = {"cpu_s": 0.0, "rss": 0, "anon": 0, "written": 0}
    for pid in pids:
        try:
            with open(f"/proc/{pid}/stat", encoding="ascii") as file:
                numbers = file.read().rsplit(")", 1)[1].split()
            with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
                rows = [line.split() for line in file]
            with open(f"/proc/{pid}/io", encoding="ascii") as file:
                written = next(int(line.split()[1]) for line in file if line.startswith("write_bytes"))
        except (FileNotFoundError, ProcessLookupError):
            continue
        sizes = {row[0]: int(row[1]) * 1024 for row in rows[1:] if row[0].endswith(":")}
        total["cpu_s"] += sum(int(ticks) for ticks in numbers[11:15]) / TICKS
        total["rss"] += sizes["Pss:"]  # shared pages count once over all processes
        total["anon"] += sizes["Pss_Anon:"]
        total["written"] += written
    return total


class Peak(threading.Thread):
    """Highest anonymous memory while it runs."""

    def __init__(self, system):
        super().__init__(daemon=True)
        self.system, self.anon, self.over = system, 0, threading.Event()
        self.start()

    def run(self):
        while not self.over.wait(0.1):
            self.anon = max(self.anon, usage(self.system.pids())["anon"])

    def stop(self):
        self.over.set()
        self.join()
        return self.anon


def load(data, size):
    folder = os.path.join(data, size)
    if not os.path.exists(os.path.join(folder, "meta.json")):
        subprocess.run([sys.executable, os.path.join(HERE, "workload.py"), "--size", size, "--out", data], check=True)
    with open(os.path.join(folder, "meta.json"), encoding="utf-8") as file:
        meta = json.load(file)
    bodies = []
    for number in range(meta["bodies"]):
        with open(os.path.join(folder, f"{number:06}.lp"), "rb") as file:
            bodies.append(file.read())
    return meta, bodies


def ingest(system, bodies):
    """Sends every body once, in order, over the system's connections; seconds until the last answer."""
    place, lock, failed = iter(bodies), threading.Lock(), []

    def work():
        connection = system.connect()
        try:
            while True:
                with lock:
                    body = next(place, None)
                if body is None:
                    return
                system.send(connection, body)
        except Exception as error:
            failed.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=work) for _ in range(system.connections)]
    begin = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    return time.perf_counter() - begin


def compare(system, meta, query, data):
    values = system.answer(data)
    count, total = meta["answers"][query]
    if len(values) != count or abs(math.fsum(values) - total) > 1e-9 * max(1.0, abs(total)):
        raise RuntimeError(f"{system.name} {query}: {len(values)} values, sum {math.fsum(values)}; expected {count}, {total}")


def kill_and_count(system, rows):
    """kill -9, then milliseconds from starting the process to the first count over everything; rows that are not there."""
    system.kill()
    begin = time.perf_counter()
    system.start()
    connection = system.connect()
    present = sum(system.answer(system.query(connection, "count")))
    ms = (time.perf_counter() - begin) * 1e3
    connection.close()
    return ms, max(0, rows - int(present))


def one_round(system, meta, bodies, result):
    """Ingest, kill -9, and what is there again; then the same for about a million values, which no system has written out yet."""
    system.reset()
    system.start()
    before = usage(system.pids())
    seconds = ingest(system, bodies)
    after = usage(system.pids())
    result.setdefault("ingest_values_per_s", []).append(meta["values"] / seconds)
    result.setdefault("ingest_cpu_s_per_million", []).append((after["cpu_s"] - before["cpu_s"]) / meta["values"] * 1e6)
    ms, lost = kill_and_count(system, meta["rows"])
    result.setdefault("start_after_kill_ms", []).append(ms)
    result["lost_rows_after_kill"] = result.get("lost_rows_after_kill", 0) + lost
    system.reset()
    system.start()
    few = bodies[:34]
    ingest(system, few)
    ms, lost = kill_and_count(system, len(few) * BODY_LINES)
    result.setdefault("start_after_kill_of_1M_values_ms", []).append(ms)
    result["lost_rows_of_170000_after_kill"] = result.get("lost_rows_of_170000_after_kill", 0) + lost
    system.stop()


def at_rest(system, meta, bodies, result, runs, idle_s):
    """Load, idle, bytes, queries."""
    system.reset()
    system.start()
    payload = meta["values"] * 16
    peak = Peak(system)
    ingest(system, bodies)
    result["peak_anon_mb"] = peak.stop() / 1e6
    # The process that loaded, the same for all: no flush and no restart before.
    time.sleep(idle_s)
    idle = usage(system.pids())
    result["idle_rss_mb"], result["idle_anon_mb"] = idle["rss"] / 1e6, idle["anon"] / 1e6
    result["cpu_s_per_million_with_background"] = idle["cpu_s"] / meta["values"] * 1e6
    result["written_per_payload"] = idle["written"] / payload

    system.flush()
    kept, besides = system.sizes()
    result["bytes_per_value"] = sum(kept.values()) / meta["values"]
    for part, size in kept.items():
        result[f"- {part}, per value"] = size / meta["values"]
    for part, size in besides.items():
        result[f"beside it: {part}, MB"] = size / 1e6

    system.settle()
    connection = system.connect()
    result["ping_p50_ms"] = median_ms(system, lambda: system.ping(connection), runs)
    for query in QUERIES:
        compare(system, meta, query, system.query(connection, query))
        result[f"{query}_p50_ms"] = median_ms(system, lambda: system.query(connection, query), runs)
    connection.close()
    system.stop()


def median_ms(system, ask, runs):
    """Median over `runs` runs, or as many as eight seconds allow, but five."""
    times, deadline = [], time.perf_counter() + 8
    while len(times) < runs and (len(times) < 5 or time.perf_counter() < deadline):
        system.seconds = None
        begin = time.perf_counter()
        ask()
        seconds = time.perf_counter() - begin
        times.append((seconds if system.seconds is None else system.seconds) * 1e3)
    return statistics.median(times)


def shown(value):
    if value is None:
        return "-"
    if isinstance(value, list):
        value = statistics.median(value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    built = os.path.join(HERE, "..", "..", "target", "release", "wattlog")
    parser.add_argument("--wattlog", metavar="BINARY", default=built if os.path.exists(built) else None)
    parser.add_argument("--influxdb", metavar="BINARY", default=shutil.which("influxd"))
    parser.add_argument("--victoriametrics", metavar="BINARY", default=shutil.which("victoria-metrics"))
    parser.add_argument("--postgresql", metavar="FOLDER", help="folder of initdb and postgres; runs as the user postgres, needs psycopg2")
    parser.add_argument("--duckdb", metavar="FOLDER", help="folder that holds the Python package")
    parser.add_argument("--chdb", metavar="FOLDER", help="folder that holds the Python package")
    parser.add_argument("--size", choices=SIZES, default="S")
    parser.add_argument("--data", default="peers-data", help="generated data; made if it is not there")
    parser.add_argument("--work", default="peers-work", help="folder for the databases")
    parser.add_argument("--out", default="peers-results.json")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--runs", type=int, default=200, help="most runs per query")
    parser.add_argument("--idle", type=float, default=60, help="seconds between the load and the look at memory")
    arguments = parser.parse_args()
    work = os.path.abspath(arguments.work)
    os.makedirs(work, exist_ok=True)
    systems = [kind(os.path.abspath(binary), work) for name, kind in SYSTEMS.items()
               if (binary := getattr(arguments, name)) is not None]
    if not systems:
        parser.error("no binary is named and none was found")
    meta, bodies = load(arguments.data, arguments.size)
    results = {system.name: {"version": system.version()} for system in systems}
    try:
        for system in systems:
            system.start_s, system.end_s = meta["start_s"], meta["end_s"]
        for _ in range(arguments.rounds):
            for system in systems:
                one_round(system, meta, system.prepare(bodies), results[system.name])
        for system in systems:
            at_rest(system, meta, system.prepare(bodies), results[system.name], arguments.runs, arguments.idle)
    finally:
        for system in systems:
            system.stop()
        with open(arguments.out, "w", encoding="utf-8") as file:
            json.dump({"size": arguments.size, "systems": results}, file, indent=1)
    names = [system.name for system in systems]
    for name in names:
        print(f"{name}: {results[name].pop('version')}")
    print(f"\nsize {arguments.size}: {meta['values']:,} values")
    print("\n| | " + " | ".join(names) + " |\n|" + "---|" * (len(names) + 1))
    for key in dict.fromkeys(key for name in names for key in results[name]):
        print(f"| {key} | " + " | ".join(shown(results[name].get(key)) for name in names) + " |")


if __name__ == "__main__":
    main()
