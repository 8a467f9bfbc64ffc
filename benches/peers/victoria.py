"""VictoriaMetrics: line protocol in, MetricsQL out. Not durable at the answer: new rows live in memory for seconds."""
import json
import os
import subprocess
import time
import urllib.parse

from systems import FIELDS, System, folder_bytes

FILTER_STEP_S = 3 * 86_400  # older releases take no more points than this in one subquery


class Victoria(System):
    name, port = "victoriametrics", 19428

    def argv(self):
        return [self.binary, "-storageDataPath=" + os.path.join(self.folder, "data"), "-retentionPeriod=100y",
                f"-httpListenAddr=127.0.0.1:{self.port}", "-loggerLevel=ERROR"]

    def version(self):
        told = subprocess.run([self.binary, "-version"], capture_output=True, text=True, check=True)
        return (told.stdout + told.stderr).strip() or "VictoriaMetrics, a build that does not tell its version"

    def ready(self):
        self.once("GET", "/health")

    def send(self, connection, body):
        self.ask(connection, "POST", "/write?precision=ns", body)

    def ping(self, connection):
        self.ask(connection, "GET", "/health")

    def settle(self):
        self.once("GET", "/internal/force_flush")

    def sizes(self):
        return {"data": folder_bytes(os.path.join(self.folder, "data"))}, {}

    def flush(self):
        """Everything merged: until the size has stood still for five seconds and no merge is running."""
        self.once("GET", "/internal/force_flush")
        self.once("GET", "/internal/force_merge")
        seen, still, deadline = None, 0, time.monotonic() + 180
        while still < 5 and time.monotonic() < deadline:
            time.sleep(1)
            lines = self.once("GET", "/metrics").decode().splitlines()
            merging = any(float(line.split()[-1]) > 0 for line in lines
                          if line.startswith(("vm_active_merges", "vm_active_force_merges")))
            now = self.sizes()
            still = still + 1 if now == seen and not merging else 0
            seen = now

    def paths(self, query):
        """The requests of one question. A window of MetricsQL is (t - d, t], so it is asked 1 ms before its end."""
        every = '{__name__=~"energy_data_(' + "|".join(FIELDS) + ')"'
        day_s = self.end_s - 86_400

        def at(path, **arguments):
            return path + "?" + urllib.parse.urlencode({**arguments, "nocache": 1})

        def windows(expression, step_s, start_s):
            return [at("/api/v1/query_range", query=expression, start=f"{start_s + step_s - 0.001:.3f}",
                       end=f"{self.end_s - 0.001:.3f}", step=f"{step_s}s")]

        grid = "energy_data_grid_power"
        if query == "last":
            return [at("/api/v1/query", query=every + ',device_id="dev000"}', time=self.end_s - 5)]
        if query == "raw_24h":
            return [at("/api/v1/export", **{"match[]": 'energy_data_pv_power{device_id="dev003"}', "start": day_s,
                                            "end": f"{self.end_s - 0.001:.3f}"})]
        if query == "hourly_1":
            return windows('avg_over_time(energy_data_pv_power{device_id="dev003"}[1h])', 3600, self.start_s)
        if query == "hourly_60":
            return windows(f"avg_over_time({every}}}[1h]) keep_metric_names", 3600, self.start_s)
        if query == "daily_min_max":
            both = ",".join(f'label_set({name}_over_time({grid}[1d]),"agg","{name}")' for name in ("max", "min"))
            return windows(f"union({both})", 86_400, self.start_s)
        if query == "minute_24h":
            return windows(f"avg_over_time({grid}[1m])", 60, day_s)
        if query == "count":
            width = self.end_s - self.start_s
            return [at("/api/v1/query", query=f"sum(count_over_time(energy_data_price[{width + 86_400}s]))", time=self.end_s - 5)]
        assert query == "filter", query
        both = "(energy_data_battery_soc < 20) and (energy_data_price > 0.8)"
        ends = [min(begin + FILTER_STEP_S, self.end_s) for begin in range(self.start_s, self.end_s, FILTER_STEP_S)]
        starts = range(self.start_s, self.end_s, FILTER_STEP_S)
        return [at("/api/v1/query", query=f"sum(count_over_time(({both})[{end - begin}s:10s]))", time=end - 10)
                for begin, end in zip(starts, ends)]

    def query(self, connection, query):
        return query, [self.ask(connection, "GET", path) for path in self.paths(query)]

    def answer(self, told):
        query, replies = told
        if query == "raw_24h":
            return [value for reply in replies for line in reply.splitlines() if line.strip()
                    for value in json.loads(line)["values"]]
        values = [float(value) for reply in replies for series in json.loads(reply)["data"]["result"]
                  for _, value in series.get("values") or [series["value"]]]
        return [sum(values)] if query == "filter" else values
