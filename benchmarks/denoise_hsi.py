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

from cubes import write_cube
from rich.console import Console

from rsunfold.infer.hsi.denoiser import Denoiser
from rsunfold.infer.hsi.run import Options, denoise_file
from rsunfold.io.jsonfile import write_json
from rsunfold.report import table


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
