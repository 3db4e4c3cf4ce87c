"""``rsunfold select-features``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from rsunfold.cli.command import handled
from rsunfold.cli.messages import counted, say, say_notes
from rsunfold.cli.options import (
    SHARE,
    DropBands,
    Envi,
    Header,
    Memory,
    OutputFolder,
    Overwrite,
    Quiet,
    SkipExisting,
    Threads,
    Verbose,
    refuse_contradiction,
    refuse_given,
)
from rsunfold.cli.running import each_input, input_files, tell_end, use_threads
from rsunfold.cli.words import model_options, names_of, ranges, yes_or_no
from rsunfold.registry import DEFAULTS


@handled
def select_features(
    context: typer.Context,
    inputs: Annotated[
        list[str], typer.Argument(help="Images or tables, folders of images, or quoted patterns such as 'in/*.hdr'.")
    ],
    output: OutputFolder,
    count: Annotated[int | None, typer.Option("-k", "--count", help="Number of bands or features to choose.")] = None,
    variance: Annotated[
        float | None,
        SHARE,
        typer.Option(
            help="Choose the fewest that together explain this share of the variance, such as 0.999; instead of -k."
        ),
    ] = None,
    like: Annotated[
        str | None,
        typer.Option(
            metavar="FIRST_ranking.json",
            help="Choose the same as an earlier selection did, found by wavelength, name or number; instead of -k.",
        ),
    ] = None,
    model: Annotated[
        str,
        typer.Option(
            help="Network or classical method (see rsunfold models); options may follow, as in css:standardised=false."
        ),
    ] = DEFAULTS["select-features"],
    var: Annotated[str | None, typer.Option(help="Variable of a MAT or NPZ file, or a GDAL subdataset.")] = None,
    min_gap: Annotated[
        float | None, typer.Option(metavar="NM", help="Images: minimum distance between chosen bands, in nm.")
    ] = None,
    drop: Annotated[
        str | None,
        typer.Option(
            metavar="RANGES", help="Images: wavelength ranges to exclude, in nm, such as 1340-1450,1800-1960."
        ),
    ] = None,
    keep: Annotated[
        str | None,
        typer.Option(metavar="RANGES", help="Images: wavelength ranges to choose from, in nm, such as 400-1000."),
    ] = None,
    drop_bands: DropBands = None,
    features: Annotated[
        str, typer.Option(help="Tables: whether the features are the columns or the rows.")
    ] = "columns",
    ignore: Annotated[
        str | None,
        typer.Option(
            help="Tables: columns that are not features, kept in the output; names or numbers from 1, comma-separated."
        ),
    ] = None,
    label: Annotated[
        str | None,
        typer.Option(
            help="Tables: column with the labels, which is not used for the ranking but kept in the output; its name, "
            "or its number from 1."
        ),
    ] = None,
    header: Header = None,
    rank: Annotated[
        int | None,
        typer.Option(min=1, help="Number of components that the model looks for; default: chosen from their variance."),
    ] = None,
    norms: Annotated[
        bool, typer.Option("--norms", help="Rank by the row norms of W alone, ignoring redundancy between features.")
    ] = False,
    published: Annotated[
        bool, typer.Option("--published", help="Reproduce the behaviour of the published code.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Random seed.")] = 0,
    rank_order: Annotated[
        bool, typer.Option("--rank-order", help="Order the output from best to worst instead of by wavelength.")
    ] = False,
    envi: Envi = False,
    picture: Annotated[
        bool, typer.Option("--picture/--no-picture", help="Write a PNG picture of what was chosen.")
    ] = True,
    overwrite: Overwrite = False,
    skip_existing: SkipExisting = False,
    memory: Memory = None,
    threads: Threads = None,
    verbose: Verbose = False,
    quieter: Quiet = False,
) -> None:
    """Choose the bands of an image, or the features of a table, that best preserve its information, without labels.

    For each input, writes a ranking of all bands, with the reason for each band left out (..._ranking.csv, .json), the
    reduced image or table (..._selected) and a picture. Bad bands, constant bands and pixels without data are ignored.
    Existing files are replaced only with --overwrite.
    """
    refuse_contradiction(overwrite, skip_existing)
    if like is not None:
        of_models = {"model", "rank", "norms", "published", "seed"}
        refuse_given(context, of_models, "cannot be combined with --like, which applies an earlier choice as it is")
    from rsunfold.infer.earlier import is_done
    from rsunfold.infer.features.earlier import EarlierChoice
    from rsunfold.infer.features.run import Options, SelectedFiles, about, replaced_names, select_file, written_names
    from rsunfold.infer.features.select import FeatureRanker, Wanted
    from rsunfold.infer.results import results_folder

    folder = results_folder(output)
    earlier = None if like is None else EarlierChoice.of(like)
    wanted = Wanted(count=count, variance=variance, min_gap=min_gap, like=earlier)
    options = Options(
        var=var,
        features=features,
        ignore=names_of(ignore),
        label=label,
        header=yes_or_no(header, "--header"),
        drop=ranges(drop, "--drop"),
        keep=ranges(keep, "--keep"),
        drop_bands=names_of(drop_bands),
        rank_order=rank_order,
        envi=envi,
        picture=picture,
        overwrite=overwrite,
    )
    files = input_files(inputs, overwrite, lambda stem: (folder / name for name in replaced_names(stem, options)))
    use_threads(threads)
    chosen: dict[str, Any] = {"model": model, "seed": seed}
    chosen["options"] = model_options(rank=rank, norms=norms, published=published)
    ranker = FeatureRanker(**(chosen if earlier is None else earlier.model), memory=memory)

    def run(source: str, stem: str) -> SelectedFiles:
        return select_file(source, folder, stem, ranker, wanted, options)

    def done(source: str, stem: str) -> bool:
        return is_done(folder, written_names(folder, stem, options), source, about(ranker, wanted, options))

    def tell(source: str, result: SelectedFiles) -> None:
        s = result.summary
        noun = "band" if "bands" in s else "feature"
        aside = len(s[f"{noun}s_left_out"])
        beside = f", {aside} left out" if aside else ""
        explained = f"{100 * s['explained_variance']:.2f} % of the variance explained"
        total = counted(s[f"{noun}s"], noun)
        say(f"{source}: {s['selected']} of {total} chosen{beside}, {explained}, {s['seconds']:.1f} s")
        say(f"  {noun}s, best first: {_listed([i + 1 for i in result.ranking[: s['selected']]])}", 1)
        say_notes(s["notes"])

    made, count = each_input(files, run, tell, done=done if skip_existing else None)
    tell_end(f"{made} of {counted(count, 'input')} reduced", ranker.spec.name, made, count, folder)


def _listed(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers))
