#!/usr/bin/env python3
"""Runs each system on the same data in turn and prints one table.

    run.py --wattlog target/release/wattlog [--influxdb path/to/influxd] [--data peers-data] [--out results.json]

Size S: ingest over HTTP on two connections (three times, in turn), bytes at rest, kill -9 right after the last answer.
Size M (if it was generated): load, memory, queries. Every answer is compared with the generator's own.
"""
import argparse
import json
import math
import os
import statistics
import threading
import time

from systems import QUERIES, SYSTEMS

TICKS = os.sysconf("SC_CLK_TCK")


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


def folder_bytes(folder):
    """Allocated bytes of a folder."""
    return sum(os.lstat(os.path.join(base, name)).st_blocks * 512 for base, _, names in os.walk(folder) for name in names)


def load(data, size):
    folder = os.path.join(data, size)
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


def small(system, meta, bodies, result):
    system.start_s, system.end_s = meta["start_s"], meta["end_s"]
    system.reset()
    system.start()
    before = usage(system.process.pid)
    seconds = ingest(system, bodies, 2)
    after = usage(system.process.pid)
    result.setdefault("ingest_values_per_s", []).append(meta["values"] / seconds)
    result.setdefault("ingest_cpu_s_per_million", []).append((after["cpu_s"] - before["cpu_s"]) / meta["values"] * 1e6)
    system.kill()
    begin = time.perf_counter()
    system.start()
    connection = system.connect()
    present = sum(system.answer(system.ask(connection, "GET", system.query_path("count"))))
    result.setdefault("start_after_kill_ms", []).append((time.perf_counter() - begin) * 1e3)
    result["lost_rows_after_kill"] = result.get("lost_rows_after_kill", 0) + max(0, meta["rows"] - int(present))
    connection.close()
    system.flush()
    result["bytes_per_value_S"] = folder_bytes(system.data_folder()) / meta["values"]
    system.stop()


def large(system, meta, bodies, result, runs):
    system.start_s, system.end_s = meta["start_s"], meta["end_s"]
    system.reset()
    system.start()
    peak = Peak(system.process.pid)
    result["load_values_per_s_M"] = meta["values"] / ingest(system, bodies, 2)
    result["peak_anon_mb_M"] = peak.stop() / 1e6
    result["written_per_payload_M"] = usage(system.process.pid)["written"] / (meta["values"] * 16)
    system.flush()
    result["bytes_per_value_M"] = folder_bytes(system.data_folder()) / meta["values"]
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
    time.sleep(10)
    now = usage(system.process.pid)
    result["idle_rss_mb_M"], result["idle_anon_mb_M"] = now["rss"] / 1e6, now["anon"] / 1e6
    system.stop()


def shown(value):
    if value is None:
        return "-"
    if isinstance(value, list):
        value = statistics.median(value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in SYSTEMS:
        parser.add_argument(f"--{name}", metavar="BINARY")
    parser.add_argument("--data", default="peers-data")
    parser.add_argument("--work", default="peers-work", help="folder for the databases")
    parser.add_argument("--out", default="peers-results.json")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--runs", type=int, default=200, help="warm runs per query")
    arguments = parser.parse_args()
    work = os.path.abspath(arguments.work)
    os.makedirs(work, exist_ok=True)
    systems = [kind(os.path.abspath(binary), work) for name, kind in SYSTEMS.items()
               if (binary := getattr(arguments, name)) is not None]
    if not systems:
        parser.error("name at least one binary")
    results = {system.name: {"version": system.version()} for system in systems}
    try:
        meta, bodies = load(arguments.data, "S")
        for _ in range(arguments.rounds):
            for system in systems:
                small(system, meta, bodies, results[system.name])
        if os.path.exists(os.path.join(arguments.data, "M", "meta.json")):
            meta, bodies = load(arguments.data, "M")
            for system in systems:
                large(system, meta, bodies, results[system.name], arguments.runs)
    finally:
        for system in systems:
            system.stop()
        with open(arguments.out, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=1)
    names = [system.name for system in systems]
    for name in names:
        print(f"{name}: {results[name].pop('version')}")
    print("\n| | " + " | ".join(names) + " |\n|" + "---|" * (len(names) + 1))
    for key in dict.fromkeys(key for name in names for key in results[name]):
        print(f"| {key} | " + " | ".join(shown(results[name].get(key)) for name in names) + " |")


if __name__ == "__main__":
    main()
