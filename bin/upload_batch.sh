#!/bin/sh
# Uploads a picture N times, to the master that a key-value store knows.
# `cargo xtask upload` does the same for many pictures at once, with a progress bar.
set -eu

if [ $# -ne 3 ]; then
    echo "usage: $0 KV_ENDPOINT IMAGE N" >&2
    exit 64
fi
kv=${1#http://} image=$2 count=$3
case $kv in *:*) ;; *) kv=$kv:9000 ;; esac
case $count in '' | *[!0-9]*) echo "error: not a number: \`$count\`" >&2; exit 64 ;; esac
[ -r "$image" ] || { echo "error: cannot read \`$image\`" >&2; exit 66; }

master=$(curl -fsS "http://$kv/masterendpoint") || {
    echo "error: the key-value store at $kv knows no master" >&2
    exit 69
}
i=0
while [ "$i" -lt "$count" ]; do
    curl -fsS -F "image=@$image" "http://$master/task" || {
        echo "error: upload $((i + 1)) of $count to $master failed" >&2
        exit 69
    }
    i=$((i + 1))
done
echo "$count uploaded to $master"
