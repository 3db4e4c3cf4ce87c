"""Options that several subcommands have, and what is refused of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Annotated

import typer

from rsunfold.cli.messages import louder, quieter
from rsunfold.errors import UsageError
from rsunfold.registry import DEFAULTS

SHARE = "a share"
"""Beside an option that some think of in percent: 0.01 stands for 1 %."""
Verbose = Annotated[
    bool,
    typer.Option(
        "-v", "--verbose", help="Print more messages, and tracebacks on errors.", callback=louder, is_eager=True
    ),
]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Print errors only.", callback=quieter, is_eager=True)]
Images = Annotated[
    list[str], typer.Argument(help="Images, folders of images, or quoted patterns such as 'frames/*.png'.")
]
Cubes = Annotated[list[str], typer.Argument(help="Cubes, folders of cubes, or quoted patterns such as 'scenes/*.hdr'.")]
MIRRORED = (
    "Results of patterns with a wildcard for folders, such as 'in/*/*.tif' or 'in/**/*.tif', lie there in folders of "
    "the same names."
)
OutputFolder = Annotated[Path, typer.Option("-o", "--output", help=f"Output folder; created if missing. {MIRRORED}")]
Var = Annotated[str | None, typer.Option(help="Variable of a MAT file, or a GDAL subdataset.")]
Band = Annotated[int | None, typer.Option(min=1, help="Band to use, counted from 1, if the image has several.")]
Bands = Annotated[
    str | None,
    typer.Option(
        "--band",
        metavar="N|all|RANGES",
        help="Band to use, counted from 1, if the image has several. Of a stack of frames, such as a video, 'all' or "
        "ranges such as 1-100,250 make every one of these bands, or of the pages of a TIFF, an image of its own with "
        "results of its own: NAME_b007_..., or NAME_p007_... for a page. With --scale, their pictures are comparable.",
    ),
]
Scale = Annotated[
    str | None,
    typer.Option(
        metavar="COLD,HOT",
        help="Physical values (after the file's scale and offset) mapped to gray 0 and 1, such as 7000,9000, or 255,0 "
        "where dark is hot; default: those of the weights if they were made for some, else 0,255 for 8-bit images and "
        "the 0.1 and 99.9 percentiles of the valid pixels for others. Fix it for series of frames.",
    ),
]
DropBands = Annotated[
    str | None,
    typer.Option(
        metavar="BANDS",
        help="Images: bands to exclude, by number from 1, range or name, such as 104-108,150-163,220 or B1,B10.",
    ),
]
Envi = Annotated[bool, typer.Option("--envi", help="Write ENVI rasters instead of GeoTIFF.")]
Device = Annotated[str, typer.Option(help="auto (cuda if available, else mps, else cpu), cpu, cuda, cuda:1 or mps.")]
Header = Annotated[
    str | None,
    typer.Option(
        metavar="yes|no",
        help="Text tables: whether the first row (with --features rows: the first column) holds names; default: "
        "decided from the content of the table.",
    ),
]
HeaderRow = Annotated[
    str | None,
    typer.Option(
        "--header",
        metavar="yes|no",
        help="Text tables: whether the first row holds names; default: decided from the content of the table.",
    ),
]
Memory = Annotated[
    str | None, typer.Option(help="Memory limit for the whole process, such as 2GB; default: half of the free memory.")
]
Threads = Annotated[int | None, typer.Option(min=1, help="Number of CPU threads; default: all cores allowed.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Overwrite existing outputs.")]
SkipExisting = Annotated[
    bool,
    typer.Option(
        "--skip-existing", help="Skip inputs that already have results, and leave to other runs what they are making."
    ),
]
Table = Annotated[
    Path | None,
    typer.Option(
        help="Also write a CSV of the findings of all images, and NAME_images.csv with one line per image. "
        "--skip-existing makes them anew."
    ),
]
Threshold = Annotated[
    float | None,
    SHARE,
    typer.Option(help="Score (0 to 1) above which a pixel belongs to a target; default: set by the model."),
]
Confidence = Annotated[
    float | None,
    SHARE,
    typer.Option(
        help="Keep a target only if the mean log-odds of its pixels exceed those of this score (0 to 1); default: set "
        "by the model, or equal to --threshold if that is given."
    ),
]
MaxArea = Annotated[
    int | None,
    typer.Option(min=0, help="Maximum target area in pixels (0: no limit); default: set by the model."),
]
Reach = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="The more groups above the threshold within this many rows and columns, the surer a target must be (0: "
        "judge each alone); default: set by the model, or 0 if --threshold is given without --confidence.",
    ),
]
Weights = Annotated[
    str | None, typer.Option(help="Shipped weights (see rsunfold weights list) or a .safetensors file.")
]
ComparedWeights = Annotated[
    list[str] | None,
    typer.Option(
        "--weights",
        help="Shipped weights (see rsunfold weights list) or a .safetensors file; repeat it to compare several.",
    ),
]
OF_WEIGHTS: dict[str, str] = {task: f"that of --weights, or {name}" for task, name in DEFAULTS.items()}
"""What --model is by default where there are --weights."""
Json = Annotated[Path | None, typer.Option("--json", help="Write the full report to this JSON file.")]

Priors = Annotated[
    str | None,
    typer.Option(
        help="Extra steps around the model, comma-separated: attribute-profile, kernel, small-object, edge-preserving; "
        "or none. Default: all of them for lrr-net-plus, none for any other model or with --literal."
    ),
]
ObjectSize = Annotated[
    int | None,
    typer.Option(
        "--object-size",
        min=1,
        help="Area in pixels that anomalies stay below, for the priors attribute-profile, small-object; default: 100.",
    ),
]
Seed = Annotated[int, typer.Option(min=0, help="Random seed.")]
# The defaults of models are written out here, since the help must not load the models.
Epochs = Annotated[
    int | None,
    typer.Option(help="Training steps per scene, 0 or more; default: 40 for lrr-net-plus (no other model has it)."),
]
Inner = Annotated[
    int | None,
    typer.Option(
        help="Side of the inner window in pixels, odd; default: 15 for local-rx, 11 for crd (no other model has it)."
    ),
]
Outer = Annotated[
    int | None,
    typer.Option(
        help="Side of the outer window in pixels, odd, larger than --inner; default: 23 for local-rx, 15 for crd (no "
        "other model has it)."
    ),
]
ComponentCount = Annotated[
    int | None,
    typer.Option(
        help="Number of principal components, 1 or more; default: all for rx, 20 for kernel-rx (no other model has it)."
    ),
]
LiteralPaper = Annotated[
    bool, typer.Option("--literal", help="Use the paper's own settings, for comparison (lrr-net-plus only).")
]
WindowSide = Annotated[
    int | None,
    typer.Option(
        "--window",
        help="Process the image in windows of this many pixels a side (16 or more), each with its own background "
        "model; default: the whole image at once.",
    ),
]


PANELS = {
    "Input": "band clean data ignore image images label labels labels_var masks noisy noisy_var only predictions "
    "ranking restored restored_var scale scenes score_var truth truth_var var",
    "Output": "dtype envi json_file out output overwrite picture pictures pixel rank_order report residual roc "
    "save_noisy skip_existing stages table worst",
    "Computing": "device half memory threads",
    "Messages": "quiet quieter verbose",
}
"""Parameters by the panel of the help text that shows them; the others, the task's own, are in the first panel."""


def refuse_contradiction(overwrite: bool, skip_existing: bool) -> None:
    """Raise UsageError when outputs that exist are both to be replaced and to be left."""
    if overwrite and skip_existing:
        raise UsageError("--overwrite and --skip-existing contradict each other; use only one of them.")


def given_in(context: typer.Context) -> dict[str, str]:
    """The option of each parameter that the command line gives, by the parameter's name, in the order of the help."""
    given = {}
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if parameter.name and source is not None and source.name == "COMMANDLINE":
            given[parameter.name] = parameter.opts[0]
    return given


def refuse_given(context: typer.Context, names: Collection[str], why: str) -> None:
    """Raise UsageError, "--model ``why``.", for the first of the parameters ``names`` that the command line gives."""
    for name, option in given_in(context).items():
        if name in names:
            raise UsageError(f"{option} {why}.")


def refuse_same(option: str, paths: Iterable[Path]) -> None:
    """Raise UsageError for a file or folder that a repeated option names twice."""
    seen = set[Path]()
    for path in paths:
        if path.resolve() in seen:
            raise UsageError(f"{option} names {path} twice.")
        seen.add(path.resolve())


def refuse_outputs(overwrite: bool, *paths: Path | None, pictures: Mapping[str, Path | None] | None = None) -> None:
    """Raise OutputError for the first of the files asked for that exists, UsageError for two of one name and for
    ``pictures``, by option, that are not called .png: better before the work than after."""
    from rsunfold.io.atomic import refuse_existing

    seen = set[Path]()
    for option, picture in (pictures or {}).items():
        if picture is not None and picture.suffix.lower() != ".png":
            raise UsageError(f"{option} writes PNG pictures: give a name that ends in .png, not {picture}.")
    for path in (*paths, *(pictures or {}).values()):
        if path is not None:
            if str(path) == "-":
                raise UsageError("standard output is for the table; give a file instead of -.")
            refuse_existing(path, overwrite)
            if path.resolve() in seen:
                raise UsageError(f"two outputs have the name {path}; give each its own.")
            seen.add(path.resolve())
