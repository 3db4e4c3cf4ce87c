"""``rsunfold evaluate``, one module for each task."""

from __future__ import annotations

import typer

from rsunfold.cli.evaluate.denoise_hsi import denoise_hsi
from rsunfold.cli.evaluate.detect_anomaly import detect_anomaly
from rsunfold.cli.evaluate.detect_ir import detect_ir
from rsunfold.cli.evaluate.select_features import select_features

app = typer.Typer(help="Compare results with ground truth.", no_args_is_help=True)
app.command("detect-ir")(detect_ir)
app.command("denoise-hsi")(denoise_hsi)
app.command("detect-anomaly")(detect_anomaly)
app.command("select-features")(select_features)


@app.callback()
def group() -> None:
    """Compare results with ground truth."""
