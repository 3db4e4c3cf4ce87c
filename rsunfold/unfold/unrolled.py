"""The base of unrolled networks: K stages, each an iteration, whose variables can be kept and looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from rsunfold.errors import UsageError
from rsunfold.unfold.operators import MapOperator

AROUND = (
    nn.modules.conv._ConvNd,
    nn.modules.pooling._MaxPoolNd,
    nn.modules.pooling._AvgPoolNd,
    nn.Upsample,
    nn.Unfold,
)
"""Layers that look at a pixel's neighbours, if they are larger than one pixel."""

Keep = Callable[[int, str, Any], Any]


@contextmanager
def gradients() -> Iterator[None]:
    """Whatever mode the caller is in: tensors made inside can be trained."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


def as_is(stage: int, letter: str, value: Any) -> Any:
    """The ``keep`` that keeps nothing: hands the value back."""
    return value


class Record:
    """A ``keep`` that stores every variable of every stage: ``record.stages[k]["B"]`` is B of stage k + 1.

    What has no letter, such as the memory that a recurrent layer hands on, is no variable and not stored.
    """

    def __init__(self) -> None:
        self.stages: list[dict[str, Any]] = []

    def __call__(self, stage: int, letter: str, value: Any) -> Any:
        """Store ``value`` and hand it back."""
        while len(self.stages) <= stage:
            self.stages.append({})
        if letter:
            self.stages[stage][letter] = value
        return value


class Unrolled(nn.Module):
    """K unrolled iterations; see :class:`TargetNetwork` and :class:`DenoisingNetwork` for those of a task.

    Every variable that a stage computes goes through ``keep(stage, letter, value)``, and the stage goes on with
    what comes back. Training and ``--stages`` pass a :class:`Record`; the out-of-core executor passes the function
    that writes the map to scratch. A letter "" stands for what a stage hands on but is no variable, an image of several
    channels.

    Subclasses set ``letters``, the variables in the order in which a stage computes them, ``self.arch``, the keyword
    arguments that rebuild the network, and ``self.stages``.
    """

    letters: ClassVar[tuple[str, ...]] = ()
    arch: dict[str, Any]
    stages: nn.ModuleList

    def forward(self, *images: Any, **options: Any) -> tuple[Any, Any]:
        """The last estimate, and what belongs to it; ``keep`` is an option of every network."""
        raise NotImplementedError

    @classmethod
    def from_published(cls, state: Mapping[str, Tensor]) -> Self:
        """The network of a published checkpoint, its architecture inferred from the tensors.

        Raises ValueError with what does not fit, whatever is missing, left over or of another shape.
        """
        empty = next((name for name, tensor in state.items() if not tensor.numel()), None)
        if empty is not None:  # layers of no channels cannot be begun
            raise ValueError(f"the tensor {empty} is empty")
        try:
            return cls._of_published(state)
        except KeyError as error:
            raise ValueError(f"no entry {error}") from None
        except (RuntimeError, IndexError) as error:
            raise ValueError(f"the tensors do not fit:\n{error}") from None

    @classmethod
    def _of_published(cls, state: Mapping[str, Tensor]) -> Self:
        """What :meth:`from_published` gives; errors of tensors that do not fit may be torch's own."""
        raise ValueError(f"no published checkpoint of {cls.__name__} is known")

    def check(self) -> None:
        """Raise UsageError where the network lacks what the rest of rsunfold relies on; once, after it is built."""

    @property
    def parameters_count(self) -> int:
        """Number of learned parameters."""
        return sum(p.numel() for p in self.parameters())

    def macs(self, rows: int, cols: int) -> int:
        """Multiply-accumulates for an image of rows x cols pixels: those of the convolutions (:func:`macs_per_pixel`).

        Networks with other arithmetic override this.
        """
        return rows * cols * macs_per_pixel(self)

    def step_sizes(self) -> list[nn.Parameter]:
        """The parameters that belong to no layer, for which a recipe has a learning rate of its own.

        By default the single numbers that modules with sub-modules hold beside these.
        """
        owners = [m for m in self.modules() if any(m.children())]
        return [p for m in owners for p in m.parameters(recurse=False) if p.numel() == 1]


def _extent(layer: nn.Module) -> int:
    """Rows or columns that a layer of AROUND looks at."""
    size = getattr(layer, "kernel_size", 2)  # an Upsample has none
    return max(size) if isinstance(size, tuple) else int(size)


class TargetNetwork(Unrolled):
    """A network of the task ``detect-ir``, whose variables are images of one channel; the last one is T.

    What looks at a pixel's neighbours is a :class:`rsunfold.unfold.operators.MapOperator`, or lies in one, such as
    :class:`~rsunfold.unfold.operators.Operator`: images larger than memory run through these window by window. Beside
    them a stage adds, subtracts and multiplies maps.

    heads : where in a stage the last layer of a variable's operator is, a convolution in which the variable is affine.
    """

    heads: ClassVar[Mapping[str, str]] = {"B": "FB.head", "T": "FT.head", "D": "FD.head"}

    def forward(self, D: Any, *, keep: Keep = as_is, reconstruct: bool = False) -> tuple[Any, Any]:
        """(T^K, D^K) for D float32 (B, 1, H, W), gray in [0, 1], of any size; T^K holds logits.

        D may be a tensor, or a map that the out-of-core executor keeps elsewhere. D^K is None unless ``reconstruct``:
        the branches of the last stage that never reach T^K are skipped.

        By default a stage makes (D^k, T^k) of (D^{k-1}, T^{k-1}), from D and T^0 = 0.
        """
        T: Any = 0.0
        for k, stage in enumerate(self.stages):
            D, T = stage(D, T, k, keep, dead=k == len(self.stages) - 1 and not reconstruct)
        return T, D

    @property
    def operators(self) -> list[MapOperator]:
        """All operators on images, those within others included."""
        return [m for m in self.modules() if isinstance(m, MapOperator)]

    def check(self) -> None:
        """Raise UsageError where a layer that looks at neighbours lies in no operator, or there is none."""
        inside = {id(part) for operator in self.operators for part in operator.modules()}
        layers = [(n, m) for n, m in self.named_modules() if isinstance(m, AROUND) and _extent(m) > 1]
        outside = next((f"the layer {name}" for name, m in layers if id(m) not in inside), None)
        if outside or not inside:
            raise UsageError(
                f"{outside or 'every layer'} of the network {type(self).__name__} lies in no MapOperator, so that "
                "images cannot be worked on window by window; see rsunfold.unfold.operators."
            )

    def add_stage(self) -> None:
        """Add a stage at the end that leaves T^K as it is; raises ValueError where none can."""
        raise ValueError("this network says of no stage that it would leave T as it is")


class DenoisingNetwork(Unrolled):
    """A network of the task ``denoise-hsi``.

    outliers : whether it takes outliers away, so that they are not to count as noise. adaptable : whether Stein's
    estimate of its risk means what it says, so that it can be adapted to an image.
    """

    outliers: ClassVar[bool] = False
    adaptable: ClassVar[bool] = False

    @property
    def radius(self) -> int:
        """Pixels that an output pixel depends on, beyond the context; a multiple of the stride."""
        raise NotImplementedError

    @property
    def stride(self) -> int:
        """Pixels from patch to patch: windows begin at multiples of it."""
        return int(self.arch.get("stride", 1))

    def forward(self, Y: Tensor, A: Tensor, context: Any = None, *, keep: Keep = as_is) -> tuple[Tensor, Any]:
        """(denoised Y, context) for a whitened image Y float32 (bands, H, W) and a basis A (bands, R) of its signal.

        A window of the image gives the image's result but for ``radius`` pixels at its edge, when ``context`` is what
        the image gave.
        """
        raise NotImplementedError

    def codes_per_pixel(self, rank: int) -> float:
        """Numbers per pixel that one set of codes holds, with ``rank`` eigen-images: what its memory is made of."""
        raise NotImplementedError


def macs_per_pixel(net: nn.Module) -> int:
    """Multiply-accumulates per pixel of all convolutions on the full grid, the 1x1 of pooled vectors left out."""
    total = 0
    for name, m in net.named_modules():
        if isinstance(m, nn.Conv2d) and "se" not in name.split("."):
            total += m.out_channels * (m.in_channels // m.groups) * m.kernel_size[0] * m.kernel_size[1]
    return total
