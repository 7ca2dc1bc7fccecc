#!/usr/bin/env bash
# Makes tests/fixtures/data-VERSION.tar.xz, the data folder of a release, for the test that every later
# program goes on with it. To be run once for each release, with its program:
#   tests/peers/make_data_fixture.sh [PRELIM]
# Its studies are the repository's own samples. One is read and delivered, one has a delivery that is
# still open, one takes instances; the node was killed, so its journal is live.
set -euo pipefail
cd "$(dirname "$0")/../.."
prelim=$(realpath "${1:-target/release/prelim}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
version=$("$prelim" --version | cut -d ' ' -f 2)
python=.venv/bin/python
data="$work/data-$version"
# Small files of the journal: the tests unpack them.
serve() {
    "$prelim" serve --data "$data" --dicom 127.0.0.1:18113 --http 127.0.0.1:0 --set assemble.quiet_period_s=600 \
        --set store.journal_segment_bytes=8388608 --set 'telemetry.filter="warn"' \
        --set 'deliver.folder.share.path="'"$work/share"'"' \
        --set 'deliver.folder.share.files=["report.txt"]' "$@" &
    node=$!
    until [ -s "$data/node.json" ]; do kill -0 $node && sleep 0.1; done
}
send() { "$prelim" send PRELIM@127.0.0.1:18113 "$@"; }
state_of() { "$prelim" study "$1" --data "$data" --json | $python -c 'import json,sys; print(json.load(sys.stdin)["state"])'; }
until_is() { for _ in $(seq 300); do [ "$(state_of "$1")" = "$2" ] && return; sleep 0.1; done; echo "$1 is not $2" >&2; exit 1; }
xray() { $python tests/peers/make_cr.py tests/fixtures/cxr/"$1" "$work/$2.dcm" "StudyInstanceUID=$3" "SOPInstanceUID=$3.1.1" "SeriesInstanceUID=$3.1" >/dev/null; }

mkdir "$work/share"
xray pneumonia_person100_bacteria_482.jpeg one 1.2.826.0.1.3680043.10.1.1
xray normal_IM-0016-0001.jpeg two 1.2.826.0.1.3680043.10.1.2
$python tests/peers/make_series.py "$work/three" 1.2.826.0.1.3680043.10.1.3 3 >/dev/null
serve
send "$work/one.dcm"
"$prelim" study complete 1.2.826.0.1.3680043.10.1.1 --data "$data"
until_is 1.2.826.0.1.3680043.10.1.1 delivered
kill $node && wait $node
serve --set 'deliver.release_by_hand=["folder.share"]'
send "$work/two.dcm"
"$prelim" study complete 1.2.826.0.1.3680043.10.1.2 --data "$data"
until_is 1.2.826.0.1.3680043.10.1.2 composed
send "$work"/three/1-[12].dcm
until_is 1.2.826.0.1.3680043.10.1.3 receiving
kill -9 $node && ! wait $node
rm "$data/node.json"
tar -C "$work" --sort=name --owner=0 --group=0 --numeric-owner -cJf "tests/fixtures/data-$version.tar.xz" "data-$version"
ls -l "tests/fixtures/data-$version.tar.xz"
