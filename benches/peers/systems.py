"""What all adapters share, and ours. Each adapter starts its own process in its own folder and speaks its own dialect.

To add one: subclass `System` in a file of its own, give `argv`, `query`, `answer`, `sizes`, and name it in `run.py`.
"""
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.parse

FIELDS = ["battery_soc", "battery_temp", "pv_power", "grid_power", "consumption", "price"]
QUERIES = ["last", "raw_24h", "hourly_1", "hourly_60", "daily_min_max", "filter", "minute_24h"]


def file_bytes(path):
    """Allocated bytes of a file; none if it has just been removed."""
    try:
        return os.lstat(path).st_blocks * 512
    except FileNotFoundError:
        return 0


def folder_bytes(folder, counts=lambda name: True):
    """Allocated bytes of the files in a folder, those below included, whose names count. Files may vanish meanwhile."""
    return sum(file_bytes(os.path.join(base, name)) for base, _, names in os.walk(folder) for name in names if counts(name))


class System:
    name = ""
    port = 0
    connections = 2  # that send at once
    seconds = None  # of the last query, if the system itself tells

    def __init__(self, binary, folder):
        self.binary, self.folder = binary, os.path.join(folder, self.name)
        self.process = None
        self.start_s = self.end_s = 0

    # Life of the process.

    def reset(self):
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
        os.makedirs(self.folder)

    def start(self):
        with socket.socket() as probe:  # never talk to somebody else's server
            if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                raise RuntimeError(f"port {self.port} is taken")
        with open(self.folder + ".log", "ab") as log:
            self.process = subprocess.Popen(self.argv(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment())
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.name} left with {self.process.returncode}, see {self.folder}.log")
            try:
                self.ready()
                return
            except OSError:
                time.sleep(0.002)
        raise RuntimeError(f"{self.name} is not ready after 60 s")

    def stop(self):
        if self.process:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(60)
            self.process = None

    def environment(self):
        """Nothing of the machine's own settings reaches the server."""
        return {"PATH": os.environ["PATH"], "HOME": self.folder}

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process = None

    def pids(self):
        """The process and all below it."""
        found, next_ones = [], [self.process.pid]
        while next_ones:
            found += next_ones
            children = []
            for pid in next_ones:
                try:
                    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
                        children += [int(word) for word in file.read().split()]
                except OSError:
                    pass
            next_ones = children
        return found

    # Requests. A connection is made once and kept.

    def connect(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
        connection.connect()
        return connection

    @staticmethod
    def ask(connection, method, path, body=None):
        connection.request(method, path, body)
        reply = connection.getresponse()
        data = reply.read()
        if reply.status >= 300:
            raise RuntimeError(f"{method} {path}: {reply.status} {data[:300]!r}")
        return data

    def once(self, method, path):
        connection = self.connect()
        try:
            return self.ask(connection, method, path)
        finally:
            connection.close()

    def prepare(self, bodies):
        """The bodies as this system takes them; made before the clock starts."""
        return bodies

    def send(self, connection, body):
        self.ask(connection, "POST", "/write?db=bench&precision=ns", body)

    def ping(self, connection):
        """The smallest question there is: what a round trip costs."""
        self.ask(connection, "GET", "/ping")

    def ready(self):
        self.once("GET", "/ping")

    def settle(self):
        """Makes what was answered visible to queries, where a system holds it back."""

    def query(self, connection, query):
        """The whole answer, not parsed."""
        return self.ask(connection, "GET", self.query_path(query))

    def flush(self):
        """Leaves the data in the form it has at rest."""

    def sizes(self):
        """Bytes of what has to be kept, by what it is, and of what lies beside it (logs, reserves)."""
        raise NotImplementedError


class Wattlog(System):
    name, port = "wattlog", 19600

    def argv(self):
        return [self.binary, "serve", "--data", os.path.join(self.folder, "data"), "--listen", f"127.0.0.1:{self.port}"]

    def environment(self):
        # The machine's own metrics would be points that the others do not have.
        return {**super().environment(), "WATTLOG_COLLECTOR__SYSTEM_METRICS__ENABLED": "false"}

    def version(self):
        return subprocess.run([self.binary, "--version"], capture_output=True, text=True, check=True).stdout.strip()

    def ready(self):
        try:
            self.once("GET", "/ready")
        except RuntimeError as error:  # 503 while the log is replayed
            raise OSError(str(error)) from error

    def flush(self):
        self.once("POST", "/api/v1/admin/seal")
        self.once("POST", "/api/v1/admin/compact")

    def sizes(self):
        told = json.loads(self.once("GET", "/api/v1/storage"))["bytes"]
        data = os.path.join(self.folder, "data")
        segments = folder_bytes(os.path.join(data, "segments"))
        parts = {part: told[part] for part in ("data", "timestamps", "meta")}
        kept = {**parts, "padding and headers": segments - sum(parts.values()),
                "catalog": folder_bytes(os.path.join(data, "catalog")),
                "manifest": folder_bytes(os.path.join(data, "manifest"))}
        logs = os.path.join(data, "wal")
        return kept, {"log": folder_bytes(logs, lambda name: not name.startswith("spare")),
                      "spare logs": folder_bytes(logs, lambda name: name.startswith("spare")),
                      "ballast": file_bytes(os.path.join(data, "ballast"))}

    def query_path(self, query):
        whole = {"start": f"{self.start_s}s", "end": f"{self.end_s}s"}
        day = {"start": f"{self.end_s - 86400}s", "end": f"{self.end_s}s"}
        every = ",".join(FIELDS)
        route, arguments = {
            "last": ("last", {"fields": every, "tag.device_id": "dev000"}),
            "raw_24h": ("query", {**day, "fields": "pv_power", "tag.device_id": "dev003"}),
            "hourly_1": ("query", {**whole, "fields": "pv_power", "tag.device_id": "dev003", "every": "1h", "fn": "mean"}),
            "hourly_60": ("query", {**whole, "fields": every, "every": "1h", "fn": "mean", "group_by": "device_id"}),
            "daily_min_max": ("query", {**whole, "fields": "grid_power", "every": "1d", "fn": "max,min", "group_by": "device_id"}),
            "minute_24h": ("query", {**day, "fields": "grid_power", "every": "1m", "fn": "mean", "group_by": "device_id"}),
            "filter": ("query", {**whole, "fields": "battery_soc", "fn": "count", "where": "battery_soc<20 and price>0.8"}),
            "count": ("query", {**whole, "fields": "price", "fn": "count"}),
        }[query]
        return f"/api/v1/{route}?" + urllib.parse.urlencode({"db": "bench", "measurement": "energy_data", **arguments})

    def answer(self, data):
        """All values of an answer, without its times."""
        return [value for series in json.loads(data)["series"]
                for name, column in zip(series["columns"], series["values"]) if name != "time" and not name.endswith("_time")
                for value in column if value is not None]
