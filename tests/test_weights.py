"""Weights as records: found by name, verified, refused when they are not what they should be, never executed."""

import dataclasses
import json
import math
import os
import pickle
import warnings
from pathlib import Path

import pytest
import torch

from rsunfold import load_detector, weights
from rsunfold.errors import InputError, OutputError, UsageError, WeightsError
from rsunfold.infer.infrared.detector import Detector
from rsunfold.infer.infrared.evaluate import detectors_of
from rsunfold.infer.infrared.explain import Explainer
from rsunfold.models.l_rpcanet import LRPCANet
from rsunfold.models.rpcanet import RPCANet
from rsunfold.registry import all_models, get_model
from rsunfold.weights import WeightRecord

ARCH = {"K": 1, "C": 4}
RECORD = WeightRecord(
    name="small",
    model="rpcanet",
    arch=ARCH,
    threshold=0.37,
    temperature=2.5,
    trained_on="nothing",
    licence="MIT",
    origin="a test",
    figures={"set": {"iou_pooled": 0.5}},
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "small.safetensors"
    torch.manual_seed(0)
    weights.save(path, RPCANet(**ARCH), RECORD)
    return path


@pytest.fixture
def folder(tmp_path: Path, file: Path, monkeypatch) -> Path:
    """A folder of shipped weights that holds ``small`` alone."""
    (tmp_path / "registry.toml").write_text(f'[small]\nfile = "{file.name}"\nsha256 = "{weights.sha256_of(file)}"\n')
    monkeypatch.setattr(weights, "weights_folder", lambda: tmp_path)
    return tmp_path


def with_record(path: Path, **changes) -> Path:
    weights.save(path, RPCANet(**ARCH), dataclasses.replace(RECORD, **changes), overwrite=True)
    return path


def test_record_survives_the_file(file):
    assert weights.read_record(str(file)) == RECORD
    net, record, sha = weights.load(str(file), "rpcanet")
    assert record == RECORD and net.arch == ARCH and not net.training
    assert sha == weights.verify(str(file)) == weights.sha256_of(file)


def test_weights_that_are_for_some_images_only_are_named_where_a_model_has_none_for_all(folder):
    with pytest.raises(WeightsError, match=r"no weights of rpcanet for all images are shipped, but small \(see"):
        weights.chosen(get_model("rpcanet"), None)
    with pytest.raises(WeightsError, match=r"no weights are shipped for lsnet; give"):
        weights.chosen(get_model("lsnet"), None)


def test_saving_returns_the_hash_of_the_file_and_never_overwrites_unasked(file, tmp_path):
    net = RPCANet(**ARCH)
    sha = weights.save(tmp_path / "b.safetensors", net, RECORD)
    assert sha == weights.sha256_of(tmp_path / "b.safetensors")
    before = file.read_bytes()
    with pytest.raises(OutputError, match="already exists"):
        weights.save(file, net, RECORD)
    assert file.read_bytes() == before
    weights.save(file, net, RECORD, overwrite=True)
    assert file.read_bytes() != before


def test_a_full_disk_is_an_output_error_and_leaves_nothing(tmp_path, monkeypatch):
    def full(self, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match=r"a\.safetensors cannot be written .*No space left"):
        weights.save(tmp_path / "a.safetensors", RPCANet(**ARCH), RECORD)
    assert not list(tmp_path.iterdir())


def test_shipped_weights_are_found_by_name(folder):
    assert weights.shipped().keys() == {"small"}
    path, sha = weights.find("small")
    assert path == folder / "small.safetensors" and weights.verify("small") == sha
    assert weights.load("small")[1] == RECORD


def test_the_registry_of_this_version_is_true():
    for name in weights.shipped():
        assert weights.read_record(name).name == name
        weights.load(name)


def test_changed_file_is_refused_by_its_hash(folder):
    path = folder / "small.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    for call in (weights.verify, weights.load):
        with pytest.raises(
            WeightsError, match=r"small\.safetensors is damaged or was modified: its sha256 is"
        ) as caught:
            call("small")
    assert caught.value.exit_code == 5


def test_registered_but_missing_file(folder):
    (folder / "small.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"\'small\' should be in .*which is missing; reinstall rsunfold"):
        weights.load("small")


@pytest.mark.parametrize("content", [None, "[small\n"])
def test_damaged_installation(tmp_path, monkeypatch, content):
    monkeypatch.setattr(weights, "weights_folder", lambda: tmp_path)
    if content is not None:
        (tmp_path / "registry.toml").write_text(content)
    with pytest.raises(WeightsError, match=r"installation is damaged: .*registry\.toml"):
        weights.shipped()


def test_unknown_names(folder):
    with pytest.raises(
        UsageError, match=r"unknown weights 'smal', which are neither shipped .*; did you mean 'small'\?"
    ):
        weights.load("smal")
    with pytest.raises(UsageError, match=r"unknown weights 'qqqq', .*; choose from small"):
        weights.find("qqqq")


@pytest.mark.parametrize("name", ["absent.safetensors", "folder/absent"])
def test_missing_file(name):
    with pytest.raises(WeightsError, match=f"the weights file {name} does not exist"):
        weights.load(name)


@pytest.mark.parametrize("keep", [0, 7, 40, 0.5, -1])
def test_truncated_file(file, keep):
    content = file.read_bytes()
    file.write_bytes(content[: int(keep * len(content))] if isinstance(keep, float) else content[:keep])
    with pytest.raises(WeightsError, match=r"not an rsunfold weights file|damaged or truncated|is truncated"):
        weights.load(str(file))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"confidence": "x"}, "confidence 'x', but it must be 0 or more and below 1"),
        ({"confidence": 2.0}, "confidence 2.0, but it must be 0 or more and below 1"),
        ({"confidence": math.nan}, "confidence nan"),
        ({"threshold": True}, "threshold True, but it must be between 0 and 1"),
        ({"temperature": math.inf}, "temperature inf, but it must be above 0"),
        ({"bands": -3}, "bands -3, but it must be a whole number above 0"),
        ({"bands": "many"}, "bands 'many'"),
        ({"max_area": 2.5}, "max_area 2.5, but it must be a whole number above 0"),
        ({"reach": 0}, "reach 0, but it must be a whole number above 0"),
        ({"figures": [1]}, r"figures \[1\], but it must be a table"),
        ({"arch": None}, "arch None, but it must be a table"),
        ({"origin": 5}, "origin 5, but it must be text"),
        ({"scale": [320, "280"]}, r"scale \(320, '280'\), but it must be two numbers that differ"),
        ({"scale": (1.0, 1.0)}, r"scale \(1.0, 1.0\), but it must be two numbers that differ"),
        ({"scale": 5}, "scale 5, but it must be two numbers"),
        ({"scale": (1, "b")}, r"scale \(1, 'b'\), but it must be two numbers"),
        ({"published": "no"}, "published 'no', but it must be true or false"),
    ],
)
def test_records_that_say_nonsense(change, words):
    with pytest.raises(WeightsError, match=f"the record of a has {words}"):
        weights.WeightRecord(**{"name": "a", "model": "l-rpcanet", "arch": {}, **change})


def test_weights_of_black_hot_images_have_a_scale_that_falls():
    assert weights.WeightRecord("a", "l-rpcanet", {}, scale=[255, 0]).scale == (255, 0)


def test_a_record_is_read_where_the_smallest_numbers_are_0():
    torch.set_flush_denormal(True)
    try:
        assert weights.WeightRecord("a", "l-rpcanet", {}).confidence == 0
    finally:
        torch.set_flush_denormal(False)


@pytest.mark.parametrize("metadata", ['"abc"', "5", "null", "[" * 100_000])
def test_metadata_that_is_no_record(metadata, tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / "a.safetensors"
    save_file({"a": torch.zeros(2)}, path, metadata={"rsunfold": metadata})
    with pytest.raises(WeightsError, match="is not an rsunfold weights file"):
        weights.read_record(str(path))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda t: t * math.nan if t.is_floating_point() else t, "are not finite"),
        (lambda t: t.to(torch.int32), "whole numbers"),
    ],
)
def test_tensors_that_are_no_numbers(spoil, words, file):
    net, record, _ = weights.load(str(file))
    path = file.with_name("spoiled.safetensors")
    from safetensors.torch import save_file

    tensors = {name: spoil(tensor).contiguous() for name, tensor in net.state_dict().items()}
    save_file(tensors, path, metadata={"rsunfold": json.dumps(dataclasses.asdict(record))})
    with pytest.raises(WeightsError, match=rf"spoiled\.safetensors have .*{words} in the tensor stages"):
        weights.load(str(path))


def test_files_that_are_something_else(tmp_path):
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(2)}, tmp_path / "foreign.safetensors")
    (tmp_path / "text.safetensors").write_text("just a text that is long enough to hold a length")
    for name in ("foreign", "text"):
        with pytest.raises(WeightsError, match=rf"{name}\.safetensors is not an rsunfold weights file"):
            weights.load(str(tmp_path / f"{name}.safetensors"))


def test_weights_of_another_model(file):
    with pytest.raises(WeightsError, match="belong to the model 'rpcanet', not to 'l-rpcanet'"):
        weights.load(str(file), "l-rpcanet")


def test_weights_bring_their_model_unless_another_is_asked_for(file):
    assert weights.model_for("detect-ir", None, None) == "l-rpcanet"
    assert weights.model_for("detect-ir", "top-hat:disk=3", str(file)) == "top-hat:disk=3"
    found = weights.model_for("detect-ir", None, str(file))
    assert found == Detector(weights=str(file), device="cpu").spec.name == "rpcanet"
    assert [d.spec.name for d in detectors_of(None, weights=[str(file)], device="cpu", memory=None, say=print)] == [
        found
    ]
    assert Explainer(weights=str(file), device="cpu").detector.spec.name == found
    assert load_detector(weights=file, device="cpu").spec.name == found
    with pytest.raises(WeightsError, match="the model 'rpcanet', which is of detect-ir, not of denoise-hsi"):
        weights.model_for("denoise-hsi", None, str(file))
    with pytest.raises(WeightsError, match="another version of rsunfold: unknown model 'rpcanett'"):
        weights.model_for("detect-ir", None, str(with_record(file, model="rpcanett")))


def test_weights_that_are_named_twice_are_compared_once(folder, file, monkeypatch):
    monkeypatch.chdir(folder)
    other = folder / "other.safetensors"
    other.write_bytes(file.read_bytes())
    given = ["Small", "small", str(file), "other.safetensors", str(other)]
    pairs = weights.compared("detect-ir", [], given)
    assert pairs == [("rpcanet", "small"), ("rpcanet", "other.safetensors")]
    assert [weights.labelled(*pair) for pair in pairs] == ["rpcanet (small)", "rpcanet (other)"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"newkey": 3}, "has the entry 'newkey', which this version does not know; update rsunfold"),
        ({"arch": ...}, "is damaged: it lacks 'arch'"),
        ({"threshold": "x"}, "cannot be used: the record of small has threshold 'x', but it must be between 0 and 1"),
        ({"arch": [1]}, "cannot be used: the record of small has arch .*, but it must be a table"),
    ],
)
def test_records_of_newer_versions_and_damaged_ones_are_told_apart(file, changes, words):
    from safetensors.torch import save_file

    content = {k: v for k, v in (dataclasses.asdict(RECORD) | changes).items() if v is not ...}
    save_file({"a": torch.zeros(2)}, file, metadata={"rsunfold": json.dumps(content)})
    with pytest.raises(WeightsError, match=words):
        weights.read_record(file)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "l-rpcanet", "arch": {"K": 1}}, "do not fit the model 'l-rpcanet'"),
        ({"arch": {"K": 1, "C": 3}}, "do not fit the model 'rpcanet': size mismatch for"),
        ({"arch": {"K": 10**6, "C": 4}}, "do not fit the model 'rpcanet': the record is that of a larger network"),
        ({"arch": {"K": 1, "C": 30_000}}, "do not fit the model 'rpcanet': the record is that of a larger network"),
        ({"model": "rpcanet-pp", "arch": {"C": 3}}, "do not fit the model 'rpcanet-pp': C = 3 channels are too few"),
        ({"arch": {"K": 1, "width": 4}}, "do not fit the model 'rpcanet': .*width"),
        ({"model": "top-hat", "arch": {}}, "are for the model 'top-hat', which takes none"),
        ({"model": "rpcanett"}, "another version of rsunfold: unknown model 'rpcanett'"),
    ],
)
def test_records_that_do_not_fit_their_tensors(file, changes, message):
    with pytest.raises(WeightsError, match=message):
        weights.load(str(with_record(file, **changes)))


@pytest.mark.parametrize(("peak", "refused"), [(0.3, False), (0.9, True)])
def test_a_peak_of_older_versions_is_refused_where_it_decided(file, peak, refused):
    content = file.read_bytes()
    old = rb"\"confidence\": 0.0"
    assert content.count(old) == 1
    file.write_bytes(content.replace(old, rf"\"peak\": {peak}".encode().ljust(len(old))))
    if refused:
        with pytest.raises(WeightsError, match="uses the peak rule of an older version"):
            weights.read_record(str(file))
    else:
        assert weights.read_record(str(file)) == RECORD


@pytest.mark.parametrize("changes", [{"threshold": 0.0}, {"threshold": 1.0}, {"temperature": 0.0}])
def test_impossible_threshold_or_temperature(file, changes):
    with pytest.raises(WeightsError, match=r"but it must be (between 0 and 1|above 0)"):
        dataclasses.replace(RECORD, **changes)
    content = file.read_bytes()
    key, value = next(iter(changes.items()))
    old = json.dumps(json.dumps({key: getattr(RECORD, key)})[1:-1])[1:-1].encode()
    new = json.dumps(json.dumps({key: value})[1:-1])[1:-1].encode()
    assert content.count(old) == 1
    file.write_bytes(content.replace(old, new.ljust(len(old))))
    with pytest.raises(WeightsError, match=r"small\.safetensors cannot be used: .* small has (threshold|temperature)"):
        weights.read_record(str(file))


# ------------------------------------------------------------------ published checkpoints


def published(net: LRPCANet | RPCANet) -> dict[str, torch.Tensor]:
    """The network's tensors under the names of the published code."""
    theirs = {"FB": "lowrank", "FT": "sparse", "FN": "residual", "FD": "merge", "eps": "sparse", "sig": "residual"}
    out = {}
    for name, tensor in net.state_dict().items():
        _, k, operator, *rest = name.split(".")
        tail = ".".join(rest) or {"eps": "epsilon", "sig": "sigma"}[operator]
        inner = "mapping." if operator == "FD" else "convs."
        if isinstance(net, RPCANet):
            tail = tail.replace("head.", "features.14." if operator == "FT" else "features.12.")
        tail = tail.replace("features.", inner).replace("se.", "channel_attention.").replace("head.", "final_conv.")
        out[f"decos.{k}.{theirs[operator]}.{tail}"] = tensor
    return out


@pytest.mark.parametrize(
    ("model", "net"),
    [("l-rpcanet", LRPCANet(K=2, c=4, C=8, R=2, carry_noise=False)), ("rpcanet", RPCANet(K=2, C=4))],
)
@pytest.mark.parametrize("wrap", [None, "state_dict", "net", "module."])
def test_import_infers_the_architecture(tmp_path, model, net, wrap):
    state = published(net)
    if wrap == "module.":
        state = {f"module.{k}": v for k, v in state.items()}
    torch.save({wrap: state, "epoch": 3} if wrap in ("state_dict", "net") else state, tmp_path / "theirs.pkl")
    record = weights.import_published(tmp_path / "theirs.pkl", model, tmp_path / "ours.safetensors")
    assert record.arch == net.arch and record.name == "ours" and record.model == model
    assert (record.bands, record.scaling) == (1, weights.GRAY)
    loaded, again, _ = weights.load(str(tmp_path / "ours.safetensors"))
    assert again == record
    assert all(torch.equal(v, net.state_dict()[k]) for k, v in loaded.state_dict().items())


class Payload:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return os.system, (f"touch '{self.trace}'",)


@pytest.mark.parametrize("form", ["torch", "legacy", "pickle"])
def test_a_pickle_that_would_run_code_is_refused_and_not_run(tmp_path, form):
    trace, path, target = tmp_path / "trace", tmp_path / "evil.pkl", tmp_path / "out.safetensors"
    content = {**published(RPCANet(**ARCH)), "evil": Payload(trace)}
    if form == "pickle":
        path.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "torch")
    with pytest.raises(InputError, match=r"evil\.pkl is not a PyTorch checkpoint of plain tensors"):
        weights.import_published(path, "rpcanet", target)
    assert not trace.exists() and not target.exists()
    if form == "pickle":  # the payload is a real one
        pickle.loads(path.read_bytes())
        assert trace.exists()


def test_pickles_of_other_protocols_are_refused_without_warnings(tmp_path):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"evil": Payload(tmp_path / "trace")}, protocol=4))
    with warnings.catch_warnings(record=True) as told, pytest.raises(InputError, match=r"a\.pkl is not a PyTorch"):
        warnings.simplefilter("always")
        weights.import_published(tmp_path / "a.pkl", "rpcanet", tmp_path / "a.safetensors")
    assert not told


def test_files_that_are_no_checkpoints(tmp_path):
    target = tmp_path / "out.safetensors"
    torch.save(published(RPCANet(**ARCH)), tmp_path / "good.pkl")
    good = (tmp_path / "good.pkl").read_bytes()
    contents = {"empty": b"", "text": b"no checkpoint at all", "cut": good[: len(good) // 2], "short": good[:100]}
    for name, content in contents.items():
        (tmp_path / f"{name}.pkl").write_bytes(content)
        with pytest.raises(
            InputError, match=rf"{name}\.pkl is not a PyTorch checkpoint of plain tensors, or is truncated"
        ):
            weights.import_published(tmp_path / f"{name}.pkl", "rpcanet", target)
    with pytest.raises(InputError, match=r"absent\.pkl does not exist"):
        weights.import_published(tmp_path / "absent.pkl", "rpcanet", target)
    for name, content in {"list": [torch.zeros(1)], "number": {"a": 1}, "keys": {1: torch.zeros(1)}}.items():
        torch.save(content, tmp_path / f"{name}.pkl")
        with pytest.raises(InputError, match=rf"{name}\.pkl contains no table of named tensors"):
            weights.import_published(tmp_path / f"{name}.pkl", "rpcanet", target)
    assert not target.exists()


@pytest.mark.parametrize(
    ("model", "change", "message"),
    [
        ("l-rpcanet", lambda s: s, "not an L-RPCANet checkpoint"),
        ("rpcanet", lambda s: {}, "not those of an RPCANet checkpoint"),
        ("rpcanet", lambda s: {k: v for k, v in s.items() if "merge.mapping.0.weight" not in k}, "Missing key"),
        ("rpcanet", lambda s: {**s, "decos.0.extra.convs.0.weight": torch.zeros(1)}, "no entry 'extra'"),
        ("rpcanet", lambda s: {k: v[:1] if v.ndim == 4 else v for k, v in s.items()}, "size mismatch"),
    ],
)
def test_published_tensors_of_something_else(tmp_path, model, change, message):
    torch.save(change(published(RPCANet(K=1, C=4))), tmp_path / "theirs.pkl")
    with pytest.raises(WeightsError, match=rf"theirs\.pkl does not contain published weights of {model} \(.*{message}"):
        weights.import_published(tmp_path / "theirs.pkl", model, tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


FIRST_LOOKED_AT = {
    "drpca-net": "decos.0.sparse.gamma_generator.generator.1.weight",
    "l-rpcanet": "decos.0.residual.convs.0.weight",
    "rpcanet": "decos.0.lowrank.convs.0.weight",
    "rpcanet-pp": "decos.0.lowrank.ConvLSTM.conv_xi.weight",
    "smds-net": "lmbda.0",
}


@pytest.mark.parametrize("spec", [s for s in all_models(kind="network") if s.weighted], ids=lambda spec: spec.name)
@pytest.mark.parametrize("shape", [None, (), (0,), (8,), (8, 1, 3, 3), (1, 1, 1, 1, 729)], ids=str)
def test_tensors_that_do_not_fit_are_a_value_error(spec, shape):
    name = FIRST_LOOKED_AT.get(spec.name, "decos.0.weight")
    with pytest.raises(ValueError, match="." if shape == (0,) or spec.name in FIRST_LOOKED_AT else "no published"):
        spec.factory.from_published({} if shape is None else {name: torch.zeros(shape)})


@pytest.mark.parametrize("net", [RPCANet(**ARCH), LRPCANet(K=1, c=4, C=4, R=1)], ids=lambda net: type(net).__name__)
def test_each_tensor_has_to_be_there_in_its_shape(net):
    state = published(net)
    for name in (n for n in state if not n.endswith("num_batches_tracked")):
        for wrong in ({}, {name: state[name][None]}, {name: state[name].flatten()[:0]}, {name: torch.tensor(1.0)}):
            with pytest.raises(ValueError, match=r"."):
                type(net).from_published({n: x for n, x in state.items() if n != name} | wrong)


def test_published_l_rpcanet_is_no_rpcanet(tmp_path):
    torch.save(published(LRPCANet(K=1, c=4, C=8, R=1)), tmp_path / "theirs.pkl")
    with pytest.raises(WeightsError, match="not those of an RPCANet checkpoint"):
        weights.import_published(tmp_path / "theirs.pkl", "rpcanet", tmp_path / "out.safetensors")


def test_imports_that_make_no_sense(tmp_path):
    torch.save(published(RPCANet(**ARCH)), tmp_path / "theirs.pkl")
    with pytest.raises(UsageError, match="top-hat is a classical method and has no weights"):
        weights.import_published(tmp_path / "theirs.pkl", "top-hat", tmp_path / "out.safetensors")
    with pytest.raises(UsageError, match="did you mean 'rpcanet'"):
        weights.import_published(tmp_path / "theirs.pkl", "rpcanett", tmp_path / "out.safetensors")
    (tmp_path / "out.safetensors").write_text("mine")
    with pytest.raises(OutputError, match="already exists"):
        weights.import_published(tmp_path / "theirs.pkl", "rpcanet", tmp_path / "out.safetensors")
    assert (tmp_path / "out.safetensors").read_text() == "mine"
