"""PostgreSQL over its socket, DuckDB and chDB (ClickHouse) inside a worker process. The same rows, as CSV, the same questions, as SQL.

Of these, PostgreSQL and DuckDB are durable at the answer, chDB is not (it writes parts without a sync).
"""
import glob
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time

from systems import FIELDS, System, file_bytes, folder_bytes

HERE = os.path.dirname(os.path.abspath(__file__))
COLUMNS = ",".join(FIELDS)


def csv(body):
    """The rows of a body of line protocol: second, device, source, site, fields."""
    rows = []
    for line in body.decode().splitlines():
        head, fields, stamp = line.split(" ")
        tags = dict(tag.split("=") for tag in head.split(",")[1:])
        values = ",".join(field.partition("=")[2] for field in fields.split(","))
        rows.append(f"{int(stamp) // 1_000_000_000},{tags['device_id']},{tags['data_source']},{tags['location']},{values}\n")
    return "".join(rows).encode()


def questions(start_s, end_s, bucket):
    """SQL of each question; `ts` is in Unix seconds, `bucket(width)` gives the start of its bucket."""
    whole, day = f"ts >= {start_s} AND ts < {end_s}", f"ts >= {end_s - 86_400} AND ts < {end_s}"
    means = ",".join(f"avg({field})" for field in FIELDS)
    return {
        "last": f"SELECT {COLUMNS} FROM energy_data WHERE device_id='dev000' ORDER BY ts DESC LIMIT 1",
        "raw_24h": f"SELECT ts, pv_power FROM energy_data WHERE device_id='dev003' AND {day} ORDER BY ts",
        "hourly_1": f"SELECT {bucket(3600)} AS b, avg(pv_power) FROM energy_data WHERE device_id='dev003' AND {whole} GROUP BY b ORDER BY b",
        "hourly_60": f"SELECT device_id, {bucket(3600)} AS b, {means} FROM energy_data WHERE {whole} GROUP BY device_id, b ORDER BY device_id, b",
        "daily_min_max": f"SELECT device_id, {bucket(86400)} AS b, max(grid_power), min(grid_power) FROM energy_data WHERE {whole} "
                         "GROUP BY device_id, b ORDER BY device_id, b",
        "minute_24h": f"SELECT device_id, {bucket(60)} AS b, avg(grid_power) FROM energy_data WHERE {day} GROUP BY device_id, b ORDER BY device_id, b",
        "filter": f"SELECT count(*) FROM energy_data WHERE battery_soc < 20 AND price > 0.8 AND {whole}",
        "count": f"SELECT count(price) FROM energy_data WHERE {whole}",
    }


KEYS = {"last": 0, "raw_24h": 1, "hourly_1": 1, "hourly_60": 2, "daily_min_max": 2, "minute_24h": 2, "filter": 0, "count": 0}


def values(told):
    query, rows = told
    return [float(value) for row in rows for value in row[KEYS[query]:]]


class Postgres(System):
    """Binary: the folder of `initdb` and `postgres`. Runs as the user `postgres`, as the server refuses to run as root."""
    name, port = "postgresql", 19432

    def prepare(self, bodies):
        return [csv(body) for body in bodies]

    def reset(self):
        super().reset()
        shutil.chown(self.folder, "postgres")
        subprocess.run(["runuser", "-u", "postgres", "--", os.path.join(self.binary, "initdb"), "-D", self.data(), "-A", "trust",
                        "--locale=C.UTF-8"], check=True, stdout=subprocess.DEVNULL)

    def data(self):
        return os.path.join(self.folder, "data")

    def argv(self):
        settings = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "timezone": "UTC", "shared_buffers": "4GB",
                    "work_mem": "64MB", "max_wal_size": "4GB", "effective_cache_size": "12GB"}
        return ["runuser", "-u", "postgres", "--", os.path.join(self.binary, "postgres"), "-D", self.data(), "-p", str(self.port),
                *(word for key, value in settings.items() for word in ("-c", f"{key}={value}"))]

    def start(self):
        super().start()
        self.run("CREATE TABLE IF NOT EXISTS energy_data(ts bigint NOT NULL, device_id text NOT NULL, data_source text, location text,"
                 + ",".join(f"{field} double precision" for field in FIELDS) + ", PRIMARY KEY(device_id, ts))")

    def ready(self):
        import psycopg2
        try:
            self.connect().close()
        except psycopg2.OperationalError as error:
            raise OSError(str(error)) from error

    def postmaster(self):
        with open(os.path.join(self.data(), "postmaster.pid"), encoding="ascii") as file:
            return int(file.readline())

    def stop(self):
        if self.process:
            os.kill(self.postmaster(), signal.SIGINT)
            self.process.wait(120)
            self.process = None

    def kill(self):
        for pid in self.pids():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait()
        self.process = None
        time.sleep(0.2)
        os.unlink(os.path.join(self.data(), "postmaster.pid"))

    def version(self):
        return subprocess.run([os.path.join(self.binary, "postgres"), "-V"], capture_output=True, text=True, check=True).stdout.strip()

    def connect(self):
        import psycopg2
        connection = psycopg2.connect(host="127.0.0.1", port=self.port, user="postgres", dbname="postgres")
        connection.autocommit = True
        return connection

    def run(self, *statements):
        connection = self.connect()
        for statement in statements:
            connection.cursor().execute(statement)
        connection.close()

    def send(self, connection, body):
        connection.cursor().copy_expert("COPY energy_data FROM STDIN (FORMAT csv)", io.BytesIO(body), size=1 << 20)

    def ping(self, connection):
        connection.cursor().execute("SELECT 1")

    def query(self, connection, query):
        cursor = connection.cursor()
        cursor.execute(questions(self.start_s, self.end_s, lambda width: f"ts / {width} * {width}")[query])
        return query, cursor.fetchall()

    def answer(self, told):
        return values(told)

    def flush(self):
        self.run("VACUUM ANALYZE energy_data", "CHECKPOINT")

    def sizes(self):
        connection = self.connect()
        cursor = connection.cursor()
        cursor.execute("SELECT pg_table_size('energy_data'), pg_indexes_size('energy_data')")
        table, index = cursor.fetchone()
        connection.close()
        return {"data": table, "index": index}, {"log": folder_bytes(os.path.join(self.data(), "pg_wal"))}


class Embedded(System):
    """A library in a worker process (`worker.py`): one JSON line per request and reply. It has one connection.

    The time of a query is the worker's own, up to the rows (DuckDB) or their bytes (chDB), so that the pipe is not in it. `binary` is the folder that holds the package.
    """
    connections, package = 1, ""

    def prepare(self, bodies):
        folder = self.folder + "-rows"
        os.makedirs(folder, exist_ok=True)
        paths = [os.path.join(folder, f"{number:06}.csv") for number in range(len(bodies))]
        if len(glob.glob(folder + "/*.csv")) != len(bodies):
            for path, body in zip(paths, bodies):
                with open(path, "wb") as file:
                    file.write(csv(body))
        return paths

    def start(self):
        with open(self.folder + ".log", "ab") as log:
            self.process = subprocess.Popen([sys.executable, os.path.join(HERE, "worker.py"), self.package, self.folder], stderr=log,
                                            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=self.environment())
        if not self.process.stdout.readline():
            raise RuntimeError(f"{self.name} left, see {self.folder}.log")

    def environment(self):
        return {**super().environment(), "PYTHONPATH": self.binary, "PYTHONDONTWRITEBYTECODE": "1"}

    def version(self):
        return subprocess.run([sys.executable, os.path.join(HERE, "worker.py"), self.package, "--version"], capture_output=True, text=True,
                              check=True, env={**os.environ, "PYTHONPATH": self.binary}).stdout.strip()

    def tell(self, **request):
        self.process.stdin.write((json.dumps(request) + "\n").encode())
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} left, see {self.folder}.log")
        reply = json.loads(line)
        if "error" in reply:
            raise RuntimeError(f"{self.name}: {reply['error']}")
        return reply

    def stop(self):
        if self.process:
            self.process.stdin.close()  # the worker closes its database and leaves
            self.process.wait(60)
            self.process = None

    def connect(self):
        return self

    def close(self):
        """One connection for all; it stays."""

    def send(self, _connection, path):
        self.tell(do="insert", path=path)

    def ping(self, _connection):
        self.tell(do="ping")

    def query(self, _connection, query):
        reply = self.tell(do="query", query=query, start_s=self.start_s, end_s=self.end_s)
        self.seconds = reply["seconds"]
        return query, reply["rows"]

    def answer(self, told):
        return values(told)

    def flush(self):
        self.tell(do="flush")


class DuckDB(Embedded):
    name = package = "duckdb"

    def sizes(self):
        return {"data": file_bytes(os.path.join(self.folder, "db.duckdb"))}, {"log": file_bytes(os.path.join(self.folder, "db.duckdb.wal"))}


class ChDB(Embedded):
    name = package = "chdb"

    def sizes(self):
        active = self.tell(do="active bytes")["bytes"]  # parts that were merged away linger for minutes
        return {"data": active}, {"parts merged away": folder_bytes(self.folder) - active}
