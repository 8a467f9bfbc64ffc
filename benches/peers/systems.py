"""The servers that are compared. Each adapter starts its own process in its own folder and speaks its own dialect.

To add one: subclass `System`, give `argv`, `query_path`, `answer`, and put it into SYSTEMS.
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
QUERIES = ["last", "raw_24h", "hourly_1", "hourly_60", "daily_min_max", "minute_24h"]


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

    def send(self, connection, body):
        self.ask(connection, "POST", "/write?db=bench&precision=ns", body)

    def ready(self):
        self.once("GET", "/ping")

    def flush(self):
        """Leaves the data in the form it has at rest."""

    def sizes(self):
        """Bytes of what has to be kept, by what it is, and of what lies beside it (logs, reserves)."""
        raise NotImplementedError


class Wattlog(System):
    name, port = "wattlog", 39600

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
            "count": ("query", {**whole, "fields": "price", "fn": "count"}),
        }[query]
        return f"/api/v1/{route}?" + urllib.parse.urlencode({"db": "bench", "measurement": "energy_data", **arguments})

    def answer(self, data):
        """All values of an answer, without its times."""
        return [value for series in json.loads(data)["series"]
                for name, column in zip(series["columns"], series["values"]) if name != "time" and not name.endswith("_time")
                for value in column if value is not None]


class Influx(System):
    name, port = "influxdb", 39086
    is_flushing = False

    def argv(self):
        config = os.path.join(self.folder, "influxdb.conf")
        text = f"""reporting-disabled = true
bind-address = "127.0.0.1:{self.port + 2}"
[meta]
dir = "{self.folder}/meta"
[data]
dir = "{self.folder}/data"
wal-dir = "{self.folder}/wal"
query-log-enabled = false
[monitor]
store-enabled = false
[http]
bind-address = "127.0.0.1:{self.port}"
log-enabled = false
[ifql]
enabled = false
"""
        with open(config, "w", encoding="utf-8") as file:
            file.write(text)
        return [self.binary, "run", "-config", config]

    def start(self):
        super().start()
        self.once("POST", "/query?" + urllib.parse.urlencode({"q": "CREATE DATABASE bench"}))

    def version(self):
        return subprocess.run([self.binary, "version"], capture_output=True, text=True, check=True).stdout.strip()

    def environment(self):
        cold = {"INFLUXDB_DATA_CACHE_SNAPSHOT_WRITE_COLD_DURATION": "1s",
                "INFLUXDB_DATA_COMPACT_FULL_WRITE_COLD_DURATION": "1s"}
        return {**super().environment(), **(cold if self.is_flushing else {})}

    def sizes(self):
        data = os.path.join(self.folder, "data")
        columns = folder_bytes(data, lambda name: name.endswith(".tsm"))
        return ({"data": columns, "index": folder_bytes(data) - columns},
                {"log": folder_bytes(os.path.join(self.folder, "wal"))})

    def flush(self):
        """Starts it with short idle times, so that the cache is written and every shard compacted."""
        self.stop()
        self.is_flushing = True
        self.start()
        seen, still, deadline = None, 0, time.monotonic() + 120
        while still < 6 and time.monotonic() < deadline:
            time.sleep(1)
            now = self.sizes()
            still = still + 1 if now == seen else 0
            seen = now
        self.stop()
        self.is_flushing = False
        self.start()

    def query_path(self, query):
        whole = f"time >= {self.start_s}s AND time < {self.end_s}s"
        day = f"time >= {self.end_s - 86400}s AND time < {self.end_s}s"
        means = ",".join(f"mean({field})" for field in FIELDS)
        text = {
            "last": f"SELECT {','.join(FIELDS)} FROM energy_data WHERE device_id='dev000' ORDER BY time DESC LIMIT 1",
            "raw_24h": f"SELECT pv_power FROM energy_data WHERE device_id='dev003' AND {day}",
            "hourly_1": f"SELECT mean(pv_power) FROM energy_data WHERE device_id='dev003' AND {whole} GROUP BY time(1h)",
            "hourly_60": f"SELECT {means} FROM energy_data WHERE {whole} GROUP BY time(1h),device_id",
            "daily_min_max": f"SELECT max(grid_power),min(grid_power) FROM energy_data WHERE {whole} GROUP BY time(1d),device_id",
            "minute_24h": f"SELECT mean(grid_power) FROM energy_data WHERE {day} GROUP BY time(1m),device_id",
            "count": f"SELECT count(price) FROM energy_data WHERE {whole}",
        }[query]
        return "/query?" + urllib.parse.urlencode({"db": "bench", "epoch": "ms", "q": text})

    def answer(self, data):
        result = json.loads(data)["results"][0]
        if "error" in result:
            raise RuntimeError(result["error"])
        return [value for series in result.get("series", []) for row in series["values"] for value in row[1:] if value is not None]


SYSTEMS = {"wattlog": Wattlog, "influxdb": Influx}
