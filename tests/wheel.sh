#!/bin/sh
# Builds the wheel, installs it in an empty environment outside the checkout, and runs the demo there.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$root/.venv/bin/python" -m build --wheel --outdir "$work/dist" "$root"
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --constraint "$root/constraints.txt" "$work"/dist/*.whl
cd "$work"
venv/bin/rsunfold weights verify
test -e venv/lib/python3*/site-packages/rsunfold/py.typed
venv/bin/rsunfold sample ir scenes --count 2
venv/bin/rsunfold detect-ir 'scenes/images/*.png' --output results
test -s results/scene-001-clouds_summary.json
echo "the wheel runs the demo on its own"
