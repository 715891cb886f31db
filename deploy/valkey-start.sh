#!/bin/sh
# This is where a Valkey gets its users: `valkey-start.sh [options of valkey-server]`.
# Passwords come from the environment (<USER>_PASSWORD) and reach the server hashed and by standard input, so they stand
# neither on a command line, which everybody on the machine can read, nor in a file.
set -eu
umask 077

# One line per user: comments away, indented lines joined.
joined=$(awk '
  /^[ \t]*(#|$)/ { next }
  /^[ \t]/ { $1 = $1; line = line " " $0; next }
  { if (line) print line; line = $0 }
  END { if (line) print line }
' "${USERS_FILE:-$(dirname "$0")/users.acl}")

users=$(printf '%s\n' "$joined" | while read -r _ name rules; do
  case $name in
  *[!A-Za-z0-9_]*)
    # The shell would read another variable, and take its own words for the password.
    echo "valkey-start.sh: user $name: names are of letters, digits and _, since <NAME>_PASSWORD is a variable" >&2
    exit 64
    ;;
  esac
  eval "password=\${$(printf %s "$name" | tr '[:lower:]' '[:upper:]')_PASSWORD:-}"
  [ -n "$password" ] || continue
  hash=$(printf %s "$password" | sha256sum | cut -d ' ' -f 1)
  printf 'user %s reset on #%s %s\n' "$name" "$hash" "$rules"
done)

if [ -z "$users" ]; then
  echo "valkey-start.sh: no user: set TASKCACHE_PASSWORD, CELERY_PASSWORD or OPERATOR_PASSWORD" >&2
  exit 64
fi

# `exec`, so that SIGTERM reaches the server itself and it saves what it has to save.
exec "${VALKEY_SERVER:-valkey-server}" "$@" - <<EOF
user default reset off
$users
EOF
