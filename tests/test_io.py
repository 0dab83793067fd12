"""Model files: what is saved comes back, a crash leaves a whole file, what is no model file is refused by name."""

import errno
import json
import os
import re
import socket
import stat

import backprop as bp
import numpy as np
import pytest
from backprop import io
from backprop.backends import choice
from backprop.files import models
from backprop.files import safetensors as files
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import save as safetensors_bytes

LAYERS = [
    bp.Dense(4, "elu", alpha=0.5, l1=0.1, l2=0.2, weight_init="he_normal", bias_init="ones", dropout=0.25),
    bp.Dense(3, "tanh", bias=False, trainable=False, weight_init=0.25),
    bp.Dense(2, "softmax", bias_trainable=False, max_norm=2.5),
]


@pytest.fixture
def net():
    return bp.Network(5, LAYERS, dtype="float64", seed=3, backend="reference")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


def test_what_is_saved_comes_back(backend, dtype, path, rng):
    net = bp.Network(5, LAYERS, dtype=dtype, seed=3, backend=backend)
    X = rng.normal(size=(9, 5))
    net.fit(X, np.arange(9) % 2, epochs=3)
    net.save(path)
    again = bp.load(path, backend=backend)
    np.testing.assert_array_equal(again.parameters, net.parameters)
    np.testing.assert_array_equal(again.predict(X), net.predict(X))
    assert again.layers == net.layers
    assert (again.n_inputs, again.seed, again.backend) == (5, 3, backend)
    assert again.dtype is net.dtype
    assert again.history.epochs == 0
    again.fit(X, np.arange(9) % 2, epochs=1)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 5), st.sampled_from(bp.ACTIVATIONS), st.booleans()), min_size=1, max_size=4),
    st.sampled_from(["float32", "float64"]),
    st.integers(0, 2**128 - 1),
)
def test_any_architecture_comes_back(tmp_path_factory, layers, dtype, seed):
    layers = [bp.Dense(n, "silu" if a == "softmax" else a, bias=bias) for n, a, bias in layers]
    net = bp.Network(2, layers, dtype=dtype, seed=seed, backend="reference")
    path = tmp_path_factory.mktemp("models") / "m"
    net.save(path)
    again = bp.load(path)
    assert repr(again) == repr(net)
    np.testing.assert_array_equal(again.parameters, net.parameters)


def test_a_seed_from_the_system_comes_back(path):
    net = bp.mlp([2, 1], backend="reference")
    net.save(path)
    assert bp.load(path).seed == net.seed


def test_arrays_given_as_initial_values_are_in_the_file_as_parameters(path):
    net = bp.Network(2, [bp.Dense(1, weight_init=[[1.0], [2.0]], bias_init=[3.0])], backend="reference")
    net.save(path)
    again = bp.load(path)
    np.testing.assert_array_equal(again.parameters, [1, 2, 3])
    assert again.layers == (bp.Dense(1),)


def test_settings_that_a_file_does_not_name_are_the_defaults(net, path):
    """So that files from before there was dropout can be read."""
    net.save(path)
    tensors, metadata = models.read(path)
    for layer in metadata["layers"]:
        del layer["dropout"], layer["max_norm"]
    path.write_bytes(models.serialized(tensors, metadata))
    again = bp.load(path)
    assert [(layer.dropout, layer.max_norm) for layer in again.layers] == [(0.0, None)] * 3
    np.testing.assert_array_equal(again.parameters, net.parameters)


def test_extra(net, path):
    extra = {"columns": ["a", "b"], "means": [0.5, 1.0], "nested": {"µ": None}}
    net.save(path, extra=extra)
    again, got = io.load_with_extra(path)
    assert got == extra
    assert again.layers == net.layers
    net.save(path)
    assert io.load_with_extra(path)[1] == {}


@pytest.mark.parametrize(
    ("extra", "error"), [({"a": np.ones(2)}, TypeError), ({"a": float("nan")}, ValueError), ({(1, 2): 3}, TypeError)]
)
def test_extra_that_json_cannot_hold(extra, error, net, path):
    with pytest.raises(error, match="extra: needs what JSON can hold"):
        net.save(path, extra=extra)
    assert not path.exists()


def test_extra_that_is_no_mapping(net, path):
    with pytest.raises(TypeError, match=r"extra: needs a mapping, got \[1\] \(list\)"):
        net.save(path, extra=[1])


def test_any_safetensors_reader_can_read_it(net, path):
    net.save(path)
    with safe_open(path, framework="numpy") as file:
        assert sorted(file.keys()) == [
            "layers.0.biases",
            "layers.0.weights",
            "layers.1.weights",
            "layers.2.biases",
            "layers.2.weights",
        ]
        np.testing.assert_array_equal(file.get_tensor("layers.2.weights"), net.weights[2])
        architecture = json.loads(file.metadata()["backprop"])
    assert architecture["format"] == "backprop.network"
    assert architecture["version"] == 1
    assert architecture["layers"][0]["activation"] == "elu"


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
        st.tuples(st.sampled_from(sorted(files._CODES, key=str)), st.lists(st.integers(0, 3), max_size=3)),
        max_size=5,
    ),
    st.text(st.characters(exclude_categories=["Cs"])),
)
def test_files_are_those_of_the_library(shapes, text):
    """Byte for byte."""
    tensors = {name: np.zeros(shape, dtype) + k + 1 for k, (name, (dtype, shape)) in enumerate(shapes.items())}
    tensors = {name: np.asarray(tensors[name], dtype) for name, (dtype, _) in shapes.items()}
    assert files.written(tensors, {"key": text}) == safetensors_bytes(tensors, metadata={"key": text})


def test_order_and_layout_of_what_is_saved_change_nothing():
    numbers = np.arange(12.0).reshape(3, 4)
    expected = safetensors_bytes({"a": numbers, "b": numbers.T.copy()}, metadata={"key": ""})
    for own in (numbers, np.asfortranarray(numbers), numbers.astype(">f8")):
        assert files.written({"b": own.T, "a": own}, {"key": ""}) == expected


def test_equal_networks_give_equal_files(tmp_path):
    for name in "ab":
        bp.mlp([3, 4, 2], seed=0, backend="reference").save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


# --- writing ----------------------------------------------------------------------------------------------------------


def test_paths_may_be_text_bytes_or_objects(net, path):
    for form in (path, str(path), os.fsencode(path)):
        net.save(form)
        assert bp.load(form).seed == 3
        path.unlink()


@pytest.mark.parametrize("path", [None, 0, 3.5])
def test_what_is_no_path(path, net):
    """Not even 0, which is what `open` takes for the standard input."""
    for use in (net.save, bp.load):
        with pytest.raises(TypeError, match="path: needs text, bytes or a path object, got"):
            use(path)


def test_a_null_character_in_a_path(net):
    for use in (net.save, net.save_checkpoint, bp.load, bp.resume, net.to_c, bp.callbacks.Checkpoint):
        with pytest.raises(ValueError, match=r"^path: needs a name without null characters"):
            use("a\0b")


def test_a_folder_that_does_not_exist(net, tmp_path):
    """The error names the file that was asked for, not the temporary one."""
    with pytest.raises(FileNotFoundError) as info:
        net.save(tmp_path / "none" / "model.safetensors")
    assert info.value.filename == str(tmp_path / "none" / "model.safetensors")


def test_only_the_file_is_left(net, path):
    net.save(path)
    net.save(path)
    assert os.listdir(path.parent) == [path.name]


def test_the_mode_is_that_of_any_new_file(net, path):
    old = os.umask(0o027)
    try:
        net.save(path)
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


@pytest.mark.parametrize("mode", [0o600, 0o664])
def test_the_mode_of_a_file_that_is_replaced_stays(mode, net, path, monkeypatch):
    """What only its owner may read is never readable by others, not even on the way."""
    net.save(path)
    path.chmod(mode)
    modes, replace = [], os.replace
    monkeypatch.setattr(
        os, "replace", lambda *paths: modes.append(stat.S_IMODE(os.stat(paths[0]).st_mode)) or replace(*paths)
    )
    net.save(path)
    assert modes == [mode]
    assert stat.S_IMODE(path.stat().st_mode) == mode


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="gives files away: for root alone")
def test_the_owner_and_the_group_of_a_file_that_is_replaced_stay(net, path):
    """Or who could read it could not any more."""
    net.save(path)
    os.chown(path, 1234, 5678)
    path.chmod(0o640)
    net.save(path)
    now = path.stat()
    assert (now.st_uid, now.st_gid, stat.S_IMODE(now.st_mode)) == (1234, 5678, 0o640)


def test_a_file_system_without_permissions(net, path, monkeypatch):
    net.save(path)

    def refuse(*_):
        raise PermissionError(errno.EPERM, "not here")

    monkeypatch.setattr(os, "chmod", refuse)
    net.save(path)
    assert bp.load(path).seed == 3


@pytest.mark.parametrize(
    ("step", "code", "is_saved"),
    [("open", errno.EACCES, True), ("fsync", errno.EINVAL, True), ("fsync", errno.EIO, False)],
)
def test_a_folder_that_cannot_be_synced(step, code, is_saved, net, path, monkeypatch):
    """The file is whole all the same; that the disk fails is an error."""
    does = getattr(os, step)

    def fails_for_folders(what, *rest):
        if stat.S_ISDIR((os.stat if step == "open" else os.fstat)(what).st_mode):
            raise OSError(code, os.strerror(code))
        return does(what, *rest)

    monkeypatch.setattr(os, step, fails_for_folders)
    if is_saved:
        net.save(path)
    else:
        with pytest.raises(OSError, match=os.strerror(code)):
            net.save(path)
    monkeypatch.undo()
    assert os.listdir(path.parent) == [path.name]
    assert bp.load(path).seed == 3


def test_a_link_stays_a_link(net, path):
    link = path.with_name("link")
    link.symlink_to(path.name)
    net.save(link)
    assert link.is_symlink()
    assert bp.load(path).seed == 3


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_crash_leaves_the_old_file(step, net, path, monkeypatch):
    net.save(path)
    before = path.read_bytes()

    def fail(*_):
        raise OSError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(os, step, fail)
        with pytest.raises(OSError, match="the disk is full"):
            bp.mlp([2, 1], backend="reference").save(path)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_data_and_folder_are_synced_around_the_renaming(net, path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(
        os, "fsync", lambda f: calls.append("folder" if stat.S_ISDIR(os.fstat(f).st_mode) else "file") or fsync(f)
    )
    monkeypatch.setattr(os, "replace", lambda *paths: calls.append("replace") or replace(*paths))
    net.save(path)
    assert calls == ["file", "replace", "folder"]


def test_only_a_regular_file_is_replaced(net, path):
    path.mkdir()
    with pytest.raises(IsADirectoryError) as info:
        net.save(path)
    assert info.value.filename == str(path)
    os.mkfifo(path / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.fspath(path / "socket"))
        for name in (path / "pipe", path / "socket", os.devnull):
            before = os.stat(name)
            with pytest.raises(ValueError, match="needs a regular file or a name that is free, got a device or a pipe"):
                net.save(name)
            assert os.stat(name) == before


def test_a_network_that_is_not_finite_is_not_saved(net, path):
    net.save(path)
    before = path.read_bytes()
    net.biases[0][2] = np.inf  # past the checks
    with pytest.raises(ValueError, match=re.escape("biases[0]: needs finite numbers, got inf at biases[0][2]")):
        net.save(path)
    assert path.read_bytes() == before


# --- files that are none ----------------------------------------------------------------------------------------------


def test_missing_file(path):
    with pytest.raises(FileNotFoundError):
        bp.load(path)
    with pytest.raises(IsADirectoryError):
        bp.load(path.parent)


def test_what_is_no_regular_file(path):
    """Opening a pipe would wait for its other end."""
    os.mkfifo(path)
    for name in (path, os.devnull):
        with pytest.raises(ValueError, match="not a regular file"):
            bp.load(name)


def test_numbers_in_the_file_that_are_not_finite(net, path):
    net.save(path)
    tensors, metadata = models.read(path)
    tensors["layers.1.weights"][0, 1] = np.nan
    path.write_bytes(models.serialized(tensors, metadata))
    message = "not a valid model file: weights[1]: needs finite numbers, got nan at weights[1][0, 1]"
    with pytest.raises(ValueError, match=re.escape(f"{path}: {message}")):
        bp.load(path)


def with_header(header, data=b""):
    """A file with this header, a text or what JSON makes of it."""
    raw = header.encode() if isinstance(header, str) else json.dumps(header).encode()
    return len(raw).to_bytes(8, "little") + raw + data


MARK = {"__metadata__": {"backprop": "{}"}}


def tensor(shape=(2,), offsets=(0, 8), dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


@pytest.mark.parametrize(
    ("header", "size", "message"),
    [
        ("[]", 0, "its header is not a JSON object"),
        ("null", 0, "its header is not a JSON object"),
        ("{}x", 0, "Extra data"),
        ('{"a": NaN}', 0, "NaN is not JSON"),
        ('{"a": 1e999}', 0, "1e999 is not JSON"),
        ('{"a": ' + "9" * 5000 + "}", 0, "4300 digits"),
        ('{"a": 1, "a": 1}', 0, "a key occurs twice"),
        ("[" * 50_000, 0, "nested too deeply"),
        ("[" + "0," * 100_000 + "0]", 0, "more JSON than is safe to read: 100,001 values in 200,003 bytes"),
        (" " * 3_000_000, 0, "more JSON than is safe to read: 0 values in 3,000,000 bytes"),
        ({"__metadata__": []}, 0, "__metadata__ is not an object of strings"),
        ({"__metadata__": {"backprop": 1}}, 0, "__metadata__ is not an object of strings"),
        (MARK | {"a": 1}, 0, "'a': needs dtype, shape and data_offsets"),
        (MARK | {"a": tensor() | {"more": 1}}, 8, "'a': needs dtype, shape and data_offsets"),
        (MARK | {"a": tensor(dtype="BF16")}, 8, "'a': dtype: needs one of 'I8'"),
        (MARK | {"a": tensor(dtype=[])}, 8, "'a': dtype: needs one of 'I8'"),
        (MARK | {"a": tensor(shape=2)}, 8, "'a': shape: needs a list of 0 to 32 integers, got 2 (int)"),
        (MARK | {"a": tensor(shape=[1] * 33)}, 8, "'a': shape: needs a list of 0 to 32 integers"),
        (MARK | {"a": tensor(shape=[-2])}, 8, "'a': shape: needs an integer >= 0"),
        (MARK | {"a": tensor(shape=[True])}, 8, "'a': shape: needs an integer, got True (bool)"),
        (MARK | {"a": tensor(shape=[2**64])}, 8, "'a': shape: needs an integer >= 0 and <= 9223372036854775807"),
        (MARK | {"a": tensor(shape=[2**33, 2**31])}, 8, "'a': needs float32 (8589934592, 2147483648), which is not"),
        (MARK | {"a": tensor(offsets=[0])}, 8, "'a': data_offsets: needs a list of 2 to 2 integers, got [0]"),
        (MARK | {"a": tensor(offsets=[8, 0])}, 8, "'a': needs float32 (2,), which is not what is between (8, 0)"),
        (MARK | {"a": tensor(offsets=[8, 16])}, 16, "'a': begins at 8, but what is before it ends at 0"),
        (MARK | {"a": tensor(), "b": tensor(offsets=[4, 12])}, 12, "'b': begins at 4, but what is before it ends at 8"),
        (MARK | {"a": tensor()}, 7, "its tensors take 8 bytes, but the file has 7 for them"),
        (MARK | {"a": tensor()}, 9, "its tensors take 8 bytes, but the file has 9 for them"),
        (MARK, 1, "its tensors take 0 bytes, but the file has 1 for them"),
    ],
)
def test_headers_that_do_not_agree_with_the_file(header, size, message, path):
    path.write_bytes(with_header(header, bytes(size)))
    start = re.escape(f"{path}: not a safetensors file, or a damaged one: ")
    with pytest.raises(ValueError, match=start + ".*" + re.escape(message)):
        models.read(path)


@pytest.mark.parametrize("length", [1, 2**32, 2**63, 2**64 - 1])
def test_headers_longer_than_the_file(length, path):
    path.write_bytes(length.to_bytes(8, "little"))
    with pytest.raises(ValueError, match=re.escape(f"its header should be {length:,} bytes long, but the file has 8")):
        models.read(path)


def test_a_file_that_shrinks_while_it_is_read(net, path, monkeypatch):
    net.save(path)
    os.truncate(path, path.stat().st_size - 8)
    size = path.stat().st_size + 8
    monkeypatch.setattr(os, "fstat", lambda _: os.stat_result([0] * 6 + [size] + [0] * 3))
    with pytest.raises(ValueError, match="it ends too early"):
        bp.load(path)


def test_extra_that_could_not_be_read_again(net, path):
    with pytest.raises(ValueError, match=r"extra: needs what JSON can hold \(more JSON than is safe to read"):
        net.save(path, extra={"a": [0] * 100_000})
    nested: list = []
    for _ in range(100_000):
        nested = [nested]
    with pytest.raises(ValueError, match="extra: needs what JSON can hold"):
        net.save(path, extra={"a": nested})
    with pytest.raises(ValueError, match=r"extra: needs what JSON can hold \(a key occurs twice"):
        net.save(path, extra={"a": {1: "one", "1": "two"}})
    assert not path.exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"abc", b"\xff" * 8 + b"{}", b"sepal_length,species\n5.1,setosa\n", b"PK\x03\x04" + bytes(300), bytes(100)],
)
def test_foreign_files(content, path):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(f"{path}: not a safetensors file, or a damaged one")):
        bp.load(path)


def test_every_truncation_is_noticed(net, path):
    net.save(path)
    whole = path.read_bytes()
    for end in (*range(0, len(whole), 23), len(whole) - 1):
        path.write_bytes(whole[:end])
        with pytest.raises(ValueError, match=re.escape(str(path))):
            bp.load(path)
    path.write_bytes(whole + b"\0")
    with pytest.raises(ValueError, match=re.escape(str(path))):
        bp.load(path)


def test_another_program_s_safetensors(path):
    path.write_bytes(safetensors_bytes({"a": np.ones(3)}, metadata={"format": "pt"}))
    with pytest.raises(ValueError, match="not a file that backprop wrote"):
        bp.load(path)
    path.write_bytes(safetensors_bytes({"a": np.ones(3)}))
    with pytest.raises(ValueError, match="not a file that backprop wrote"):
        bp.load(path)


@pytest.mark.parametrize("text", ["{", "[1]", "null", '"a"', "[" * 50_000])
def test_metadata_that_are_no_json_object(text, path):
    path.write_bytes(safetensors_bytes({"a": np.ones(3)}, metadata={"backprop": text}))
    with pytest.raises(ValueError, match=re.escape(f"{path}: its metadata are not ")):
        bp.load(path)


HUGE = 10**15


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(format="keras"), "format: needs 'backprop.network', got 'keras'"),
        (lambda m: m.update(version=2), "version: this backprop reads up to 1, got 2; update backprop"),
        (lambda m: m.update(version="1"), "version: needs an integer"),
        (lambda m: m.pop("version"), "'version'"),
        (lambda m: m.pop("layers"), "'layers'"),
        (lambda m: m.update(layers=[]), "layers: needs at least one"),
        (lambda m: m.update(layers=None), "NoneType"),
        (lambda m: m.update(layers=[1]), "must be a mapping"),
        (lambda m: m.update(dtype="float32"), "layers.0.weights: needs float32 (5, 4), got float64 (5, 4)"),
        (lambda m: m.update(dtype="object"), "dtype: needs one of 'float32', 'float64', got 'object'"),
        (lambda m: m.update(n_inputs=6), "layers.0.weights: needs float64 (6, 4), got float64 (5, 4)"),
        (lambda m: m.update(n_inputs=HUGE), "layers.0.weights: needs float64 (1000000000000000, 4)"),
        (lambda m: m.update(n_inputs=0), "n_inputs: needs an integer >= 1, got 0"),
        (lambda m: m.update(seed=-1), "seed: needs an integer >= 0, got -1"),
        (lambda m: m.update(extra=[1]), "extra: needs an object, got [1]"),
        (
            lambda m: m["layers"].pop(),
            "tensors: needs ['layers.0.biases', 'layers.0.weights', 'layers.1.weights'], got",
        ),
        (lambda m: m["layers"][0].update(units=HUGE), "layers.0.weights: needs float64 (5, 1000000000000000)"),
        (lambda m: m["layers"][0].update(bias=False), "tensors: needs ['layers.0.weights', 'layers.1.weights'"),
        (lambda m: m["layers"][0].update(activation="exec"), "activation: needs one of 'identity'"),
        (
            lambda m: m["layers"][0].update(activation="prelu", alpha=None),
            "tensors: needs ['layers.0.biases', 'layers.0.slopes', 'layers.0.weights', 'layers.1.weights', "
            "'layers.2.biases', 'layers.2.weights'], got",
        ),
        (lambda m: m["layers"][0].update(code="print()"), "needs names that it has, got code"),
        (lambda m: m["layers"][0].update(l2=-1), "l2: needs a number >= 0, got -1"),
    ],
)
def test_metadata_that_do_not_fit(change, message, net, path):
    net.save(path)
    tensors, metadata = models.read(path)
    change(metadata)
    path.write_bytes(models.serialized(tensors, metadata))
    for name in (path, os.fsencode(path)):
        with pytest.raises(
            ValueError, match=f"^{re.escape(str(path))}: not a valid model file: .*{re.escape(message)}"
        ):
            bp.load(name)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A path and what a model file there holds."""
    path = tmp_path_factory.mktemp("models") / "model.safetensors"
    bp.Network(2, [bp.Dense(2, "tanh"), bp.Dense(1)], seed=0, backend="reference").save(path)
    return path, path.read_bytes()


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_damaged_header_is_a_value_error_or_still_a_model(whole, data):
    path, content = whole
    header = 8 + int.from_bytes(content[:8], "little")
    damaged = bytearray(content)
    for position in data.draw(st.lists(st.integers(0, header - 1), min_size=1, max_size=3)):
        damaged[position] = data.draw(st.integers(0, 255))
    path.write_bytes(damaged)
    try:
        net = bp.load(path)
    except ValueError as error:
        message = str(error)
    else:
        message = f"{path} holds {net}"
    assert str(path) in message


def test_a_model_from_one_backend_loads_into_any_other(net, path):
    net.save(path)
    for name in choice.available():
        assert bp.load(path, backend=name).backend == name
