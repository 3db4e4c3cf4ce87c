"""A model made ready to detect anomalies, with what is known of anomalies in any scene: one score map per image."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from rsunfold.arrays import Floats, Mask
from rsunfold.contracts import AnomalyMethod, AnomalyModel, AnomalyNetwork, Comparing, FittedStages, StagedNetwork
from rsunfold.cube import Window
from rsunfold.errors import DeviceError, InputError, UsageError, unknown
from rsunfold.infer.anomaly.priors import (
    COMPONENTS,
    GUIDE_SPREAD,
    PRIORS,
    RADIUS,
    SHARES,
    AttributeProfile,
    PrincipalComponents,
    edge_preserving,
    guide_of,
    small_object,
)
from rsunfold.infer.device import Budgeted, held, parse_memory, pick_device, refuse_gpu
from rsunfold.infer.spectral import SpectralImage
from rsunfold.infer.tiles import Plan, plan, strips
from rsunfold.io import CubeReader
from rsunfold.registry import DEFAULTS, as_registered, chosen_model, get_model
from rsunfold.scene import SAMPLE, Scene, Scorer, scene_of

OBJECT_SIZE = 100
"""Pixels of the largest object, unless the user says otherwise."""
SPECTRA = 6
"""Copies of the spectra of a window that are held beside."""
PROFILE_BYTES = 160
"""Bytes per pixel that area openings hold for one component at a time."""
MAPS_BYTES = 24
"""Bytes per pixel of the whole image: score, guide, share of the windows, valid pixels, targets, and the finished
score."""
LARGER = ", or give a larger --window"
"""What else to do where a window that is a scene of its own has too few pixels."""
POST_TILE = 1024
"""Side of the windows in which the finished map goes through the last priors."""
FEATURE_WINDOWS, FEATURE_SIDE = 8, 128
"""Windows of a large image from which the statistics of its attribute profile are taken, and their side."""


@dataclass
class Scored:
    """Scores of one image.

    score float32 (rows, cols) >= 0, NaN where a pixel is not valid. alone : how many are not because the model found
    too few others to compare them with. plan : how the image was cut. stages : by stage the norms by letter, float32
    (rows, cols), where they were asked for. learned : what the network says of itself. windowed : whether windows were
    scenes of their own. notes : of the scorers.
    """

    score: Floats
    valid: Mask
    plan: Plan
    alone: int = 0
    stages: list[dict[str, Floats]] = field(default_factory=list)
    learned: dict[str, Any] | None = None
    windowed: bool = False
    notes: list[str] = field(default_factory=list)


@dataclass
class Chain:
    """What is fitted to a scene: windows of spectra in [0, 1] go in, fused scores come out.

    profile : from spectra to features, or None. scorer : of the features. kernel : of the spectra, or None. guide :
    the component that the last prior follows, or None. fitted : what a network with stages has learned, or None.
    remarks : sentences on what was asked for.
    """

    profile: AttributeProfile | None
    scorer: Scorer
    kernel: Scorer | None
    guide: PrincipalComponents | None
    fitted: FittedStages | None
    remarks: list[str] = field(default_factory=list)

    @property
    def notes(self) -> list[str]:
        """Sentences on what was scored."""
        return list(getattr(self.scorer, "notes", ()))

    def features(self, cube: Floats) -> Floats:
        """What the model sees."""
        return cube if self.profile is None else self.profile(cube)

    def score(self, cube: Floats, valid: Mask, features: Floats | None = None) -> Floats:
        """(2, rows, cols): the score, kernel term in, and the guide (0 without); ``features`` where they are known."""
        score = self.scorer(self.features(cube) if features is None else features, valid)
        if self.kernel is not None:
            # Of kernel RX the root: both are distances then.
            score = np.sqrt(score * np.sqrt(self.kernel(cube, valid)))
        guide = np.zeros_like(score) if self.guide is None else self.guide(cube)[0] / GUIDE_SPREAD
        return np.stack([np.where(valid, score, 0), guide]).astype(np.float32)


class AnomalyDetector(Budgeted):
    """A model, its options and the priors around it, ready to detect anomalies.

    model : registry name of a ``detect-anomaly`` model, which options may follow, as in ``crd:inner=7:outer=13``.
    options : keyword arguments of the model besides; None values are left out. name : ``model`` as given. priors :
    names of PRIORS, or None: all of them with the default model, none with any other. object_size : pixels of the
    largest object, OBJECT_SIZE where None. seed : of all random choices. window : side of windows that are scenes of
    their own, for images whose background changes, or None. device : see
    :func:`pick_device`; classical methods run on the CPU. memory : the budget for the whole process, bytes or ``2GB``;
    None is half of what is free.

    Raises UsageError or DeviceError when the model cannot run as asked.
    """

    def __init__(
        self,
        model: str = DEFAULTS["detect-anomaly"],
        *,
        options: dict[str, Any] | None = None,
        priors: Sequence[str] | None = None,
        object_size: int | None = None,
        seed: int = 0,
        window: int | None = None,
        device: str = "auto",
        memory: str | int | None = None,
    ) -> None:
        self.name = as_registered(model)
        self.spec, self.options = chosen_model(model, "detect-anomaly", options)
        self.model: AnomalyModel = self.spec.build(**self.options)
        self.priors = _known_priors(priors, tuple(PRIORS) if self.model.takes_priors else ())
        object_size = OBJECT_SIZE if object_size is None else object_size
        if object_size < 1:
            raise UsageError(f"--object-size must be at least 1 pixel, not {object_size}.")
        if window is not None and window < 16:
            raise UsageError(f"--window must be at least 16 pixels, not {window}.")
        self.object_size, self.window = object_size, window
        self.reseed(seed)
        self.device_name = "cpu"
        if self.spec.kind == "network":
            self.device_name = str(pick_device(device, apple=self.spec.apple))
        else:
            refuse_gpu(self.spec.name, device)
        self.memory = parse_memory(memory)
        self.held = held()

    @property
    def sized(self) -> bool:
        """Whether a prior that acts depends on ``object_size``."""
        return not {"attribute-profile", "small-object"}.isdisjoint(self.priors)

    def why_alone(self, windowed: bool) -> str:
        """Why valid pixels have no score, where some have none, and what to do."""
        where, larger = (f" in a window of {self.window} pixels", LARGER) if windowed else ("", "")
        remedy = cast(Comparing, self.model).remedy
        return f"{self.spec.name} finds too few others{where} to compare them with: {remedy}{larger}"

    def reseed(self, seed: int) -> None:
        """Take another seed of all random choices; raises UsageError for one that a generator does not take."""
        if not 0 <= seed < 2**32:
            raise UsageError(f"the seed must lie between 0 and {2**32 - 1}, not {seed}.")
        self.seed = seed

    def describe(self) -> dict[str, Any]:
        """Model, options, priors and device, for the JSON summary."""
        return {
            "task": self.spec.task,
            "model": self.spec.name,
            "paper": self.spec.paper,
            "options": self.spec.with_defaults(self.options),
            "priors": list(self.priors),
            "object_size_px": self.object_size if self.sized else None,
            "seed": self.seed,
            "window": self.window,
            "device": self.device_name,
        }

    def require_stages(self) -> None:
        """Raise UsageError when the model has no stages to look at."""
        if not isinstance(self.model, StagedNetwork):
            raise UsageError(f"{self.spec.name} has no stages; leave out --stages.")
        if self.window is not None:
            raise UsageError("--stages shows a single scene and cannot be combined with --window.")

    # ------------------------------------------------------------------ fit

    def chain(self, scene: Scene, sample: Callable[[AttributeProfile], Scene]) -> Chain:
        """Fit everything to ``scene``; ``sample`` gives the scene of the features of a profile."""
        profile = AttributeProfile(scene, self.object_size) if "attribute-profile" in self.priors else None
        seen = scene if profile is None else sample(profile)
        fitted: FittedStages | None = None
        if isinstance(self.model, StagedNetwork):
            fitted = self.model.learned(seen, self.device_name)
            scorer: Scorer = fitted.score
        elif self.spec.kind == "network":
            scorer = cast(AnomalyNetwork, self.model).fit(seen, self.device_name)
        else:
            scorer = cast(AnomalyMethod, self.model).fit(seen)
        kernel = None
        if "kernel" in self.priors:
            kernel = get_model("kernel-rx").build().fit(scene)
        guide = guide_of(scene) if "edge-preserving" in self.priors else None
        return Chain(profile, scorer, kernel, guide, fitted, self._on_components(len(seen.mean)))

    def _on_components(self, count: int) -> list[str]:
        """A sentence where more components are asked for than the ``count`` features that the model sees can have."""
        asked = self.options.get("components")
        if asked is None or asked <= count:
            return []
        seen = "features of the attribute profile" if "attribute-profile" in self.priors else "usable bands"
        return [f"components {asked} is more than the {count} {seen}, so all components are used"]

    def _radius(self) -> int:
        """Pixels around a pixel that its score depends on, before the last priors."""
        profile = self.object_size if "attribute-profile" in self.priors else 0
        return profile + (self.model.radius or 0)

    def _bytes_per_pixel(self, bands: int) -> float:
        seen = bands
        total = 4.0 * SPECTRA * bands
        if "attribute-profile" in self.priors:
            seen = COMPONENTS * len(SHARES)
            total += 4.0 * SPECTRA * seen + PROFILE_BYTES
        return total + self.model.bytes_per_pixel(seen)

    # ------------------------------------------------------------------ score

    def open(self, source: str | CubeReader, var: str | None = None, drop_bands: Sequence[str] = ()) -> SpectralImage:
        """An image ready to be scored: within the memory budget, its spikes limited; to be closed."""
        return SpectralImage(source, var=var, drop_bands=drop_bands, room=self.room, spikes="limited")

    def scored(self, image: SpectralImage, *, stages: bool = False) -> Scored:
        """The scores of ``image`` within the memory budget.

        In one piece when that fits, else by windows with the same result up to the sample that stands for the scene
        (at most SAMPLE pixels). Raises DeviceError when the model needs the whole image and it does not fit.
        """
        rows, cols = image.rows, image.cols
        if self.window is not None and self.window < max(rows, cols):
            return self._windowed(image, self.window)
        made = self._plan(image, rows, cols, whole=self.model.radius is None)
        if made.whole:
            cube, valid = image.scaled(image.whole)
            chain, score, guide = self._in_memory(image, cube, valid)
            found = self._finished(image, score, guide, valid, made)
            if stages and chain.fitted is not None:
                found.stages = chain.fitted.stages(chain.features(cube))
                for maps in found.stages:
                    for letter, values in maps.items():
                        maps[letter] = np.where(valid, values, np.float32(np.nan))
        else:
            if stages:
                raise DeviceError(
                    f"--stages needs the whole image at once: at most {SAMPLE} pixels, which must fit in --memory."
                )
            scene = image.scene(self.seed)
            chain = self.chain(scene, lambda profile: self._features(image, profile))
            radius = self._radius()
            valid = np.empty((rows, cols), bool)

            def compute(window: Window) -> Floats:
                grown = window.grown(radius, rows, cols)
                cube, inside = image.scaled(grown)
                inner = window.within(grown)
                valid[window.slices] = inside[inner]
                return chain.score(cube, inside)[:, *inner]

            score, guide = self._collected(rows, cols, made.tile, compute)
            found = self._finished(image, score, guide, valid, made)
        if chain.fitted is not None:
            found.learned = chain.fitted.describe()
        found.notes = chain.remarks + chain.notes
        return found

    def _in_memory(self, image: SpectralImage, cube: Floats, valid: Mask) -> tuple[Chain, Floats, Floats]:
        """(what was fitted, score, guide) of a scene that fits, spectra of ``image`` in [0, 1]."""
        scene = scene_of(cube, valid, seed=self.seed, origin=image.origin)
        features: list[Floats] = []

        def sample(profile: AttributeProfile) -> Scene:
            features.append(profile(cube))
            return scene_of(features[0], valid, seed=self.seed)

        chain = self.chain(scene, sample)
        score, guide = chain.score(cube, valid, features[0] if features else None)
        return chain, score, guide

    def _windowed(self, image: SpectralImage, side: int) -> Scored:
        """Every window a scene of its own, blended over a quarter of its side; scores in units of their median."""
        rows, cols = image.rows, image.cols
        self._plan(image, min(rows, side), min(cols, side), whole=True)
        valid = np.empty((rows, cols), bool)
        notes: list[str] = []
        larger = LARGER if isinstance(self.model, Comparing) else ""

        def compute(window: Window) -> Floats:
            # The last windows would be slivers, too few pixels for a scene: they are fitted with what lies before them.
            row, col = min(window.row, max(0, rows - side)), min(window.col, max(0, cols - side))
            full = Window(row, col, window.row + window.height - row, window.col + window.width - col)
            cube, inside = image.scaled(full)
            part = window.within(full)
            valid[window.slices] = inside[part]
            if not inside.any():
                return np.zeros((3, window.height, window.width), np.float32)
            chain, score, guide = self._in_memory(image, cube, inside)
            notes.extend(chain.remarks)
            notes.extend(f"in a window of {side} pixels, {note}{larger}" for note in chain.notes)
            has = inside & ~np.isnan(score)
            given = score[has]
            # Where most of a window is alike the median is 0, and its mean stands for it.
            unit = (float(np.median(given)) or float(given.mean()) or 1.0) if given.size else 1.0
            return np.stack([np.where(has, score / unit, 0), guide, has])[:, *part].astype(np.float32)

        score, guide, share = self._collected(rows, cols, side, compute, overlap=side // 4)
        # Of the windows over a pixel those count that have a score for it.
        np.divide(score, share, out=score, where=share > 0)
        score[share <= 0] = np.nan
        found = self._finished(image, score, guide, valid, Plan(False, side), windowed=True)
        found.notes = list(dict.fromkeys(notes))
        return found

    def _collected(
        self, rows: int, cols: int, tile: int, compute: Callable[[Window], Floats], overlap: int = 0
    ) -> list[Floats]:
        """The maps that ``compute`` gives of each window, (maps, h, w), of the whole image."""
        maps = np.empty((0, rows, cols), np.float32)
        for row, strip in strips(rows, cols, tile, compute, overlap):
            if not len(maps):
                maps = np.empty((len(strip), rows, cols), np.float32)
            maps[:, row : row + strip.shape[1]] = strip
        return list(maps)

    def _plan(self, image: SpectralImage, rows: int, cols: int, *, whole: bool = False) -> Plan:
        """How the image, or one window of it, is cut; DeviceError where ``whole`` and it does not fit."""
        bands = len(image.bands)
        budget = self.room - MAPS_BYTES * image.rows * image.cols
        per_pixel, strip_bytes = self._bytes_per_pixel(bands), 4.0 * image.count
        made = plan(
            rows,
            cols,
            bytes_per_pixel=per_pixel,
            margin=self._radius(),
            budget=budget,
            strip_bytes=strip_bytes,
            kept_bytes=0,
            most=1024,
        )
        if made.whole and not whole and self.model.radius is not None and rows * cols > SAMPLE:
            # The sample that stands for a scene does not depend on the memory of the machine.
            return Plan(False, 1024)
        if whole and not made.whole:
            raise DeviceError.no_room(
                f"{self.spec.name} on {rows} x {cols} pixels with {bands} bands at once needs",
                rows * cols * (per_pixel + strip_bytes),
                budget,
                f", or process {'windows separately with' if self.window is None else 'smaller windows with'} --window",
            )
        return made

    def _features(self, image: SpectralImage, profile: AttributeProfile) -> Scene:
        """The scene of the profile of an image that is worked on in tiles: from all of it, as where it is not, or of a
        large one from evenly spaced windows."""

        def part(window: Window) -> tuple[Floats, Mask]:
            grown = window.grown(profile.radius, image.rows, image.cols)
            cube, valid = image.scaled(grown)
            inner = window.within(grown)
            return profile(cube)[:, *inner], valid[inner]

        if image.rows * image.cols > SAMPLE:
            some = [part(window) for window in itertools.chain(*image.spread(FEATURE_SIDE, FEATURE_WINDOWS))]
            return scene_of(np.concatenate([x[:, valid] for x, valid in some], axis=1)[:, None], seed=self.seed)
        features = np.empty((profile.count, image.rows, image.cols), np.float32)
        known = np.empty((image.rows, image.cols), bool)
        for window in image.whole.parts(FEATURE_SIDE, FEATURE_SIDE):
            features[:, *window.slices], known[window.slices] = part(window)
        return scene_of(features, known, seed=self.seed)

    def _finished(
        self, image: SpectralImage, score: Floats, guide: Floats, valid: Mask, made: Plan, windowed: bool = False
    ) -> Scored:
        """The score after the last priors. Pixels that the model found too few others to compare with, whose score is
        NaN, count as not valid; raises InputError where these are all."""
        alone = valid & np.isnan(score)
        valid = valid & ~alone
        if not valid.any():
            raise InputError(f"{image.path} has no pixel with a score, as {self.why_alone(windowed)}.")
        score = self._last_priors(np.where(valid, score, np.float32(0)), guide, valid)
        return Scored(score, valid, made, int(alone.sum()), windowed=windowed)

    def _last_priors(self, score: Floats, guide: Floats, valid: Mask) -> Floats:
        """The map after the last priors, window by window; NaN where a pixel is not valid."""
        steps = [p for p in ("small-object", "edge-preserving") if p in self.priors]
        margin = (self.object_size if "small-object" in steps else 0) + 2 * RADIUS
        rows, cols = score.shape
        out = np.empty_like(score)
        for window in Window(0, 0, rows, cols).parts(POST_TILE, POST_TILE):
            grown = window.grown(margin, rows, cols)
            part = score[grown.slices]
            if "small-object" in steps:
                part = small_object(part, self.object_size)
            if "edge-preserving" in steps:
                part = edge_preserving(part, guide[grown.slices], valid[grown.slices])
            out[window.slices] = part[window.within(grown)]
        out[~valid] = np.nan
        return out


def refuse_useless_size(object_size: int | None, detectors: Sequence[AnomalyDetector]) -> None:
    """Raise UsageError for an ``object_size`` beside detectors none of which looks for objects of a size."""
    if object_size is not None and not any(d.sized for d in detectors):
        raise UsageError(
            "--object-size applies to the priors attribute-profile and small-object, which are not in use."
        )


def options_of(model: str, given: dict[str, Any], models: Sequence[str]) -> dict[str, Any]:
    """Those of ``given`` that ``model`` knows, where another of ``models`` knows the rest; else all of them."""
    specs = {name: get_model(name.split(":")[0], "detect-anomaly") for name in models}
    foreign = {k for name, spec in specs.items() if name != model for k in spec.options}
    mine = specs[model].options
    return {k: v for k, v in given.items() if k in mine or k not in foreign}


def _known_priors(given: Sequence[str] | None, default: Sequence[str]) -> tuple[str, ...]:
    """In the order in which they act; raises UsageError for an unknown name."""
    given = [given] if isinstance(given, str) else given
    names = list(default if given is None else [] if list(given) == ["none"] else given)
    if "none" in names:
        raise UsageError("the prior none cannot be combined with others; leave it or them out.")
    for name in names:
        if name not in PRIORS:
            raise unknown("prior", name, [*PRIORS, "none"])
    return tuple(p for p in PRIORS if p in names)
