#!/bin/sh
# Prometheus with the rules of this folder beside a running `tombola up` (`make monitor`). Looks at 127.0.0.1:8081, or at
# what prometheus/targets.yml says. MONITOR_LISTEN: where it answers; not 9090, which Debian's package takes at once.
set -eu
listen=${MONITOR_LISTEN:-127.0.0.1:9095}
data=${MONITOR_DATA:-.monitor}
if ! command -v prometheus >/dev/null; then
    echo "make monitor needs Prometheus (2.42 or newer), and there is none on the PATH. Install it with" >&2
    echo "  apt install prometheus      Debian, Ubuntu" >&2
    echo "  brew install prometheus     macOS" >&2
    echo "or run everything in containers: docker compose -f deploy/compose.yaml up --build --wait" >&2
    exit 1
fi
echo "Alerts and graphs: http://$listen/alerts   (data in $data; Ctrl-C stops it)"
exec prometheus --config.file="$(dirname "$0")/prometheus/prometheus.yml" --storage.tsdb.path="$data" \
    --storage.tsdb.retention.time=30d --enable-feature=exemplar-storage --web.listen-address="$listen" --log.level=warn
