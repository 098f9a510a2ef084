#!/usr/bin/env bash
# A PostgreSQL server for tests: on loopback, in a temporary directory, as an unprivileged user.
#
#   tools/postgres.sh up DIR     initialise and start it; DIR/url holds its address, password included
#   tools/postgres.sh down DIR   stop it and remove DIR
#
# DIR must not exist for up. The server listens on 127.0.0.1 alone, on a free port, and asks for a password that is
# drawn at random. Needs Debian's package postgresql, or initdb and pg_ctl on the PATH.
set -euo pipefail

usage() { echo "usage: tools/postgres.sh up|down DIR" >&2; exit 2; }
[ $# -eq 2 ] || usage
dir=$2

programs=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1 || true)
PATH="${programs:+$programs:}$PATH"
command -v initdb >/dev/null && command -v pg_ctl >/dev/null || {
    echo "error: initdb and pg_ctl are not here; install PostgreSQL (Debian: apt-get install postgresql)" >&2
    exit 2
}

# the server refuses to run as root
as_user() {
    if [ "$(id -u)" -eq 0 ]; then runuser -u postgres -- env PATH="$PATH" "$@"; else "$@"; fi
}

up() {
    [ ! -e "$dir" ] || { echo "error: $dir is there already; tools/postgres.sh down $dir removes it" >&2; exit 2; }
    mkdir -m 755 "$dir"
    [ "$(id -u)" -ne 0 ] || chown postgres "$dir"
    local password port
    password=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
    port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    (umask 077 && printf '%s\n' "$password" >"$dir/password")
    [ "$(id -u)" -ne 0 ] || chown postgres "$dir/password"
    as_user initdb --pgdata="$dir/data" --username=crossgap --pwfile="$dir/password" --auth=scram-sha-256 \
        --encoding=UTF8 --no-sync >"$dir/initdb.log"
    rm "$dir/password"
    as_user pg_ctl --pgdata="$dir/data" --log="$dir/server.log" --wait start \
        --options="-c listen_addresses=127.0.0.1 -c port=$port -c unix_socket_directories='$dir' -c fsync=off" \
        >/dev/null
    (umask 077 && printf 'postgresql://crossgap:%s@127.0.0.1:%s/postgres\n' "$password" "$port" >"$dir/url")
    echo "PostgreSQL runs on 127.0.0.1:$port; its address: export CROSSGAP_STORAGE=\$(cat $dir/url)"
}

down() {
    [ -d "$dir/data" ] || { echo "error: no server of tools/postgres.sh lies in $dir" >&2; exit 2; }
    as_user pg_ctl --pgdata="$dir/data" --mode=immediate --wait stop >/dev/null || echo "it was not running"
    rm -rf "$dir"
}

case $1 in up) up ;; down) down ;; *) usage ;; esac
