"""Fixtures that every test may use."""

import gc
import os

# Before numpy and torch: with a thread for each core, the two processes that `make test` starts wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest

# The same examples every time, and no deadline: a busy machine is no defect.
hypothesis.settings.register_profile("fixed", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("fixed")

SHARED = Path(__file__).resolve().parents[2] / "shared"


def pytest_collection_finish() -> None:
    """What the imports made stays to the end: not looked through again each time that garbage is collected."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real data and published checkpoints; tests that need it skip where it is absent."""
    if not (SHARED / "data").is_dir():
        pytest.skip(f"needs the data and reference files in {SHARED}, which are not part of the repository")
    return SHARED


def _sketch(figure: Any, path: Path) -> None:
    """``rsunfold.report.drawing.render`` of a picture whose parts lie where they fall."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure.set_layout_engine("none")
    FigureCanvasAgg(figure).print_png(path, pil_kwargs={"compress_level": 1})


@pytest.fixture
def sketch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that pictures show is drawn, in half the time."""
    monkeypatch.setattr("rsunfold.report.drawing.render", _sketch)


@pytest.fixture(autouse=True)
def sketched(sketch: None) -> None:
    """How pictures look is for tests/report alone to see."""


@pytest.fixture(scope="session")
def declared() -> Callable[..., None]:
    """``declared(spec, field, ..., bands=, sizes=)`` fails with what the ``@register`` of a model lacks."""

    def check(spec: Any, *fields: str, bands: tuple[int, int | None], sizes: tuple[str, ...] = ()) -> None:
        lacking = [name for name in ("paper", "needs", *fields) if not getattr(spec, name)]
        lacking += [f"sizes[{size!r}]" for size in sizes if size not in spec.sizes]
        assert not lacking, f"@register of {spec.name} lacks {', '.join(lacking)}"
        assert len(spec.paper) > 20, f"the paper of {spec.name} must have authors, title and year, not {spec.paper!r}"
        assert spec.bands == bands, f"bands of {spec.name} must be {bands}, as all of {spec.task}, not {spec.bands}"

    return check


@pytest.fixture(scope="session")
def random_network() -> Callable[..., Any]:
    """Builds a network with seeded random weights whose normalisations, channel weights and step sizes all matter."""
    import torch

    from rsunfold.registry import get_model
    from rsunfold.unfold.unrolled import TargetNetwork, Unrolled

    def build(model: str = "l-rpcanet", size: str = "tiny", **arch: Any) -> Any:
        spec = get_model(model)
        torch.manual_seed(0)
        net = spec.build(**{**spec.sizes[size], **arch}).eval().requires_grad_(False)
        draw = torch.Generator().manual_seed(1)
        for module in net.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.3, generator=draw)
                module.running_var.uniform_(0.5, 2, generator=draw)
                module.weight.uniform_(0.5, 1.5, generator=draw)
                module.bias.normal_(0, 0.3, generator=draw)
        for step in Unrolled.step_sizes(net) if isinstance(net, TargetNetwork) else ():
            step.fill_(0.5)
        for name, parameter in net.named_parameters():
            if ".w.wide." in name:
                parameter.mul_(20)  # else the prior were next to nothing beside what it is added to
            if ".w.se." in name and parameter.ndim > 1:
                parameter.normal_(0, 2, generator=draw)  # normalised after it: more would saturate the sigmoid
            elif ".se." in name and name.endswith("weight"):
                parameter.normal_(0, 4, generator=draw)
        return net

    return build


@pytest.fixture(scope="session")
def flops() -> Callable[..., int]:
    """``flops(function, ...)``: operations of a call by PyTorch's own counter, two for each multiply-accumulate."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode, bmm_flop

    def added(y: Any, a: Any, b: Any, **rest: Any) -> int:
        return bmm_flop.__wrapped__(a, b)  # the counter does not know the product that is added in place

    def count(function: Callable[..., Any], *given: Any, **options: Any) -> int:
        with FlopCounterMode(display=False, custom_mapping={torch.ops.aten.baddbmm_: added}) as counter:
            function(*given, **options)
        return counter.get_total_flops()

    return count


@dataclass(frozen=True)
class TinyWeights:
    """path : a weight file. net : the network in it. gray : an image, float32 (72, 80), on which it finds targets."""

    path: Path
    net: Any
    gray: np.ndarray
    threshold: float
    temperature: float

    def score(self, gray: np.ndarray) -> np.ndarray:
        """What the published formula gives, without anything that makes it fast or small."""
        import torch

        with torch.inference_mode():
            logits = self.net(torch.from_numpy(np.ascontiguousarray(gray))[None, None])[0][0, 0]
            return torch.sigmoid(logits / self.temperature).numpy()


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory, random_network: Callable[..., Any]) -> TinyWeights:
    """A tiny random L-RPCANet, calibrated so that a few spots of ``gray`` lie above its threshold."""
    import torch

    from rsunfold import weights
    from rsunfold.simulate.infrared import infrared_scene

    net = random_network()
    gray = np.round(infrared_scene(72, 80, background="clouds", targets=3, snr=10, seed=3).image * 255) / 255
    gray = gray.astype(np.float32)
    with torch.inference_mode():
        logits = net(torch.from_numpy(gray)[None, None])[0][0, 0].numpy()
    temperature, cut = float(logits.std()), float(np.quantile(logits, 0.997))
    threshold = float(1 / (1 + np.exp(-cut / temperature)))
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    record = weights.WeightRecord(
        name="tiny", model="l-rpcanet", arch=net.arch, threshold=threshold, temperature=temperature
    )
    weights.save(path, net, record)
    return TinyWeights(path, net, gray, threshold, temperature)
