"""Time and memory of detect-anomaly on a cube of any size, written to disk first and read from there.

    python benchmarks/detect_anomaly.py                                              # 100 x 100 x 200, 300 x 500 x 253
    python benchmarks/detect_anomaly.py --sizes 2000x2000x200 --memory 4GB --models lrr-net-plus rx
    python benchmarks/detect_anomaly.py --rx scene.mat                               # our RX beside spectral's

Each scene is a synthetic cube with noise; each run is a process of its own, whose largest resident set is the memory.
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
from cubes import write_cube
from rich.console import Console

from rsunfold.infer.anomaly.detector import AnomalyDetector
from rsunfold.infer.anomaly.run import Options, detect_file
from rsunfold.io.jsonfile import write_json
from rsunfold.report import table


def measure(path: Path, folder: Path, model: str, memory: str, threads: int | None) -> Any:
    """(seconds, peak bytes, summary) of one run; for a process of its own."""
    import torch

    if threads:
        torch.set_num_threads(threads)
    begun = time.perf_counter()
    detector = AnomalyDetector(model, memory=memory, device="cpu")
    done = detect_file(str(path), "out", folder, detector, Options(overwrite=True))
    seconds = time.perf_counter() - begun
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, done.summary


def compare_rx(path: Path) -> list[dict[str, Any]]:
    """Seconds (best of five) of our RX and of spectral's on a scene in memory, and how far they are apart."""
    import spectral

    from rsunfold.infer.spectral import SpectralImage
    from rsunfold.registry import get_model
    from rsunfold.scene import scene_of

    with SpectralImage(str(path)) as image:
        cube, valid = image.scaled(image.whole)
    theirs_cube = np.ascontiguousarray(np.moveaxis(cube, 0, -1), np.float64)

    def ours() -> Any:
        return get_model("rx").build().fit(scene_of(cube, valid))(cube, valid)

    def theirs() -> Any:
        return spectral.rx(theirs_cube)

    rows, found = [], []
    for name, run in (("rsunfold rx", ours), ("spectral.rx", theirs)):
        times = []
        for _ in range(5):
            begun = time.perf_counter()
            score = run()
            times.append(time.perf_counter() - begun)
        found.append(score)
        rows.append({"method": name, "scene": path.name, "seconds": min(times)})
    rows[0]["largest relative difference"] = float(np.max(np.abs(found[0] / found[1] - 1)))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["100x100x200", "300x500x253"], help="ROWSxCOLSxBANDS")
    parser.add_argument("--models", nargs="+", default=["lrr-net-plus"])
    parser.add_argument("--memory", default="4GB")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--folder", type=Path, help="where the cubes go; default: a temporary folder")
    parser.add_argument("--rx", type=Path, help="a scene on which our RX and spectral's are timed, instead")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows = compare_rx(args.rx) if args.rx else []
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        for size in [] if args.rx else args.sizes:
            height, width, bands = (int(part) for part in size.split("x"))
            write_cube(folder / "cube.img", height, width, bands)
            for model in args.models:
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    call = (folder / "cube.img", folder, model, args.memory, args.threads)
                    seconds, peak, summary = pool.apply(measure, call)
                rows.append(
                    {
                        "model": model,
                        "cube": size,
                        "budget": args.memory,
                        "seconds": seconds,
                        "us per pixel": 1e6 * seconds / (height * width),
                        "peak resident GB": peak / 1e9,
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
