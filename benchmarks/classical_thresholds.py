"""The fixed threshold of each classical detect-ir method: the best pooled IoU on training images.

    python benchmarks/classical_thresholds.py --data DIR [--every 3]

DIR as for ``rsunfold train``. The images are those that the recipe trains on: none of its validation images.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from rich.console import Console

from rsunfold.infer.infrared.detector import Detector
from rsunfold.infer.infrared.evaluate import read_sample
from rsunfold.io.samples import find_samples
from rsunfold.registry import all_models
from rsunfold.report import table
from rsunfold.train.infrared.data import carve
from rsunfold.train.infrared.recipe import InfraredRecipe
from rsunfold.train.recipefile import load_recipe, recipe_path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--recipe", default="l-rpcanet")
    parser.add_argument("--every", type=int, default=3, help="use every n-th training image")
    parser.add_argument("--models", nargs="+")
    args = parser.parse_args()
    recipe = load_recipe(recipe_path(args.recipe))
    assert isinstance(recipe, InfraredRecipe)
    samples = find_samples(args.data, recipe.data.split)
    images = [read_sample(s) for s in samples]
    held = carve(samples, [im.gray for im in images], recipe.data.validation_of, recipe.data.validation, recipe.seed)
    train = [im for im, h in zip(images, held, strict=True) if not h][:: args.every]
    cuts = np.geomspace(1e-4, 1, 400)
    rows = []
    for spec in all_models("detect-ir", "classical"):
        if args.models and spec.name not in args.models:
            continue
        method = Detector(spec.name)  # not the bare method: large images go by tiles where it says so
        tp, fp, fn = np.zeros((3, cuts.size))
        for image in train:
            score = method.score(image.gray)
            hit, miss = (np.sort(score[image.counted & (image.truth == y)]) for y in (True, False))
            above = hit.size - np.searchsorted(hit, cuts, side="right")
            tp += above
            fn += hit.size - above
            fp += miss.size - np.searchsorted(miss, cuts, side="right")
        iou = tp / np.maximum(tp + fp + fn, 1)
        best = int(iou.argmax())
        rows.append(
            {
                "model": spec.name,
                "images": len(train),
                "threshold": cuts[best],
                "pooled IoU": iou[best],
                "registered": spec.threshold,
                "IoU there": iou[np.abs(np.log(cuts / spec.threshold)).argmin()],
            }
        )
    Console(width=160).print(table(rows))


if __name__ == "__main__":
    main()
