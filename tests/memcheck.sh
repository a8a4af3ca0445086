#!/bin/sh
# A server's life under valgrind's memcheck, from the first process to the last: it answers, reloads,
# restarts in place and ends, and nobody has read or written what wasn't his. Not part of `make check`.
#
#   make memcheck
set -eu

die() {
    printf 'memcheck: %s\n' "$*" >&2
    exit 1
}

command -v valgrind >/dev/null || die "there is no valgrind"
pizauth=$1
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir "$dir/run"
chmod 700 "$dir/run"
export HOME="$dir" XDG_RUNTIME_DIR="$dir/run"
cat >"$dir/pizauth.conf" <<'EOF2'
token_event_cmd = "true";
startup_cmd = "true";
account "work" {
    auth_uri = "http://127.0.0.1:1/authorize";
    token_uri = "http://127.0.0.1:1/token";
    client_id = "id";
    token_file = "~/token";
}
EOF2

# Its own processes, those that it forks and those that it becomes; the shells of hooks are others'.
valgrind --quiet --error-exitcode=99 --trace-children=yes --trace-children-skip='*/sh,*/bash,*/dash' \
    --vgdb=no --log-file="$dir/log.%p" "$pizauth" server -d -c "$dir/pizauth.conf" 2>"$dir/said" &
server=$!
tries=600
until "$pizauth" info -j 2>/dev/null | grep -q '"server_running": *true'; do
    tries=$((tries - 1))
    [ "$tries" -gt 0 ] || die "the server doesn't answer: $(cat "$dir/said")"
    # why: valgrind starts slowly, and nothing tells when the server answers.
    sleep 0.1
done
"$pizauth" show work >/dev/null 2>&1 && die "there is a token"
"$pizauth" reload || die "no reload"
"$pizauth" dump >"$dir/dump" || die "no dump"
"$pizauth" restart || die "no restart"
"$pizauth" restore <"$dir/dump" || die "no restore"
"$pizauth" status >/dev/null || die "no status"
"$pizauth" shutdown || die "no end"
status=0
wait "$server" || status=$?
# It doesn't know the system calls of the sandbox, says so on lines of another kind, and goes without.
found=$(grep -h '^==' "$dir"/log.* || true)
[ -z "$found" ] || die "$found"
[ "$status" -eq 0 ] || die "the server ended with status $status: $(cat "$dir/said")"
printf 'memcheck: nothing found in %s processes\n' "$(find "$dir" -name 'log.*' | wc -l)"
