"""Time and memory of denoise-hsi on a cube of any size, written to disk first and read from there.

    python benchmarks/denoise_hsi.py                                               # 610 x 340 x 103, like PaviaU
    python benchmarks/denoise_hsi.py --sizes 256x256 512x512 1024x1024 --bands 103 # seconds against pixels
    python benchmarks/denoise_hsi.py --sizes 2000x2000 --bands 200 --memory 4GB

The cube is a synthetic scene repeated, mirrored from copy to copy, with Gaussian noise of a level that differs from
band to band; each is denoised in a process of its own. Memory is that process's largest resident set.
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
from rich.console import Console

from rsunfold.cube import Meta, Window
from rsunfold.infer.hsi.denoiser import Denoiser
from rsunfold.infer.hsi.run import Options, denoise_file
from rsunfold.io import RasterWriter
from rsunfold.report import table, write_json
from rsunfold.simulate.hyperspectral import hyperspectral_scene

TILE = 256


def write_cube(path: Path, rows: int, cols: int, bands: int) -> None:
    """An ENVI cube of float32 reflectance."""
    scene = hyperspectral_scene(TILE, TILE, bands, endmembers=7, seed=0)
    rng = np.random.default_rng(0)
    sigma = rng.uniform(5, 55, bands).astype(np.float32)[:, None, None] / 255
    mirrored = np.concatenate([scene.data, scene.data[:, :, ::-1]], axis=2)
    wide = np.tile(mirrored, (1, 1, -(-cols // (2 * TILE))))[:, :, :cols]
    meta = Meta(wavelengths=tuple(float(w) for w in scene.wavelengths))
    with RasterWriter(path, bands=bands, rows=rows, cols=cols, dtype=np.float32, meta=meta) as writer:
        for number, row in enumerate(range(0, rows, TILE)):
            height = min(TILE, rows - row)
            strip = (wide if number % 2 == 0 else wide[:, ::-1])[:, :height]
            for top in range(0, height, 32):
                part = strip[:, top : top + 32]
                noisy = part + sigma * rng.standard_normal(part.shape, np.float32)
                writer.write(noisy, Window(row + top, 0, part.shape[1], cols))


def measure(path: Path, folder: Path, model: str, weights: str | None, memory: str, threads: int | None) -> Any:
    """(seconds, peak bytes, summary) of one run; for a process of its own."""
    import torch

    if threads:
        torch.set_num_threads(threads)
    begun = time.perf_counter()
    denoiser = Denoiser(model, weights=weights, memory=memory, device="cpu")
    done = denoise_file(str(path), folder / "out.img", denoiser, Options(overwrite=True))
    seconds = time.perf_counter() - begun
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, done.summary


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["610x340"], help="ROWSxCOLS")
    parser.add_argument("--bands", type=int, default=103)
    parser.add_argument("--models", nargs="+", default=["star-net"])
    parser.add_argument("--weights")
    parser.add_argument("--memory", default="3GB")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--folder", type=Path, help="where the cubes go; default: a temporary folder")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        for size in args.sizes:
            height, width = (int(part) for part in size.split("x"))
            write_cube(folder / "cube.img", height, width, args.bands)
            for model in args.models:
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    call = (folder / "cube.img", folder, model, args.weights, args.memory, args.threads)
                    seconds, peak, summary = pool.apply(measure, call)
                rows.append(
                    {
                        "model": model,
                        "cube": f"{size}x{args.bands}",
                        "budget": args.memory,
                        "seconds": seconds,
                        "us per pixel": 1e6 * seconds / (height * width),
                        "peak resident GB": peak / 1e9,
                        "eigen-images": summary["eigen_images"],
                        "computed": summary["computed"],
                    }
                )
            for path in folder.glob("cube.*"):
                path.unlink()
    Console(width=200).print(table(rows))
    if args.json:
        write_json(args.json, rows, overwrite=True)


if __name__ == "__main__":
    main()
