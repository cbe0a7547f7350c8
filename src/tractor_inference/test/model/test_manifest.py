"""The manifest beside a model: read, written and checked against the files it names."""

import copy
import dataclasses
import json
import math
import os

import actor_factory
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tractor_core.errors import ContractError, ModelError
from tractor_inference.model import file as model_file
from tractor_inference.model import manifest


@pytest.fixture
def model(tmp_path, contract):
    """An INT8 model as far as a manifest sees it: three kinds of files with any bytes."""
    (tmp_path / "actor.onnx").write_bytes(b"network")
    (tmp_path / "actor.rknn").write_bytes(b"model")
    files = actor_factory.write_samples(tmp_path / "calibration_data", contract, 2)
    actor_factory.write_manifest(
        tmp_path / "actor.rknn", tmp_path / "actor.onnx", contract, files, actor_factory.no_answer
    )
    return tmp_path / "actor.rknn"


def edit(model, change):
    path = manifest.path_of(model)
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def test_round_trip(model):
    record = manifest.read(model)
    assert record.model.precision == "int8" and len(record.calibration.samples) == 2
    before = manifest.path_of(model).read_bytes()
    manifest.write(record, manifest.path_of(model))
    assert manifest.path_of(model).read_bytes() == before
    assert manifest.read(model) == record


def test_a_link_leads_to_the_manifest_of_the_real_file(model, tmp_path):
    version = tmp_path / "versions" / "actor.1"
    version.mkdir(parents=True)
    for file in (model, manifest.path_of(model)):
        file.rename(version / file.name)
    link = tmp_path / "remote_trained.rknn"
    link.symlink_to("versions/actor.1/actor.rknn")
    assert manifest.path_of(link) == version / "actor.json"
    assert manifest.read(link) == manifest.read(version / "actor.rknn")


def test_a_link_out_of_its_folder_is_refused(model, tmp_path, contract):
    (tmp_path / "models").mkdir()
    link = tmp_path / "models" / "remote_trained.rknn"
    link.symlink_to("../actor.rknn")
    for read in (manifest.read, lambda path: manifest.load(path, contract)):
        with pytest.raises(ModelError, match=f"found a link to {model}"):
            read(link)


def test_loading_returns_what_it_checked(model, contract):
    link = model.parent / "remote_trained.rknn"
    link.symlink_to(model.name)
    assert manifest.load(link, contract) == (model, manifest.read(model), b"model")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            lambda value: value["probes"]["frames"].pop(),
            "probes.frames: expected at least 8, found 7",
        ),
        (
            lambda value: value["build"].update(algorithm="kl_divergence"),
            "build.algorithm: expected",
        ),
        (lambda value: value["build"].update(algorithm=""), "build.algorithm: expected"),
        *(
            (
                lambda value, tolerance=tolerance: value["probes"].update(tolerance=tolerance),
                "probes.tolerance: expected more than 0 and at most 0.2, found",
            )
            for tolerance in (0.0, -0.05, 0.21)
        ),
        *(
            (
                lambda value, tolerance=tolerance: value["probes"].update(tolerance=tolerance),
                "expected a finite number",
            )
            for tolerance in (math.inf, math.nan)
        ),
    ],
)
def test_a_manifest_that_proves_too_little_is_refused(model, change, reason):
    edit(model, change)
    with pytest.raises(ModelError, match=reason):
        manifest.read(model)


@pytest.mark.parametrize("scale", [0.0, 0.3, 1.0, None])
def test_the_noise_that_a_model_asks_for_is_kept(model, scale):
    record = dataclasses.replace(manifest.read(model), exploration_scale=scale)
    manifest.write(record, manifest.path_of(model))
    assert manifest.read(model) == record


def test_an_older_manifest_asks_for_no_noise(model):
    edit(model, lambda value: value.pop("exploration_scale"))
    assert manifest.read(model).exploration_scale is None


@pytest.mark.parametrize("scale", [-0.1, 1.1, 1, True, "0.3", [0.3], {}])
def test_noise_beyond_an_action_is_refused(model, scale):
    edit(model, lambda value: value.update(exploration_scale=scale))
    with pytest.raises(ModelError, match=r"manifest\.exploration_scale: expected .*, found"):
        manifest.read(model)


def test_a_changed_model_is_refused_with_both_digests(model, contract):
    record = manifest.read(model)
    model.write_bytes(b"other")
    with pytest.raises(ModelError) as caught:
        manifest.load(model, contract)
    assert record.model.sha256 in str(caught.value)
    assert manifest.sha256_file(model) in str(caught.value)


def test_a_model_that_was_cut_off_is_refused_with_both_sizes(model, contract):
    model.write_bytes(b"mod")
    with pytest.raises(ModelError, match=r"expected 5 bytes as its manifest says, found 3"):
        manifest.load(model, contract)


def test_a_model_replaced_between_the_two_reads_is_read_again(model, contract, monkeypatch):
    """Its manifest is read first; then both are replaced, as by hand or by an older converter."""
    reads = []
    read = model_file.ModelFolder.read

    def read_then_replace(folder, path):
        data = read(folder, path)
        reads.append(path.name)
        if len(reads) == 1:
            model.write_bytes(b"newer")
            edit(model, lambda v: v["model"].update(sha256=manifest.sha256_file(model)))
        return data

    monkeypatch.setattr(model_file.ModelFolder, "read", read_then_replace)
    found, record, data = manifest.load(model, contract)
    assert data == b"newer" and record.model.sha256 == manifest.sha256_file(found)
    assert reads == ["actor.json", "actor.rknn"] * 2


def test_another_contract_is_refused_naming_the_fields(model, contract):
    other = dataclasses.replace(contract, proprio_clip=2.0)
    with pytest.raises(ContractError, match=r"proprio_clip: here 2\.0, there 3\.0") as caught:
        manifest.load(model, other)
    assert contract.digest in str(caught.value) and other.digest in str(caught.value)


def test_missing_files_say_what_makes_them(model, tmp_path):
    with pytest.raises(ModelError, match=r"expected an \.rknn file, found none"):
        manifest.read(tmp_path / "absent.rknn")
    manifest.path_of(model).unlink()
    with pytest.raises(ModelError, match=r"actor\.json: expected the manifest that convert writes"):
        manifest.read(model)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '"text"', "\udcff", pytest.param("[" * 200_000, id="nested")]
)
def test_what_is_no_manifest_is_refused(model, text):
    manifest.path_of(model).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ModelError, match="manifest"):
        manifest.read(model)


def test_a_newer_schema_is_refused_before_its_fields(model):
    edit(model, lambda value: value.update(schema=3, news=1))
    with pytest.raises(ModelError, match="expected schema 2, found 3"):
        manifest.read(model)


def test_all_problems_are_listed_at_once(model):
    def spoil(value):
        del value["onnx"]["sha256"]
        value["model"]["bytes"] = "many"
        value["calibration"]["samples"][1] = 7
        value["surprise"] = 1

    edit(model, spoil)
    with pytest.raises(ModelError) as caught:
        manifest.read(model)
    for problem in (
        "manifest.onnx.sha256: missing",
        "manifest.model.bytes: expected int, found 'many'",
        "manifest.calibration.samples[1]: expected an object, found 7",
        "manifest.surprise: unknown",
    ):
        assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v["model"].update(precision="int4"), "expected one of .* found 'int4'"),
        (lambda v: v["calibration"].update(samples=[]), "expected samples for int8"),
        (lambda v: v["model"].update(precision="fp16"), "none for fp16, found 2"),
    ],
)
def test_precision_and_samples_must_agree(model, change, message):
    edit(model, change)
    with pytest.raises(ModelError, match=message):
        manifest.read(model)


def places(value, path=()):
    """Paths of every value inside a JSON document."""
    yield path
    keys = value if isinstance(value, dict) else range(len(value)) if type(value) is list else ()
    for key in keys:
        yield from places(value[key], (*path, key))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_any_damage_is_a_model_error_or_a_readable_manifest(model, data):
    good = dataclasses.asdict(manifest.read(model))
    spoiled = json.loads(json.dumps(good))
    path = data.draw(st.sampled_from(list(places(spoiled))[1:]))
    inner = spoiled
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = data.draw(json_values)
    original = manifest.path_of(model).read_text()
    manifest.path_of(model).write_text(json.dumps(spoiled))
    try:
        record = manifest.read(model)
        assert json.loads(json.dumps(dataclasses.asdict(record))) == spoiled
    except ModelError as error:
        assert str(manifest.path_of(model)) in str(error)
    finally:
        manifest.path_of(model).write_text(original)


def test_a_failed_write_leaves_the_old_manifest_and_no_debris(model, monkeypatch):
    record = manifest.read(model)
    before = {name: (model.parent / name).stat().st_ino for name in os.listdir(model.parent)}

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        manifest.write(record, manifest.path_of(model))
    after = {name: (model.parent / name).stat().st_ino for name in os.listdir(model.parent)}
    assert after == before
    assert manifest.read(model) == record


def test_measured_nan_is_never_written(model):
    record = dataclasses.replace(manifest.read(model), validation={"mean_abs_error": float("nan")})
    before = copy.copy(manifest.path_of(model).read_bytes())
    with pytest.raises(ValueError):
        manifest.write(record, manifest.path_of(model))
    assert manifest.path_of(model).read_bytes() == before


@pytest.mark.parametrize("bad", ["x", [1], [2, 1], [None, 1], {"a": 1}])
def test_broken_ranges_are_refused(tmp_path, contract, bad):
    onnx = tmp_path / "actor.onnx"
    onnx.write_bytes(b"onnx")
    rknn = tmp_path / "actor.rknn"
    rknn.write_bytes(b"rknn")
    actor_factory.write_manifest(rknn, onnx, contract, [], actor_factory.no_answer)
    path = rknn.with_suffix(".json")
    record = json.loads(path.read_text())
    record["calibration"]["ranges"] = {"lidar_min": bad}
    path.write_text(json.dumps(record))
    with pytest.raises(ModelError, match=r"ranges.*lidar_min.*expected two ascending numbers"):
        manifest.read(rknn)
