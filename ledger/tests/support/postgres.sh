#!/bin/sh
# A PostgreSQL of one's own for tests: postgres.sh [tls]
# Prints "ready FOLDER PORT" once it answers, serves until its standard input ends, and leaves nothing behind.
# FOLDER has its socket, and with `tls` its certificate authority, `ca.crt`. Exit 77: there is no PostgreSQL here.
set -eu
tls="${1:-}"

bin=""
for folder in ${WATTLOG_POSTGRES_BIN:-} /usr/lib/postgresql/*/bin /usr/pgsql-*/bin /usr/local/bin /usr/bin; do
  if [ -x "$folder/initdb" ] && [ -x "$folder/postgres" ] && [ -x "$folder/pg_isready" ]; then bin="$folder"; fi
done
if [ -z "$bin" ]; then exit 77; fi

folder="$(mktemp -d)"
as="" # PostgreSQL does not run as root.
if [ "$(id -u)" -eq 0 ]; then
  if ! id postgres >/dev/null 2>&1; then exit 77; fi
  chown postgres "$folder"
  as="setpriv --reuid=postgres --regid=postgres --clear-groups env HOME=$folder"
fi
chmod 755 "$folder"
server=""
stop() {
  if [ -n "$server" ]; then kill -INT "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; fi
  rm -rf "$folder"
}
trap stop EXIT
trap 'exit 1' INT TERM HUP

cd "$folder"
$as "$bin/initdb" -D "$folder/data" -U wattlog -A trust -E UTF8 --locale=C -N >"$folder/log" 2>&1 || { cat "$folder/log" >&2; exit 1; }
set -- -c fsync=off -c full_page_writes=off -c unix_socket_directories="$folder" -c max_connections=60
if [ "$tls" = tls ]; then
  $as openssl req -new -x509 -days 2 -nodes -subj /CN=wattlog-test-ca -newkey rsa:2048 -keyout ca.key -out ca.crt 2>/dev/null
  $as openssl req -new -nodes -subj /CN=localhost -newkey rsa:2048 -keyout server.key -out server.csr 2>/dev/null
  printf 'subjectAltName=DNS:localhost\n' >san; chmod 644 san
  $as openssl x509 -req -days 2 -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -extfile san -out server.crt 2>/dev/null
  $as chmod 600 server.key
  # Only TLS, and only with a password.
  $as sh -c 'printf "local all all trust\nhostssl all all all scram-sha-256\n" >data/pg_hba.conf'
  set -- "$@" -c ssl=on -c ssl_cert_file="$folder/server.crt" -c ssl_key_file="$folder/server.key"
fi

tries=0
while :; do
  port="$(($(od -An -N2 -tu2 /dev/urandom) % 20000 + 20000))"
  $as "$bin/postgres" -D "$folder/data" -p "$port" -c listen_addresses=127.0.0.1 "$@" >>"$folder/log" 2>&1 </dev/null &
  server=$!
  waited=0
  while kill -0 "$server" 2>/dev/null && [ "$waited" -lt 300 ]; do
    if "$bin/pg_isready" -q -h "$folder" -p "$port" -U wattlog -d postgres; then
      echo "ready $folder $port"
      cat >/dev/null
      exit 0
    fi
    waited=$((waited + 1))
    sleep 0.1
  done
  wait "$server" 2>/dev/null || true
  server=""
  tries=$((tries + 1)) # most often the port was taken
  if [ "$tries" -ge 5 ]; then cat "$folder/log" >&2; exit 1; fi
done
