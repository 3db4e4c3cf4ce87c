"""LSNet: robust PCA unrolled, with a selective scan for the background and an attentive transform for the targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rsunfold.registry import register
from rsunfold.unfold.operators import MapOperator, Place, conv, plain
from rsunfold.unfold.scan import FourWayScan
from rsunfold.unfold.unrolled import Keep, TargetNetwork, macs_per_pixel

Cells = list[tuple[int, int, Tensor]]
"""Parts (B, h, w, d) of a map of cells, each with the row and column where it begins."""


class Background(MapOperator):
    """SSM(x): what a pixel's background should be, from all over the image::

        f = conv(x),   z = scan(scan(down(f))),   SSM(x) = head(conv(f + up(z)))

    down : a convolution of s x s pixels and stride s to d channels; the cells at the right and bottom are filled up
    with zeros. scan : :class:`FourWayScan`, two of which see the whole image. up : d -> C, bilinear.

    The cells of all of the image are scanned in one piece, so they are what does not get smaller with the window:
    about 12 d / s^2 bytes for each pixel of the image, 20 with d = 104 and s = 8.
    """

    pools = 1

    def __init__(self, C: int, s: int, d: int, H: int, N: int) -> None:
        super().__init__()
        self.stride, self.width_, self.kept_bytes = s, C + max(C // 2, -(-8 * d // s**2)), 12 * d / s**2
        self.features = nn.Sequential(*conv(1, C, 3, norm=True), *conv(C, C, 3, norm=True))
        self.down = nn.Conv2d(C, d, s, stride=s)
        self.scans = nn.Sequential(FourWayScan(d, H, N), FourWayScan(d, H, N))
        self.norm = nn.LayerNorm(d)
        self.up = nn.Linear(d, C)
        self.mix = nn.Sequential(*conv(C, C, 3, norm=True))
        self.head = nn.Conv2d(C, 1, 3, padding=1)
        nn.init.xavier_normal_(self.head.weight)

    @property
    def radius(self) -> int:
        """Two layers before the cells and two after them."""
        return 4

    @property
    def width(self) -> int:
        """Channels of the features, and what the cells and their scan take, as channels of full resolution."""
        return self.width_

    def forward(self, x: Any) -> Any:
        """SSM(x); see :meth:`MapOperator.forward`. The features are computed once, not for the cells and again."""
        if not isinstance(x, Tensor):
            return x.through(self)
        f = self.features(x)
        z = self.finish([(0, 0, self._cells(f))], *x.shape[2:])
        f = self._up(z, Place.whole(x)).add_(f)
        return self.head(self.mix(f))

    def _cells(self, f: Tensor) -> Tensor:
        """(B, h, w, d) of features (B, C, rows, cols), whose last cells may be incomplete."""
        s = self.stride
        filled = F.pad(f, (0, -f.shape[3] % s, 0, -f.shape[2] % s))
        cells: Tensor = self.down(filled).permute(0, 2, 3, 1)
        return cells

    def gather(self, x: Tensor, place: Place, found: Sequence[Any]) -> Cells:
        """The cells of the inner part."""
        rows, cols = place.inner
        f = self.features(x)[:, :, rows, cols]
        s = self.stride
        return [((place.window.row + rows.start) // s, (place.window.col + cols.start) // s, self._cells(f))]

    def finish(self, total: Cells, rows: int, cols: int) -> Tensor:
        """The scanned cells of the whole image, C channels: (B, C, h, w)."""
        if len(total) == 1:
            z = total[0][2]
        else:
            first = total[0][2]
            z = first.new_empty((first.shape[0], -(-rows // self.stride), -(-cols // self.stride), first.shape[3]))
            while total:
                i, j, part = total.pop()
                z[:, i : i + part.shape[1], j : j + part.shape[2]] = part
        for scan in self.scans:
            z = scan(z)
        y: Tensor = self.up(self.norm(z)).permute(0, 3, 1, 2)
        return y

    def _up(self, z: Tensor, place: Place) -> Tensor:
        """Bilinear (B, C, height, width) at a window that begins at a multiple of s."""
        s, w = self.stride, place.window
        # One cell more on every side: there the interpolation would take the window's edge for the image's.
        top, left = max(0, w.row // s - 1), max(0, w.col // s - 1)
        bottom, right = -(-(w.row + w.height) // s) + 1, -(-(w.col + w.width) // s) + 1
        part = z[:, :, top:bottom, left:right].contiguous(memory_format=torch.channels_last)
        full = F.interpolate(part, scale_factor=s, mode="bilinear", align_corners=False)
        row, col = w.row - s * top, w.col - s * left
        return full[:, :, row : row + w.height, col : col + w.width]

    def local(self, x: Tensor, place: Place, found: Sequence[Any]) -> Tensor:
        """SSM(x) of a piece, with the cells that were found."""
        f = self._up(found[0], place).add_(self.features(x))
        y: Tensor = self.head(self.mix(f))
        return y

    def macs(self, rows: int, cols: int) -> int:
        """Multiply-accumulates for an image, the interpolation left out."""
        h, w = -(-rows // self.stride), -(-cols // self.stride)
        pixels = sum(macs_per_pixel(m) for m in (self.features, self.mix, self.head))
        cells = self.down.weight.numel() + self.up.weight.numel()
        scans = sum(m.macs(h, w) for m in self.scans if isinstance(m, FourWayScan))
        return rows * cols * pixels + h * w * cells + scans


class Transform(MapOperator):
    """H(x) = W' soft(W x, theta a(W x)): a learned transform, in which targets are sparse, and its learned adjoint.

    W : 1 -> C -> C -> C, 3x3, ReLU between. W' : the same backwards with weights of its own. theta : a threshold of
    each channel. a : spatial attention in (0, 1), one value per pixel from 3x3 convolutions C -> C -> 1.
    """

    def __init__(self, C: int) -> None:
        super().__init__()
        self.W = nn.Sequential(*conv(1, C, 3), *conv(C, C, 3), *conv(C, C, 3, act=False))
        self.W_t = nn.Sequential(*conv(C, C, 3), *conv(C, C, 3), *conv(C, 1, 3, act=False))
        self.a = nn.Sequential(*conv(C, C, 3), *conv(C, 1, 3, act=False), nn.Sigmoid())
        self.theta = nn.Parameter(torch.full((C, 1, 1), -2.0))  # softplus of it is the threshold

    @property
    def radius(self) -> int:
        """W, then the attention, then the adjoint."""
        return sum(int(m.kernel_size[0]) // 2 for m in self.modules() if isinstance(m, nn.Conv2d))

    @property
    def width(self) -> int:
        """Channels of the transform."""
        return self.theta.shape[0]

    def forward(self, x: Any) -> Any:
        """H(x); see :meth:`MapOperator.forward`."""
        if not isinstance(x, Tensor):
            return x.through(self)
        return self.W_t(self.shrink(self.W(x)))

    def shrink(self, w: Tensor) -> Tensor:
        """Soft threshold of coefficients (B, C, H, W), as high as the attention says."""
        a = self.a(w)
        # :func:`rsunfold.unfold.proximal.soft_threshold`, in half of the memory; this is where the network needs most.
        return torch.copysign(w.abs().addcmul_(F.softplus(self.theta), a, value=-1).relu_(), w)

    def local(self, x: Tensor, place: Place, found: Sequence[Any]) -> Tensor:
        """H(x): nothing is pooled."""
        y: Tensor = self(x)
        return y


class Stage(nn.Module):
    """One iteration on D = B + T, in the order B, T, D::

    B^k = x + SSM^k(x)          x = D^{k-1} - T^{k-1}
    T^k = x - eps^k H^k(x)      x = T^{k-1} + D^{k-1} - B^k
    D^k = F_D(B^k + T^k)
    """

    def __init__(self, C: int, s: int, d: int, heads: int, states: int) -> None:
        super().__init__()
        self.SSM = Background(C, s, d, heads, states)
        self.H = Transform(C)
        self.FD = plain(3, C, norm=True)
        self.eps = nn.Parameter(torch.tensor([0.01]))

    def forward(self, D: Any, T: Any, k: int, keep: Keep, dead: bool) -> tuple[Any, Any]:
        """(D^k, T^k); with ``dead`` the branch D is not computed and comes back as None."""
        x = D - T
        B = keep(k, "B", x + self.SSM(x))
        x = T + D - B
        T = keep(k, "T", x - self.eps * self.H(x))
        D = None if dead else keep(k, "D", self.FD(B + T))
        return D, T


@register(
    "lsnet",
    task="detect-ir",
    kind="network",
    paper="Li, Wang and Chen, LSNet (our reading of the abstract: neither the full text nor code is published)",
    needs="one gray band in [0, 1]",
    sizes={
        "paper": {"K": 6, "C": 16, "s": 8, "d": 104, "heads": 2, "states": 64},
        "tiny": {"K": 2, "C": 6, "s": 4, "d": 8, "heads": 2, "states": 4},
    },
)
class LSNet(TargetNetwork):
    """LSNet (Li, Wang and Chen), K unrolled iterations (:class:`Stage`) from T^0 = 0.

    Our reading: only an abstract is published. It says that robust PCA, min R(B) + lambda S(T) + mu/2 ||D - B - T||^2,
    is unfolded with implicit priors; that a state space model learns the singular value thresholding, for long-range
    dependencies, and a spatially attentive network the generalised sparse transform, for fine structure; and that the
    network has 2.18 M parameters and 24.46 GFLOPs. The layers are ours, with the size "paper" near these counts.

    T^K is the logit of a target, D^K serves the fidelity loss. C : channels of the features. s : pixels of a cell a
    side. d : channels of the cells. heads, states : of the scans.
    """

    letters: ClassVar[tuple[str, ...]] = ("B", "T", "D")
    heads: ClassVar[Mapping[str, str]] = {"B": "SSM.head", "T": "H.W_t.4", "D": "FD.head"}

    def __init__(self, K: int = 6, C: int = 16, s: int = 8, d: int = 104, heads: int = 2, states: int = 64) -> None:
        super().__init__()
        self.arch = {"K": K, "C": C, "s": s, "d": d, "heads": heads, "states": states}
        self.stages = nn.ModuleList(Stage(C, s, d, heads, states) for _ in range(K))

    def macs(self, rows: int, cols: int) -> int:
        """Multiply-accumulates for an image of rows x cols pixels, those of the scans included."""
        return sum(
            m.SSM.macs(rows, cols) + rows * cols * (macs_per_pixel(m.H) + macs_per_pixel(m.FD))
            for m in self.stages
            if isinstance(m, Stage)
        )
