"""Time and memory of select-features on an image of any size, written to disk first and read from there.

    python benchmarks/select_features.py                                  # 333 x 333 x 204: 111,000 pixels
    python benchmarks/select_features.py --models css,spca-net,lapscore
    python benchmarks/select_features.py --large --folder /big/disk       # 4000 x 4000 x 200, 6.4 GB, --memory 2GB

The image is a synthetic scene of int16, repeated and mirrored, with noise; each model runs in a process of its own,
whose largest resident set is the memory given. The time is that of the whole command but starting Python, files and
picture included; beside it stands that of the ranking's own imports.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from cubes import strips
from rich.console import Console

from rsunfold.cube import Meta
from rsunfold.io import RasterWriter
from rsunfold.io.jsonfile import write_json
from rsunfold.report import table
from rsunfold.simulate.hyperspectral import hyperspectral_scene

TILE = 250


def write_cube(path: Path, rows: int, cols: int, bands: int) -> None:
    """An ENVI cube of int16, reflectance x 10000."""
    scene = hyperspectral_scene(TILE, TILE, bands, endmembers=7, seed=0)
    counts = np.rint(scene.data / scene.data.max() * 9000).astype(np.int16)
    rng = np.random.default_rng(0)
    meta = Meta(wavelengths=tuple(float(w) for w in scene.wavelengths), scales=(1e-4,) * bands, offsets=(0.0,) * bands)
    with RasterWriter(path, bands=bands, rows=rows, cols=cols, dtype=np.int16, meta=meta) as writer:
        for window, part in strips(counts, rows, cols, 25):
            # As many numbers as it takes, shifted: to draw all of a large cube would take minutes.
            noise = np.rint(20 * rng.standard_normal((bands, 1, min(cols, 4096)), np.float32)).astype(np.int16)
            writer.write(part + np.resize(noise, part.shape), window)


def measure(path: Path, folder: Path, model: str, memory: str | None, count: int, threads: int | None) -> Any:
    """(seconds of loading, seconds, peak bytes, report) of one run; for a process of its own."""
    begun = time.perf_counter()
    from rsunfold.infer.features.run import Options, select_file
    from rsunfold.infer.features.select import FeatureRanker, Wanted

    if threads:
        import torch

        torch.set_num_threads(threads)
    ranker = FeatureRanker(model, memory=memory)
    loaded = time.perf_counter() - begun
    done = select_file(str(path), folder, model, ranker, Wanted(count=count), Options(envi=True, overwrite=True))
    seconds = time.perf_counter() - begun - loaded
    return loaded, seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, done.summary


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="333x333x204", help="ROWSxCOLSxBANDS")
    parser.add_argument("--large", action="store_true", help="4000x4000x200 with --memory 2GB")
    parser.add_argument("--models", default="spca-net,css", help="comma-separated")
    parser.add_argument("-k", type=int, default=20)
    parser.add_argument("--memory")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--folder", type=Path, help="where the image goes; default: a temporary folder")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.large:
        args.size, args.memory = "4000x4000x200", args.memory or "2GB"
    height, width, bands = (int(part) for part in args.size.split("x"))
    rows = []
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        write_cube(folder / "cube.img", height, width, bands)
        for model in args.models.split(","):
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                call = (folder / "cube.img", folder, model, args.memory, args.k, args.threads)
                loaded, seconds, peak, summary = pool.apply(measure, call)
            rows.append(
                {
                    "model": model,
                    "image": args.size,
                    "budget": args.memory,
                    "loading, s": loaded,
                    "seconds": seconds,
                    "peak resident GB": peak / 1e9,
                    "explained by k": summary["explained_variance"],
                    "k": args.k,
                }
            )
    Console(width=200).print(table(rows))
    if args.json:
        write_json(args.json, rows, overwrite=True)


if __name__ == "__main__":
    main()
