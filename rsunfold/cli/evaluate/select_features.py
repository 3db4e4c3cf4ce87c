"""``rsunfold evaluate select-features``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rsunfold.cli.evaluate.finished import evaluation, kept, write_report
from rsunfold.cli.messages import say, say_notes, show
from rsunfold.cli.options import (
    SHARE,
    DropBands,
    HeaderRow,
    Json,
    Memory,
    Overwrite,
    Quiet,
    Threads,
    Verbose,
    refuse_given,
    refuse_outputs,
    refuse_same,
)
from rsunfold.cli.running import use_threads, watched
from rsunfold.cli.words import names_of, whole_numbers, yes_or_no
from rsunfold.errors import UsageError
from rsunfold.registry import DEFAULTS, models_to_compare

if TYPE_CHECKING:
    from rsunfold.infer.features.evaluate import FeatureComparison, Rankers


@evaluation
def select_features(
    context: typer.Context,
    data: Annotated[
        list[str] | None, typer.Option(help="Table with labels, whose samples are clustered; may be repeated.")
    ] = None,
    features: Annotated[
        str, typer.Option(help="Tables: numbers of features to test, comma-separated.")
    ] = "10,20,30,40,50,60,70,80,90,100",
    image: Annotated[
        list[str] | None,
        typer.Option(help="Image, folder or quoted pattern, whose pixels are classified; may be repeated."),
    ] = None,
    labels: Annotated[
        list[str] | None,
        typer.Option(
            help="Class maps with the same names (0: no class), or abundances, the largest of which is the class."
        ),
    ] = None,
    bands: Annotated[str, typer.Option(help="Images: numbers of bands to test, comma-separated.")] = "3,5,10,20,40",
    train_share: Annotated[
        float, SHARE, typer.Option(help="Share of the labelled pixels, or of the tiles, to train on.")
    ] = 0.05,
    split: Annotated[
        str,
        typer.Option(help="random (pixels) or tiles (whole images, or blocks of 16 x 16 pixels of a single image)."),
    ] = "random",
    model: Annotated[
        str | None,
        typer.Option(
            help="One or more models, comma-separated; or all. Options may follow, as in spca-net:published.",
            show_default=f"{DEFAULTS['select-features']}, or none with --ranking",
        ),
    ] = None,
    ranking: Annotated[
        list[Path] | None,
        typer.Option(
            help="Ranking of the table or the images by another program: ..._ranking.json or ..._ranking.csv of "
            "select-features, or a text of numbers from 1, best first; instead of models or, with --model, beside "
            "them; may be repeated."
        ),
    ] = None,
    repeats: Annotated[
        int | None,
        typer.Option(help="Number of k-means starts (default: 20) or of random training sets (default: 10)."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**31, help="Random seed of the first repeat.")] = 0,
    kmeans: Annotated[
        str, typer.Option(help="k-means++ initialisation: plain, as in the literature, or greedy, as in scikit-learn.")
    ] = "plain",
    label: Annotated[
        str | None, typer.Option(help="Tables: column with the labels; its name, or its number from 1.")
    ] = None,
    ignore: Annotated[
        str | None, typer.Option(help="Tables: columns to exclude; names or numbers from 1, comma-separated.")
    ] = None,
    header: HeaderRow = None,
    var: Annotated[str | None, typer.Option(help="Variable of MAT or NPZ files, or a GDAL subdataset.")] = None,
    drop_bands: DropBands = None,
    labels_var: Annotated[str | None, typer.Option(help="Variable with the labels of MAT or NPZ files.")] = None,
    json_file: Json = None,
    picture: Annotated[Path | None, typer.Option(help="Plot the curves of the first data set to a PNG.")] = None,
    memory: Memory = None,
    threads: Threads = None,
    overwrite: Overwrite = False,
    verbose: Verbose = False,
    quieter: Quiet = False,
) -> None:
    """Compute ACC and NMI of k-means on tables, or OA, AA and kappa of an SVM on images, for the chosen features.

    Features are ranked without the labels, with the same settings for all data. The JSON report defines every metric
    and holds the complete curves.
    """
    from rsunfold.infer.batch import expand
    from rsunfold.infer.features.evaluate import evaluate_images, evaluate_tables
    from rsunfold.report import feature_curves_picture

    refuse_outputs(overwrite, json_file, pictures={"--picture": picture})
    if (data is None) == (image is None) or (image is None) != (labels is None):
        raise UsageError("use either --data, or --image and --labels.")
    if kmeans not in ("plain", "greedy"):
        raise UsageError(f"--kmeans must be plain or greedy, not {kmeans!r}.")
    of_tables, of_images = (
        {"features", "kmeans", "label", "ignore", "header"},
        {"bands", "train_share", "split", "drop_bands"},
    )
    if image is not None:
        refuse_given(context, of_tables, "applies to --data and cannot be combined with --image")
    else:
        refuse_given(context, of_images, "applies to --image and cannot be combined with --data")
    use_threads(threads)
    rankers = _rankers(model, ranking or [], memory)

    def told(text: str) -> None:
        say(text, 1)

    def shown(done: FeatureComparison) -> None:
        _tell(done, json_file, overwrite)

    if data is not None:
        with kept(shown) as keep, watched("evaluating"):
            done = evaluate_tables(
                expand(data, outputs=False, say=say),
                rankers,
                whole_numbers(features, "--features", "numbers of features such as 10,20,30"),
                repeats=20 if repeats is None else repeats,
                seed=seed,
                plain=kmeans == "plain",
                var=var,
                label=label,
                labels_var=labels_var,
                ignore=names_of(ignore),
                header=yes_or_no(header, "--header"),
                say=told,
                keep=keep,
            )
    else:
        images, truth = expand(image or [], say=say), expand(labels or [], say=say)
        if len(images) == len(truth) == 1:
            truth = dict.fromkeys(images, next(iter(truth.values())))
        with kept(shown) as keep, watched("evaluating"):
            done = evaluate_images(
                images,
                truth,
                rankers,
                whole_numbers(bands, "--bands", "numbers of bands such as 3,5,10"),
                share=train_share,
                split=split,
                repeats=10 if repeats is None else repeats,
                seed=seed,
                var=var,
                drop_bands=names_of(drop_bands),
                labels_var=labels_var,
                say=told,
                keep=keep,
            )
    shown(done)
    if picture is not None:
        panels, whole = done.panels(done.data[0])
        title = f"{done.data[0]}: mean ± std"
        feature_curves_picture(picture, panels, baselines=whole, noun=done.noun, title=title, overwrite=overwrite)


def _rankers(model: str | None, rankings: list[Path], memory: str | None) -> Rankers:
    """The models and rankings to compare, the default model where there are none; raises UsageError for a ranking that
    is given twice, or called like another row."""
    from rsunfold.infer.features.evaluate import ALL
    from rsunfold.infer.features.given import GivenRanking
    from rsunfold.infer.features.select import FeatureRanker

    refuse_same("--ranking", rankings)
    if model is None and not rankings:
        model = DEFAULTS["select-features"]
    models = {} if model is None else models_to_compare(model, "select-features", "cpu")
    for name in (name for name in map(str, rankings) if name in (ALL, *models)):
        raise UsageError(f"--ranking {name} would be called like another row of the table; rename the file.")
    given = [GivenRanking(path, memory=memory) for path in rankings]
    return [*(FeatureRanker(name, memory=memory) for name in models), *given]


def _tell(done: FeatureComparison, json_file: Path | None, overwrite: bool) -> None:
    """Show and write what is done."""
    from rsunfold.report import table

    show(table(done.table_rows()))
    say_notes(done.notes)
    write_report(done, json_file, overwrite)
