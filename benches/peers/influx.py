"""InfluxDB 1.x: line protocol in, InfluxQL out. Durable at the answer (its log is synced per write)."""
import json
import os
import subprocess
import time
import urllib.parse

from systems import FIELDS, System, folder_bytes


class Influx(System):
    name, port = "influxdb", 19086
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
            "filter": f"SELECT count(battery_soc) FROM energy_data WHERE battery_soc < 20 AND price > 0.8 AND {whole}",
            "count": f"SELECT count(price) FROM energy_data WHERE {whole}",
        }[query]
        return "/query?" + urllib.parse.urlencode({"db": "bench", "epoch": "ms", "q": text})

    def answer(self, data):
        result = json.loads(data)["results"][0]
        if "error" in result:
            raise RuntimeError(result["error"])
        return [value for series in result.get("series", []) for row in series["values"] for value in row[1:] if value is not None]
