"""A model made ready to denoise hyperspectral images: network or classical method behind one call."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import DTypeLike, NDArray

from rsunfold.arguments import SomeNumbers
from rsunfold.contracts import DenoisingMethod
from rsunfold.cube import Window
from rsunfold.errors import DeviceError, InputError, UsageError
from rsunfold.infer.device import (
    FREE_GPU,
    Budgeted,
    device_failures,
    free_on,
    held,
    parse_memory,
    pick_device,
    refuse_gpu,
)
from rsunfold.infer.hsi.given import given_noise
from rsunfold.infer.spectral import MOSAIC_SIDE, SpectralImage, Spikes
from rsunfold.infer.tiles import Plan, plan, strips
from rsunfold.io import CubeReader
from rsunfold.noise import ENOUGH, FEW, band_noise, spatial_noise, tells_little, whole_squares
from rsunfold.registry import chosen_model
from rsunfold.subspace import Subspace, published_subspace

if TYPE_CHECKING:
    import torch

    from rsunfold.infer.hsi.adapt import Adaptation
    from rsunfold.unfold.unrolled import DenoisingNetwork
    from rsunfold.weights import WeightRecord

Spectra = NDArray[np.float32]

CODES = 6
"""Tensors of the size of the codes, 9 x 81 numbers per patch cube, that a network holds at a time on the CPU."""
SPECTRA = 6
"""Copies of the spectra of a window that are held beside."""
STRIP_SPECTRA = 5
"""Copies of the spectra of a strip of whole rows: as read, denoised and blended, and on the way to the file."""
OVERLAP = 32
"""Pixels that tiles share where a method looks at the whole image, so that tiles are an approximation."""

BEYOND, DOUBTED = 1.1, 5.0
"""Times the deviation of the median band that a given noise is refused beyond, since no more than all of it is noise,
and times that it may differ from an estimate, either way, without a note."""


@dataclass
class Denoised:
    """One image on its way: where its signal lies, how it is cut, strips() of (first row, denoised float32 (bands
    that take part, h, cols) in physical units), from top to bottom, and what adapting came to, where it was asked."""

    subspace: Subspace
    plan: Plan
    strips: Callable[[], Iterator[tuple[int, Spectra]]]
    adaptation: Adaptation | None = None


class Denoiser(Budgeted):
    """A model, its weights and a device, ready to denoise.

    model : registry name of a ``denoise-hsi`` model; None takes that of ``weights``, or the default. name : what
    ``model`` is then. label : the same, with the weights where they are not its own. weights : a shipped name or a
    ``.safetensors`` file; None takes the model's own. sigma : standard deviation of the noise in the physical units of
    the images, after their scale, see :func:`rsunfold.infer.hsi.given.given_noise`; None estimates it for each band.
    adapt : adapt the network to each image, see :func:`rsunfold.infer.hsi.adapt.adapted`. device : see
    :func:`pick_device`; classical methods run on the CPU. memory : the budget for the whole process, bytes or ``2GB``;
    None is half of what is free.

    Raises UsageError, WeightsError or DeviceError when the model cannot run as asked.
    """

    def __init__(
        self,
        model: str | None = None,
        *,
        weights: str | None = None,
        sigma: float | SomeNumbers | str | os.PathLike[str] | None = None,
        adapt: bool = False,
        device: str = "auto",
        memory: str | int | None = None,
    ) -> None:
        from rsunfold.weights import chosen, labelled, load, model_for

        model = model_for("denoise-hsi", model, weights)
        self.name, self.label = model, labelled(model, weights)
        self.spec, self.options = chosen_model(model, "denoise-hsi")
        self.sigma = None if sigma is None else given_noise(sigma)
        if adapt and not (self.spec.kind == "network" and self.spec.factory.adaptable):
            raise UsageError(f"--adapt works only with star-net, not with {model}.")
        self.adapt, self.memory = adapt, parse_memory(memory)
        self.net: DenoisingNetwork | None = None
        self.record: WeightRecord | None = None
        self.sha256: str | None = None
        if self.spec.kind == "classical":
            if weights is not None:
                raise UsageError(f"{model} is a classical method and takes no weights.")
            refuse_gpu(model, device)
            self.method: DenoisingMethod = self.spec.build(**self.options)
            self.device_name = "cpu"
            self.held = held()
            return

        name = chosen(self.spec, weights)
        self.device: torch.device = pick_device(device, apple=self.spec.apple)
        self.device_name = str(self.device)
        net, self.record, self.sha256 = load(name, self.spec.name)
        if self.published and sigma is not None:
            raise UsageError(f"the published weights of {model} take no noise level; leave out --sigma.")
        with device_failures(FREE_GPU):
            self.net = cast("DenoisingNetwork", net).to(self.device)
        self.held = held()

    @property
    def robust(self) -> bool:
        """Whether the model takes outliers away, so that they are not to count as noise."""
        return (self.net or self.method).outliers

    @property
    def spikes(self) -> Spikes:
        """What becomes of wild samples: a model that takes outliers away, whole columns too, has them as others, but no
        farther off, as where it starts and ends depends on their size."""
        return "outliers" if self.robust else "holes"

    @property
    def published(self) -> bool:
        """Whether the weights were trained by their authors, on cubes divided by their maximum."""
        return self.record is not None and self.record.published and bool(self.spec.scaling)

    def describe(self) -> dict[str, Any]:
        """Model and options, or weights with hash, and device, for the JSON summary."""
        spec = self.spec
        about: dict[str, Any] = {"task": spec.task, "model": spec.name, "paper": spec.paper, "device": self.device_name}
        if self.adapt:
            about["adapted_to_each_image"] = True
        if self.net is None:
            about["options"] = spec.with_defaults(self.options)
        if self.record is not None:
            about |= {"weights": self.record.name, "weights_sha256": self.sha256, "arch": self.record.arch}
        return about

    def open(self, source: str | CubeReader, var: str | None = None, drop_bands: Sequence[str] = ()) -> SpectralImage:
        """An image ready to be denoised: within the memory budget, see :attr:`spikes`; to be closed."""
        return SpectralImage(
            source, var=var, drop_bands=drop_bands, near=True, room=self.room, spikes=self.spikes, mend=True
        )

    def subspace(self, image: SpectralImage) -> Subspace:
        """Where the signal of ``image`` lies, with the noise given or estimated.

        Raises InputError when the noise cannot be estimated or is not given of all bands, or as :func:`refuse_faint`,
        UsageError when the given one is more than half of the bands vary.
        """
        found = self._subspace(image)
        refuse_faint(image, found, image.kind)
        return found

    def _subspace(self, image: SpectralImage) -> Subspace:
        if self.published:
            return published_subspace(*image.mosaic[:2])
        given = None if self.sigma is None else self.sigma.of(image)
        most = np.sqrt(np.maximum(np.diagonal(image.statistics.moments.covariance), 0))
        if given is not None and np.median(given / most) > BEYOND:
            limit = f", and below {np.median(most):.3g}" if len(set(given)) == 1 else ""
            raise UsageError(
                f"{self.sigma} is more than the whole standard deviation of half or more of the bands of {image.path}: "
                f"give it in physical units, after the file's scale{limit}."
            )
        found = image.subspace(sigma=given, robust=self.robust)
        if given is None and self.by_wavelets(image, found) and not whole_squares(image.mosaic[1]).any():
            raise InputError(
                f"{image.path} is too small to estimate its noise: with fewer than {FEW} bands, or fewer than "
                f"{ENOUGH:g} pixels per band, squares of 2 x 2 valid pixels are needed; give --sigma."
            )
        return found

    def doubt(self, image: SpectralImage) -> NDArray[np.float64]:
        """(bands that take part,) how many times an estimate of the noise the given one is; 1 where it is not given, or
        there is nothing to estimate it from.

        The smaller of two estimates, of which signal of its own adds to the one, and fine texture to the other.
        """
        times = np.ones(len(image.bands))
        if self.sigma is None:
            return times
        moments, (sample, valid, _) = image.statistics.moments, image.mosaic
        estimates = [spatial_noise(sample, valid)] if whole_squares(valid).any() else []
        if not tells_little(len(moments.mean), moments.count):
            estimates.append(band_noise(moments.covariance, moments.count))
        usual = np.min(estimates, axis=0) if estimates else np.zeros_like(times)
        return np.asarray(np.divide(self.sigma.of(image), usual, out=times, where=usual > 0))

    @staticmethod
    def by_wavelets(image: SpectralImage, subspace: Subspace) -> bool:
        """Whether the noise of a band is estimated from its own finest details, not from the other bands."""
        return tells_little(len(subspace.mean), image.statistics.valid_pixels)

    def denoised(self, image: SpectralImage) -> Denoised:
        """The image denoised within the memory budget, where it is asked for.

        In one piece when that fits, else by tiles: with the same result where an output pixel depends on a bounded
        neighbourhood, else blended over an overlap. On a GPU whose memory runs out tiles are halved.
        """
        subspace = self.subspace(image)
        bands, rank = len(image.bands), subspace.A.shape[1]
        budget = self.room
        if self.net is not None:
            budget = free_on(self.device, budget)
        radius = self.method.radius if self.net is None else self.net.radius
        margin = OVERLAP if radius is None else radius
        stride = 1 if self.net is None else self.net.stride
        made = plan(
            image.rows,
            image.cols,
            bytes_per_pixel=self._bytes_per_pixel(bands, rank),
            margin=margin,
            budget=budget,
            strip_bytes=float(image.kind.itemsize) * (STRIP_SPECTRA * bands + 3 * image.count),
            kept_bytes=0,
        )
        net, adaptation = self.net, None
        if self.adapt and net is not None:
            net, adaptation = self._adapted(net, image, subspace, budget)
        run = self._classical(subspace) if net is None else self._network(net, image, subspace, made)

        def compute(window: Window) -> Spectra:
            grown = _begun_at_stride(window.grown(margin, image.rows, image.cols), stride)
            columns = np.arange(grown.col, grown.col + grown.width)
            found = run(subspace.whiten(image.read(grown)[0], columns))
            return subspace.colour(found[:, *window.within(grown)], image.kind)

        overlap = OVERLAP if radius is None and not made.whole else 0
        return Denoised(subspace, made, lambda: strips(image.rows, image.cols, made.tile, compute, overlap), adaptation)

    def _bytes_per_pixel(self, bands: int, rank: int) -> float:
        if self.net is None:
            return self.method.bytes_per_pixel(bands, rank) + 4.0 * SPECTRA * bands
        return 4 * CODES * self.net.codes_per_pixel(rank) + 4 * SPECTRA * bands

    def _classical(self, subspace: Subspace) -> Callable[[Spectra], Spectra]:
        def run(y: Spectra) -> Spectra:
            return self.method.denoise(y, subspace)

        return run

    def _adapted(
        self, net: DenoisingNetwork, image: SpectralImage, subspace: Subspace, free: float
    ) -> tuple[DenoisingNetwork, Adaptation]:
        import torch

        from rsunfold.infer.hsi.adapt import adapted, side_for

        bands, rank = subspace.A.shape
        free -= 2 * 4 * bands * MOSAIC_SIDE**2
        side = side_for(net, bands, rank, image.rows, image.cols, free)

        def read(window: Window) -> tuple[Spectra, NDArray[np.bool_]]:
            spectra, valid = image.read(window)
            return subspace.whiten(spectra, np.arange(window.col, window.col + window.width)), valid

        sample, _, columns = image.mosaic
        # What is made in a caller's inference mode could not be differentiated.
        with torch.inference_mode(False), torch.no_grad():
            A = torch.from_numpy(subspace.A.astype(np.float32)).to(self.device)
            context = net(torch.from_numpy(subspace.whiten(sample, columns)).to(self.device), A)[1]
        return adapted(net, read, image.rows, image.cols, A, context, side=side, name=image.path)

    def _network(
        self, net: DenoisingNetwork, image: SpectralImage, subspace: Subspace, made: Plan
    ) -> Callable[[Spectra], Spectra]:
        import torch

        A = torch.from_numpy(subspace.A.astype(np.float32)).to(self.device)
        context, level = None, np.zeros((len(A), 1, 1), np.float32)
        if net.outliers or not made.whole or image.rows * image.cols > MOSAIC_SIDE**2:
            with torch.inference_mode():
                sample, valid, columns = image.mosaic
                noisy = subspace.whiten(sample, columns)
                found, context = net(torch.from_numpy(noisy).to(self.device), A)
                if net.outliers and valid.any():
                    # Impulses in most pixels of a band, brighter than it for the most part, pull all of it with them.
                    level[:, 0, 0] = np.median((noisy - found.cpu().numpy())[:, valid], axis=1)

        def run(y: Spectra) -> Spectra:
            with torch.inference_mode():
                try:
                    found: Spectra = net(torch.from_numpy(y).to(self.device), A, context)[0].cpu().numpy()
                    return found + level
                except torch.OutOfMemoryError:
                    torch.cuda.empty_cache()
            return self._halves(net, y, run)

        return run

    def _halves(self, net: DenoisingNetwork, y: Spectra, run: Callable[[Spectra], Spectra]) -> Spectra:
        """``run`` on two overlapping halves of a window, with the result of the whole; DeviceError below 64 pixels."""
        margin, stride = net.radius, net.stride
        axis = 1 if y.shape[1] >= y.shape[2] else 2
        size = y.shape[axis]
        if size // 2 <= max(64, 2 * margin):
            raise DeviceError(f"{self.device} has too little free memory, even for windows of {size} pixels.")
        middle = size // 2
        begin = (middle - margin) // stride * stride
        first, second = np.split(y, [middle + margin], axis)[0], np.split(y, [begin], axis)[1]
        parts = np.split(run(first), [middle], axis)[0], np.split(run(second), [middle - begin], axis)[1]
        return np.concatenate(parts, axis)


def refuse_faint(image: SpectralImage, subspace: Subspace, kind: DTypeLike) -> None:
    """Raise InputError where a band's noise is too small for the floating-point type ``kind`` to divide by it."""
    least = float(subspace.sigma.min())
    if 1 / least > float(np.finfo(kind).max):
        raise InputError(
            f"{image.path} has a band with noise of {least:.2g}, which is too small for {np.dtype(kind)}: multiply its "
            "samples by a power of ten, or write them in another unit."
        )


def _begun_at_stride(window: Window, stride: int) -> Window:
    """``window`` begun at multiples of ``stride``, so that its patches are those of the whole image."""
    row, col = window.row // stride * stride, window.col // stride * stride
    return Window(row, col, window.height + window.row - row, window.width + window.col - col)
