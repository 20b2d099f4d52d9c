#!/usr/bin/env bash
# Everything that docs/benchmarks.md says about a mirror of a million records, in
# one command that can be interrupted and started again: what is done is kept.
#
#   bench/mirror/million.sh DIR            half an hour or so on two cores, 20 GB
#   RECORDS=100000 bench/mirror/million.sh DIR
#   STEPS="load read1000" bench/mirror/million.sh DIR
#
# Steps: load (generated bundles into SQLite, in parts of 50,000, each part timed),
# read1000 and read (bench/mirror before 1,000 records and before all), pack, clone
# (from packs, verified, into another database), sync (2 minutes of copying over
# HTTP), compare, storm (readers while one signer writes as fast as it can), fsck.
# Times are in DIR/results.txt.
set -euo pipefail
[ $# = 1 ] || { sed -n '2,15s/^# \?//p' "$0"; exit 2; }
mkdir -p "$1"
dir=$(cd "$1" && pwd)
cd "$(dirname "$0")/../.."
records=${RECORDS:-1000000} part=50000
steps=${STEPS:-load read1000 read pack clone sync compare storm fsck}
results=$dir/results.txt
go build -o "$dir/bin/" ./cmd/pith ./bench/pith/gen ./bench/mirror
pith=$dir/bin/pith gen=$dir/bin/gen reader=$dir/bin/mirror
export PITH_DATA=$dir/a XDG_CONFIG_HOME=$dir/config
mkdir -p "$dir/done" "$dir/a" "$dir/b" "$dir/c"

say() { printf '%s\n' "$*" | tee -a "$results"; }
# timed NAME COMMAND...: clock, processor time and memory into the results.
timed() {
  local name=$1; shift
  local report; report=$(mktemp)
  /usr/bin/time -o "$report" -f '%e s, processor %U + %S s, %M kB' "$@"
  say "$name: $(tail -1 "$report")"
  rm "$report"
}
once() { # STEP: whether it is asked for and not done
  [[ " $steps " == *" $1 "* ]] && [ ! -e "$dir/done/$1" ]
}

say "== $(date -u +%FT%TZ), $(git describe --always --dirty), load $(cut -d' ' -f1-3 /proc/loadavg), $(nproc) processors"

if once load; then
  for ((first = 0; first < records; first += part)); do
    [ -e "$dir/done/load-$first" ] && continue
    n=$((records - first < part ? records - first : part))
    "$gen" -first $first -n $n -trust "$dir/trust.json" >"$dir/part.jsonl"
    timed "load $n after $first" "$pith" ingest --trust "$dir/trust.json" --again "$dir/part.jsonl"
    touch "$dir/done/load-$first"
  done
  rm -f "$dir/part.jsonl"
  say "database: $(du -m "$dir/a/pith.db" | cut -f1) MB, log: $(du -sm "$dir/a/log" | cut -f1) MB"
  touch "$dir/done/load"
fi

if once read1000; then
  say "-- 1,000 records, a third of them asked again after each other"
  "$reader" -rounds 4 -time 5s | tail -5 | tee -a "$results"
  touch "$dir/done/read1000"
fi

if once read; then
  say "-- $records records, 10,000 of them asked for: they fit into the server's cache"
  "$reader" -db "$dir/a/pith.db" -rounds 4 -time 5s | tail -5 | tee -a "$results"
  say "-- $records records, all asked for alike: nearly none is in the cache"
  "$reader" -db "$dir/a/pith.db" -asked 200000 -rounds 2 -time 5s -cache 1 | tail -5 | tee -a "$results"
  touch "$dir/done/read"
fi

if once pack; then
  timed pack "$pith" archive write "$dir/packs"
  say "packs: $(du -sm "$dir/packs" | cut -f1) MB"
  touch "$dir/done/pack"
fi

if once clone; then
  timed "clone and verify" "$pith" archive clone "$dir/packs" --trust "$dir/trust.json" --data "$dir/b" --db "sqlite:$dir/b/pith.db"
  touch "$dir/done/clone"
fi

serve() { # starts a mirror of the million and sets url and server
  "$pith" serve --trust "$dir/trust.json" --copy=false --listen localhost:0 >"$dir/serve.out" 2>"$dir/serve.err" &
  server=$!
  trap 'kill $server 2>/dev/null || true' EXIT
  until url=$(grep -o 'http://[^/]*' "$dir/serve.out"); do sleep 0.2; kill -0 $server; done
}
unserve() {
  say "the server: $(grep -E 'VmHWM' /proc/$server/status | tr -s '\t ' ' ') at most"
  kill $server; wait $server || true
  trap - EXIT
}

if once sync; then
  serve
  "$pith" mirror add --no-log --all "$url" --data "$dir/c" >/dev/null
  timed "sync for two minutes" timeout -s INT 120 "$pith" mirror sync --data "$dir/c" >/dev/null || true
  say "sync: $("$pith" mirror list --data "$dir/c" | tail -1)"
  unserve
  touch "$dir/done/sync"
fi

if once compare; then
  serve
  timed "compare with the clone" "$pith" compare "$url" "sqlite:$dir/b/pith.db" >/dev/null
  unserve
  touch "$dir/done/compare"
fi

if once storm; then
  say "-- readers, without and with a storm of writes"
  "$reader" -db "$dir/a/pith.db" -storm -rounds 3 -time 5s -rate 2000 | tail -6 | tee -a "$results"
  touch "$dir/done/storm"
fi

if once fsck; then
  timed fsck "$pith" fsck
  touch "$dir/done/fsck"
fi
say "== done"
