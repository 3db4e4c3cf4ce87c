"""Timings of detect-ir: images per second against the plain network, the arithmetic limit, memory of a large scene.

    python benchmarks/detect_ir.py                         # the shipped weights
    python benchmarks/detect_ir.py --checkpoints DIR       # and published .pkl files found below DIR
    python benchmarks/detect_ir.py --scene 20000 --memory 2GB [--model l-rpcanet]   # peak memory instead of speed
    python benchmarks/detect_ir.py --classical --threads 2 --sizes 256              # the classical methods
    python benchmarks/detect_ir.py --scan                  # LSNet's selective scan against convolutions

Every figure is wall-clock time on this machine; the two networks take turns, and the median of the runs counts.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from threadpoolctl import threadpool_limits

from rsunfold.allocator import reuse_memory
from rsunfold.cube import Meta, Window
from rsunfold.infer.infrared.detector import Detector
from rsunfold.infer.infrared.run import Options, detect_file
from rsunfold.io import RasterWriter
from rsunfold.io.jsonfile import write_json
from rsunfold.registry import all_models, get_model
from rsunfold.report import table
from rsunfold.simulate.infrared import infrared_scene
from rsunfold.unfold.fast import for_inference
from rsunfold.unfold.scan import FourWayScan
from rsunfold.unfold.unrolled import macs_per_pixel
from rsunfold.weights import load, read_record, shipped


def networks(checkpoints: Path | None) -> dict[str, Any]:
    """The shipped networks, and published checkpoints by the model whose tensors they hold."""
    known = {m.name for m in all_models("detect-ir", "network")}
    found = {name: load(name)[0] for name in sorted(shipped()) if read_record(name).model in known}
    for path in sorted(checkpoints.rglob("*.pkl")) if checkpoints else []:
        state = torch.load(path, map_location="cpu", weights_only=True)
        for spec in all_models("detect-ir", "network"):
            try:
                found[f"{spec.name} {path.stem}"] = spec.factory.from_published(state).eval()
            except (ValueError, KeyError, RuntimeError):
                continue
    return found


def peak_rate() -> float:
    """GFLOP/s of a large float32 matrix product: what the arithmetic units give here and now."""
    a = torch.rand(2048, 2048)
    rates = []
    for _ in range(4):
        begun = time.perf_counter()
        a @ a
        rates.append(2 * 2048**3 / (time.perf_counter() - begun) / 1e9)
    return max(rates)


PLAIN: dict[str, Any] = {}
"""In a process of its own, the network that :func:`plain_seconds` runs."""


def hold(net: Any, threads: int) -> None:
    """Keep ``net`` for :func:`plain_seconds`."""
    torch.set_num_threads(threads)
    PLAIN["net"] = net


def plain_seconds(x: torch.Tensor) -> float:
    """Seconds of the network's own forward in PyTorch as it comes: rsunfold's memory settings are not made here."""
    with torch.inference_mode():
        begun = time.perf_counter()
        PLAIN["net"](x, reconstruct=True)
        return time.perf_counter() - begun


def compare(name: str, net: Any, size: int, threads: int, repeats: int) -> dict[str, Any]:
    """The network's own forward, in PyTorch as it comes and with rsunfold's memory settings, and rsunfold's, on the
    same images in turns."""
    with multiprocessing.get_context("spawn").Pool(1, hold, (net, threads)) as other:
        return _compare(other, name, net, size, threads, repeats)


def _compare(other: Any, name: str, net: Any, size: int, threads: int, repeats: int) -> dict[str, Any]:
    torch.set_num_threads(threads)
    fast = for_inference(net)
    generator = torch.Generator().manual_seed(0)
    images = [torch.rand(1, 1, size, size, generator=generator) for _ in range(repeats + 1)]
    times: dict[str, list[float]] = {"as it comes": [], "plain": [], "fast": []}
    worst = 0.0
    rates = [peak_rate()]
    with torch.inference_mode():
        for number, x in enumerate(images):
            alone = other.apply(plain_seconds, (x,))
            begun = time.perf_counter()
            plain = net(x, reconstruct=True)[0]
            between = time.perf_counter()
            quick = fast(x)[0]
            ended = time.perf_counter()
            if number:  # the first pair warms up
                times["as it comes"].append(alone)
                times["plain"].append(between - begun)
                times["fast"].append(ended - between)
            worst = max(worst, float((plain - quick).abs().max() / plain.abs().max()))
    rates.append(peak_rate())
    t = {k: statistics.median(v) for k, v in times.items()}
    last = net.stages[-1]  # its FN and FD do not run
    used = macs_per_pixel(net) - macs_per_pixel(last.FN) - macs_per_pixel(last.FD)
    flop = 2 * used * size * size
    return {
        "network": name,
        "size": size,
        "threads": threads,
        "PyTorch images/s": 1 / t["as it comes"],
        "same memory images/s": 1 / t["plain"],
        "fast images/s": 1 / t["fast"],
        "times faster": t["as it comes"] / t["fast"],
        "with the same memory": t["plain"] / t["fast"],
        "largest error": worst,
        "GFLOP": flop / 1e9,
        "matrix GFLOP/s": max(rates),
        "images/s at that rate": max(rates) * 1e9 / flop,
    }


def classical(name: str, size: int, threads: int, repeats: int) -> dict[str, Any]:
    """Seconds of a classical method per image, simulated with targets in clouds; how long some take depends on it."""
    detector = Detector(name)
    images = [infrared_scene(size, size, background="clouds", seed=seed).image for seed in range(repeats + 1)]
    times = []
    with threadpool_limits(threads):
        for image in images:
            begun = time.perf_counter()
            detector.score(image)
            times.append(time.perf_counter() - begun)
    return {
        "method": name,
        "size": size,
        "threads": threads,
        "seconds": statistics.median(times[1:]),  # the first one warms up
        "fastest": min(times[1:]),
        "slowest": max(times[1:]),
    }


def scan_against_convolutions(threads: int, repeats: int) -> dict[str, Any]:
    """LSNet's scan in four directions, at the size of the paper's network and a 256 x 256 image, and as many
    multiply-accumulates of 3x3 convolutions with 32 channels on an image of as many cells; both in turns."""
    torch.set_num_threads(threads)
    arch = get_model("lsnet").sizes["paper"]
    side = 256 // arch["s"]
    layer = FourWayScan(arch["d"], arch["heads"], arch["states"]).eval().requires_grad_(False)
    macs = layer.macs(side, side) - side * side * layer.projections
    convs = torch.nn.Sequential(*(torch.nn.Conv2d(32, 32, 3, padding=1) for _ in range(2)))
    convs = convs.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    image = torch.rand(1, 32, side, side).contiguous(memory_format=torch.channels_last)
    share = macs / (macs_per_pixel(convs) * side * side)
    times: dict[str, list[float]] = {"scan": [], "convolutions": []}
    with torch.inference_mode():
        u, _ = layer.inner(torch.randn(1, side, side, arch["d"]))
        steps = layer.steps(u)
        for _ in range(100 * repeats):
            begun = time.perf_counter()
            layer.scan(u, *steps)
            between = time.perf_counter()
            convs(image)
            ended = time.perf_counter()
            times["scan"].append(between - begun)
            times["convolutions"].append((ended - between) * share)
    t = {k: statistics.median(v) for k, v in times.items()}
    best = {k: min(v) for k, v in times.items()}
    return {
        "cells": f"{side} x {side}",
        "threads": threads,
        "MFLOP": 2 * macs / 1e6,
        "scan, ms": 1e3 * t["scan"],
        "convolutions, ms": 1e3 * t["convolutions"],
        "ratio": t["scan"] / t["convolutions"],
        "ratio of the fastest": best["scan"] / best["convolutions"],
    }


def large_scene(side: int, memory: str, model: str, weights: str | None) -> dict[str, Any]:
    """Peak resident memory and time of detect-ir on a single-band 8-bit GeoTIFF of side x side pixels."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scene.tif"
        rng = np.random.default_rng(0)
        ramp = np.linspace(60, 160, side, dtype=np.float32)[None]
        with RasterWriter(path, bands=1, rows=side, cols=side, dtype=np.uint8, meta=Meta()) as writer:
            for row in range(0, side, 512):
                height = min(512, side - row)
                strip = ramp + rng.normal(0, 3, (height, side)).astype(np.float32)
                strip[rng.integers(0, height, 4), rng.integers(0, side, 4)] += 80
                writer.write(strip.clip(0, 255).astype(np.uint8)[None], Window(row, 0, height, side))
        detector = Detector(model, weights=weights, memory=memory)
        begun = time.perf_counter()
        detection = detect_file(str(path), "scene", Path(folder) / "out", detector, Options())
        seconds = time.perf_counter() - begun
    return {
        "model": model,
        "pixels": f"{side} x {side}",
        "budget": memory,
        "peak resident GB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
        "seconds": seconds,
        "Mpixel/s": side * side / seconds / 1e6,
        "computed": detection.summary["computed"],
        "targets": len(detection.targets),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoints", type=Path, help="folder with published .pkl checkpoints")
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--classical", action="store_true", help="time the classical methods instead")
    parser.add_argument("--scene", type=int, help="measure memory on a scene of this many pixels a side")
    parser.add_argument("--scan", action="store_true", help="time LSNet's scan against convolutions instead")
    parser.add_argument("--memory", default="2GB")
    parser.add_argument("--model", default="l-rpcanet")
    parser.add_argument("--weights")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    reuse_memory()
    if args.scene:
        rows = [large_scene(args.scene, args.memory, args.model, args.weights)]
    elif args.classical:
        rows = [
            classical(spec.name, size, threads, args.repeats)
            for spec in all_models("detect-ir", "classical")
            for size in args.sizes
            for threads in args.threads
        ]
    elif args.scan:
        rows = [scan_against_convolutions(threads, args.repeats) for threads in args.threads]
    else:
        rows = [
            compare(name, net, size, threads, args.repeats)
            for name, net in networks(args.checkpoints).items()
            for size in args.sizes
            for threads in args.threads
        ]
    Console(width=200).print(table(rows))
    if args.json:
        write_json(args.json, rows, overwrite=True)


if __name__ == "__main__":
    main()
