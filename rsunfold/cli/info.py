"""``rsunfold info``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from rsunfold.cli.command import handled
from rsunfold.cli.messages import put, show_facts
from rsunfold.cli.options import Overwrite, Quiet, Var, Verbose


@handled
def info(
    file: Annotated[str, typer.Argument(help="Image in ENVI, GeoTIFF, MAT, PNG or any other format that GDAL reads.")],
    var: Var = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the full report to this JSON file; - for standard output.")
    ] = None,
    overwrite: Overwrite = False,
    verbose: Verbose = False,
    quieter: Quiet = False,
) -> None:
    """Show how rsunfold reads a file: bands, wavelengths, nodata, scale, CRS, variables."""
    from rsunfold.io import open_cube
    from rsunfold.io.jsonfile import plain, write_json

    with open_cube(file, var=var) as reader:
        described = reader.describe()
    if str(json_file) == "-":
        put(json.dumps(plain(described), indent=2, allow_nan=False))  # ASCII: a pipe may know no more
        return
    if json_file is not None:
        write_json(json_file, described, overwrite=overwrite)
    show_facts((key, value if isinstance(value, str) else _shown(value)) for key, value in described.items())


def _shown(value: Any) -> str:
    """JSON; of long lists the ends only, the whole is in the --json file."""
    if isinstance(value, list) and len(value) > 8 and not isinstance(value[0], dict):
        return f"{json.dumps(value[:3])[:-1]}, ... {len(value) - 4} more ..., {json.dumps(value[-1:])[1:]}"
    return json.dumps(value, ensure_ascii=False)
