#!/usr/bin/env python3
"""Runs each system on the same data in turn and prints one table.

    run.py --size S [--wattlog BINARY] [--influxdb BINARY] [--data DIR] [--work DIR] [--out FILE]

Rounds, in turn: ingest over HTTP on two connections, kill -9 right after the last answer, time to the first answer
again, lost rows. Then each system once more: load, memory after 60 s of idling in the process that loaded, bytes at
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

from systems import QUERIES, SYSTEMS
from workload import SIZES

TICKS = os.sysconf("SC_CLK_TCK")
HERE = os.path.dirname(os.path.abspath(__file__))


def usage(pid):
    """Processor seconds, resident and anonymous bytes, bytes written, of one process."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        numbers = file.read().rsplit(")", 1)[1].split()
    status = {}
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        for line in file:
            key, _, value = line.partition(":")
            status[key] = value.split()
    with open(f"/proc/{pid}/io", encoding="ascii") as file:
        written = next(int(line.split()[1]) for line in file if line.startswith("write_bytes"))
    return {"cpu_s": (int(numbers[11]) + int(numbers[12])) / TICKS, "rss": int(status["VmRSS"][0]) * 1024,
            "anon": int(status["RssAnon"][0]) * 1024, "written": written}


class Peak(threading.Thread):
    """Highest anonymous memory while it runs."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.pid, self.anon, self.over = pid, 0, threading.Event()
        self.start()

    def run(self):
        while not self.over.wait(0.1):
            try:
                self.anon = max(self.anon, usage(self.pid)["anon"])
            except OSError:
                return

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


def ingest(system, bodies, connections):
    """Sends every body once, in order, over so many connections; seconds until the last answer."""
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

    threads = [threading.Thread(target=work) for _ in range(connections)]
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


def one_round(system, meta, bodies, result):
    """Ingest, kill -9, and what is there again."""
    system.reset()
    system.start()
    before = usage(system.process.pid)
    seconds = ingest(system, bodies, 2)
    after = usage(system.process.pid)
    result.setdefault("ingest_values_per_s", []).append(meta["values"] / seconds)
    cpu_s = after["cpu_s"] - before["cpu_s"]
    result.setdefault("ingest_cpu_s_per_million", []).append(cpu_s / meta["values"] * 1e6)
    system.kill()
    begin = time.perf_counter()
    system.start()
    connection = system.connect()
    present = sum(system.answer(system.ask(connection, "GET", system.query_path("count"))))
    result.setdefault("start_after_kill_ms", []).append((time.perf_counter() - begin) * 1e3)
    result["lost_rows_after_kill"] = result.get("lost_rows_after_kill", 0) + max(0, meta["rows"] - int(present))
    connection.close()
    system.stop()


def at_rest(system, meta, bodies, result, runs, idle_s):
    """Load, idle, bytes, queries."""
    system.reset()
    system.start()
    pid, payload = system.process.pid, meta["values"] * 16
    peak = Peak(pid)
    ingest(system, bodies, 2)
    result["peak_anon_mb"] = peak.stop() / 1e6
    # The process that loaded, the same for all: no flush and no restart before.
    time.sleep(idle_s)
    idle = usage(pid)
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

    connection = system.connect()
    for query in QUERIES:
        path = system.query_path(query)
        compare(system, meta, query, system.ask(connection, "GET", path))
        times = []
        deadline = time.perf_counter() + 8
        while len(times) < runs and (len(times) < 5 or time.perf_counter() < deadline):
            begin = time.perf_counter()
            system.ask(connection, "GET", path)
            times.append((time.perf_counter() - begin) * 1e3)
        result[f"{query}_p50_ms"] = statistics.median(times)
    connection.close()
    system.stop()


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
                one_round(system, meta, bodies, results[system.name])
        for system in systems:
            at_rest(system, meta, bodies, results[system.name], arguments.runs, arguments.idle)
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
