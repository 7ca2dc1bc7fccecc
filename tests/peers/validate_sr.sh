#!/usr/bin/env bash
# Runs other people's validators over our result objects; see validate_sr.py --help.
# Needs dicom3tools, dcmtk, poppler-utils, libpixelmed-java with a JRE, and .venv (scripts/test).
set -euo pipefail
repository="$(cd "$(dirname "$0")/../.." && pwd)"
exec "$repository/.venv/bin/python" "$repository/tests/peers/validate_sr.py" "$@"
