"""The weights that come with the package: unchanged, documented, and able to find targets."""

import numpy as np
import pytest

from rsunfold import weights
from rsunfold.infer.detector import Detector
from rsunfold.metrics.infrared import InfraredMetrics
from rsunfold.registry import all_models, get_model
from rsunfold.simulate.infrared import infrared_scenes

SHIPPED = sorted(weights.shipped())


def test_the_default_weights_are_shipped():
    assert "l-rpcanet" in SHIPPED


def test_every_model_that_promises_weights_has_them():
    assert {m.weights for m in all_models() if m.weights} <= set(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_file_record_and_card(name):
    path, expected = weights.find(name)
    assert weights.verify(name) == weights.sha256_of(path) == expected
    net, record, _ = weights.load(name)
    assert get_model(record.model).kind == "network"
    assert record.arch == net.arch and record.licence and record.trained_on and record.origin
    card = (weights.weights_folder() / f"{name}.md").read_text(encoding="utf-8")
    assert expected in card and record.model in card


@pytest.mark.parametrize("name", SHIPPED)
def test_targets_of_simulated_scenes_are_found(name):
    """Far from chance, on scenes that were never trained on."""
    detector = Detector(weights.read_record(name).model, weights=name, device="cpu")
    metrics = InfraredMetrics(detector.threshold)
    for number, scene in enumerate(infrared_scenes(6, seed=1)):
        gray = np.round(scene.image * 255).astype(np.float32) / 255
        metrics.update(str(number), detector.score(gray), scene.mask)
    assert metrics.result()["iou_pooled"] > 0.3
