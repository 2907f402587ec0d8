"""Reading PyTorch files without PyTorch: against torch.load, and with hostile files."""

import pickle
import struct
import zipfile

import numpy as np
import pytest

import srgan_jax
from srgan_jax.runtime.errors import UserError
from srgan_jax.weights import torch_checkpoint
from srgan_jax.weights.torch_checkpoint import read_checkpoint, read_torch

DTYPES = ("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool")


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="PyTorch is not installed (scripts/test.sh --torch)")


@pytest.fixture(params=["zip", "legacy"])
def save(request, torch, tmp_path):
    """A function that saves an object in one of the two forms of files, and returns the path."""

    def write(content, **options):
        path = tmp_path / f"{request.param}.pth"
        torch.save(content, path, _use_new_zipfile_serialization=request.param == "zip", **options)
        return path

    return write


@pytest.mark.parametrize("dtype", DTYPES)
def test_tensors_equal_those_of_torch(torch, save, dtype):
    torch.manual_seed(0)
    state = {
        "kernel": (100 * torch.randn(4, 3, 2, 2)).to(getattr(torch, dtype)),
        "scalar": torch.tensor(3).to(getattr(torch, dtype)),
        "empty": torch.zeros(0, 3).to(getattr(torch, dtype)),
    }
    read = read_checkpoint(save(state))
    for name, value in torch.load(save(state), weights_only=True).items():
        expected = value.float().numpy() if value.is_floating_point() else value.numpy()
        np.testing.assert_array_equal(read[name], expected)
        assert read[name].dtype == expected.dtype and read[name].shape == expected.shape


def test_views_parameters_and_shared_storages_equal_those_of_torch(torch, save):
    base = torch.arange(60.0).reshape(3, 4, 5)
    layer = torch.nn.Linear(3, 2)
    state = {
        "view": base[1:, ::2, 1::3],
        "transposed": base.permute(2, 0, 1),
        "base": base,
        "diagonal": base[0].diagonal(),
        "parameter": layer.weight,
        "requires_grad": torch.ones(2, requires_grad=True),
    }
    read = read_checkpoint(save(state))
    for name, value in state.items():
        np.testing.assert_array_equal(read[name], value.detach().numpy())
        assert read[name].flags.c_contiguous and read[name].flags.writeable


def test_a_state_dict_of_a_module_is_read_with_its_metadata(torch, save):
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    read = read_checkpoint(save(network.state_dict()))  # an OrderedDict with the attribute _metadata
    assert list(read) == list(network.state_dict())
    np.testing.assert_array_equal(read["0.weight"], network[0].weight.detach().numpy())


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_other_objects_beside_the_tensors_are_read(torch, save, protocol):
    content = {
        "epoch": 3,
        "psnr": np.float64(28.5),
        "best": np.float32(0.5),
        "steps": np.int64(-7),
        "ok": np.bool_(True),
    }
    content |= {"name": "srgan", "betas": (0.9, 0.999), "losses": [1.0, None, False], "big": 1 << 70}
    content |= {"optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 1e-4}]}}
    read = read_checkpoint(save(content, pickle_protocol=protocol))
    moments = read.pop("optimizer")["state"][0]["exp_avg"]
    np.testing.assert_array_equal(moments, np.ones(2))
    del content["optimizer"]
    assert read == content


def _zip(path, pickled, members=None, compression=zipfile.ZIP_STORED, **more):
    """Writes a file in the zip form, with this pickle and these storages."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickled)
        for name, data in ({"data/0": np.arange(6, dtype="<f4").tobytes()} if members is None else members).items():
            archive.writestr(f"archive/{name}", data)
        for name, data in more.items():
            archive.writestr(f"archive/{name}", data)
    return path


def _persistent_id(kind="torch FloatStorage", key="0", elements=6):
    module, name = kind.split()
    text = lambda value: b"X" + struct.pack("<I", len(value)) + value.encode()  # noqa: E731
    return (
        b"(" + text("storage") + f"c{module}\n{name}\n".encode() + text(key) + text("cpu") + _integer(elements) + b"tQ"
    )


def _integer(value):
    return pickle.dumps(value, 2)[2:-1]


def _tensor(offset=0, size=(2, 3), stride=(3, 1), **storage):
    """Returns the pickle of {"w": tensor}, written by hand."""
    view = _integer(offset) + pickle.dumps(size, 2)[2:-1] + pickle.dumps(stride, 2)[2:-1]
    rebuild = b"ctorch._utils\n_rebuild_tensor_v2\n(" + _persistent_id(**storage) + view + b"\x89N"
    return b"\x80\x02}X\x01\x00\x00\x00w" + rebuild + b"tRs."


def test_the_files_written_by_hand_are_read(tmp_path):
    read = read_checkpoint(_zip(tmp_path / "a.pth", _tensor()))
    np.testing.assert_array_equal(read["w"], [[0, 1, 2], [3, 4, 5]])
    read = read_checkpoint(_zip(tmp_path / "a.pth", _tensor(offset=1, size=(2,), stride=(4,))))
    np.testing.assert_array_equal(read["w"], [1, 5])


class _Reduced:
    """An object whose pickle calls a function."""

    def __init__(self, function, *arguments):
        self.reduced = (function, arguments)

    def __reduce__(self):
        return self.reduced


def _hostile_pickles():
    """Returns pickles by what they try, each with what the message says of it."""
    import builtins
    import functools
    import os
    import shutil
    import subprocess

    pickled = lambda function, *arguments: pickle.dumps({"w": _Reduced(function, *arguments)}, 2)  # noqa: E731
    text = lambda value: b"X" + struct.pack("<I", len(value)) + value.encode()  # noqa: E731
    protocol = b"\x80\x04"
    storage = b"(" + text("storage")
    return {
        "os.system": (pickled(os.system, "touch executed"), "posix.system|nt.system"),
        "eval": (pickled(builtins.eval, "open('executed', 'w')"), "__builtin__.eval"),
        "exec": (pickled(builtins.exec, "open('executed', 'w')"), "__builtin__.exec"),
        "open": (pickled(open, "executed", "w"), "io.open"),
        "getattr": (pickled(getattr, "a", "upper"), "__builtin__.getattr"),
        "import": (pickled(builtins.__import__, "os"), "__builtin__.__import__"),
        "subprocess": (pickled(subprocess.Popen, "ls"), "(subprocess|commands).Popen"),
        "shutil": (pickled(shutil.rmtree, "executed"), "shutil.rmtree"),
        "partial": (pickled(functools.partial, print, "a"), "functools.partial"),
        "nested": (pickle.dumps({"w": [({"a": _Reduced(eval, "1")},)]}, 4), "builtins.eval"),
        "reduced arguments": (pickle.dumps(_Reduced(dict, _Reduced(os.getcwd)), 4), "posix.getcwd|builtins.dict"),
        "numpy load": (b"\x80\x02cnumpy\nload\n(" + text("executed") + b"tR.", "numpy.load"),
        "torch load": (b"\x80\x02ctorch\nload\n(" + text("executed") + b"tR.", "torch.load"),
        "numpy object": (b"\x80\x02cnumpy\ndtype\n(" + text("O8") + b"\x89\x88tR.", "NumPy type 'O8'"),
        "dots": (protocol + text("collections") + text("OrderedDict.__init__") + b"\x93.", "Dict.__init"),
        "name of another module": (protocol + text("os") + text("_rebuild_tensor_v2") + b"\x93.", "os._rebuild_tensor"),
        "global without a name": (protocol + b"K\x01K\x02\x93.", "a global without a name"),
        "INST": (b"(X\x01\x00\x00\x00aios\nsystem\n.", "instruction INST"),
        "OBJ": (b"\x80\x02(ccollections\nOrderedDict\no.", "instruction OBJ"),
        "NEWOBJ": (b"\x80\x02ccollections\nOrderedDict\n)\x81.", "instruction NEWOBJ"),
        "NEWOBJ_EX": (b"\x80\x04ccollections\nOrderedDict\n)}\x92.", "instruction NEWOBJ_EX"),
        "EXT1": (b"\x80\x02\x82\x01.", "instruction EXT1"),
        "PERSID": (b"P0\n.", "instruction PERSID"),
        "BYTEARRAY8": (b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b".", "damaged pickle"),
        "BUILD of a list": (b"\x80\x02]}b.", "attributes of something that isn't a dict"),
        "BUILD of a storage": (b"\x80\x02" + _persistent_id() + b"}b.", "attributes of something"),
        "call of a string": (b"\x80\x02" + text("print") + b")R.", "a call of something that isn't a function"),
        "call of a storage class": (b"\x80\x02ctorch\nFloatStorage\n)R.", "a call of something"),
        "wrong arguments": (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R.", "other arguments"),
        "persistent id": (b"\x80\x02" + text("file:///etc/passwd") + b"Q.", "a persistent id that isn't a storage's"),
        "persistent id without class": (b"\x80\x02" + storage + text("a") * 4 + b"tQ.", "without its class"),
        "deeply nested key": (b"\x80\x02}" + b")" + b"\x85" * 200_000 + b"K\x01s.", "keys that aren't strings"),
        "keys of equal hash": (b"\x80\x02}\x8a\x09" + bytes(7) + b"\x20\0Ns.", "key that is a large number"),
        "unending": (b"\x80\x02" + b"(" * 1000, "a damaged pickle|without end"),
        "empty stack": (b"\x80\x020.", "instruction POP"),
        "long string": (b"\x80\x02X\xff\xff\xff\xffa.", "a damaged pickle"),
        "large integer": (b"\x80\x02I" + b"9" * 5000 + b"\n.", "a damaged pickle"),
        "unknown memo": (b"\x80\x02h\x05.", "a damaged pickle"),
        "copied bytes": (b"\x80\x02c_codecs\nencode\n(" + text("a" * 1000) + text("latin1") + b"tR.", "NumPy scalar"),
        "rot13": (b"\x80\x02c_codecs\nencode\n(" + text("a") + text("rot13") + b"tR.", "NumPy scalar"),
    }  # fmt: skip


@pytest.mark.parametrize("form", ["zip", "legacy"])
@pytest.mark.parametrize("kind", _hostile_pickles())
def test_hostile_pickles_are_refused_by_name(tmp_path, monkeypatch, kind, form):
    monkeypatch.chdir(tmp_path)
    pickled, message = _hostile_pickles()[kind]
    if form == "zip":
        _zip(tmp_path / "evil.pth", pickled)
    else:
        head = pickle.dumps(torch_checkpoint.LEGACY_MAGIC, 2) + pickle.dumps(1001, 2) + pickle.dumps({}, 2)
        (tmp_path / "evil.pth").write_bytes(head + pickled + pickle.dumps([], 2))
    with pytest.raises(UserError, match=f"evil.pth can't be read safely: expected only tensors.*({message})"):
        read_checkpoint(tmp_path / "evil.pth")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        ({"offset": -1}, "an offset that isn't"),
        ({"offset": 1}, "beyond its 6 stored numbers"),
        ({"size": (7,), "stride": (1,)}, "beyond its 6"),
        ({"size": (2,), "stride": (6,)}, "beyond its 6"),
        ({"size": (10**9,), "stride": (0,)}, "beyond its 6"),  # would take 4 GB
        ({"size": (1 << 62, 0), "stride": (0, 0)}, "beyond its 6"),
        ({"size": (2, 3), "stride": (-3, 1)}, "a stride that isn't"),
        ({"size": (2, 3.0)}, "a size that isn't"),
        ({"size": (2, True)}, "a size that isn't"),
        ({"size": (1,) * 9, "stride": (1,) * 9}, "9 sizes and 9 strides"),
        ({"size": (2, 3), "stride": (1,)}, "2 sizes and 1 strides"),
        ({"elements": 1 << 50}, "of 24 bytes, not 4503599627370496"),
        ({"elements": 5, "size": (5,), "stride": (1,)}, "of 24 bytes, not 20"),
        ({"elements": -6}, "a storage's length that isn't"),
        ({"kind": "torch DoubleStorage"}, "of 24 bytes, not 48"),
        ({"kind": "torch ComplexFloatStorage"}, "torch.ComplexFloatStorage"),
        ({"key": "1"}, "of 0 bytes, not 24"),
        ({"key": "../../etc/passwd"}, "of 0 bytes, not 24"),
    ],
)  # fmt: skip
def test_tensors_beyond_their_storage_are_refused(tmp_path, tensor, message):
    path = _zip(tmp_path / "evil.pth", _tensor(**tensor))
    with pytest.raises(UserError, match=f"evil.pth can't be read safely: .*{message}"):
        read_checkpoint(path)


def test_damaged_and_hostile_archives_are_refused(tmp_path):
    path = tmp_path / "evil.pth"

    def refused(message):
        with pytest.raises(UserError, match=f"evil.pth can't be read safely: .*{message}"):
            read_checkpoint(path)

    _zip(path, _tensor(), compression=zipfile.ZIP_DEFLATED)
    refused("compressed members")
    bomb = {"data/0": bytes(50 << 20)}  # 50 MB of zeros in 50 kB
    _zip(path, _tensor(), bomb, zipfile.ZIP_DEFLATED)
    refused("compressed members")
    _zip(path, _tensor(), byteorder=b"big")
    refused("big-endian")
    _zip(path, b"\x80\x02}" + b"N0" * (3 << 20) + b".")
    refused("data.pkl of 6291\\d+ bytes, more than 4194304")
    whole = _zip(path, _tensor()).read_bytes()
    path.write_bytes(whole[:-30])
    refused("damaged")
    path.write_bytes(whole.replace(b"\x00\x00\x80?", b"\x00\x00\x81?"))  # the checksum of the storage is wrong
    refused("damaged")
    (at,) = [whole.index(b"PK\x01\x02", whole.index(b"PK\x01\x02") + 1)]  # the storage's entry in the directory
    path.write_bytes(whole[: at + 20] + struct.pack("<II", 1 << 30, 1 << 30) + whole[at + 28 :])
    refused("larger than the file")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("constants.pkl", b"")
    refused("without one data.pkl")
    view = _tensor(elements=16384, size=(16384,), stride=(1,))[2:-1]  # 200 copies of one storage: 13 MB from 0.1 MB
    _zip(path, b"\x80\x02](" + view * 200 + b"e.", {"data/0": bytes(4 * 16384)})
    refused("more than 16 times the size of the file")


@pytest.mark.parametrize("seed", range(20))
def test_files_with_random_changes_are_read_or_refused(tmp_path, seed):
    rng = np.random.default_rng(seed)
    head = pickle.dumps(torch_checkpoint.LEGACY_MAGIC, 2) + pickle.dumps(1001, 2) + pickle.dumps({}, 2)
    tail = pickle.dumps(["0"], 2) + struct.pack("<q", 6) + bytes(24)
    files = [_zip(tmp_path / "a.pth", _tensor()).read_bytes(), head + _tensor() + tail]
    for _ in range(25):
        data = bytearray(files[rng.integers(2)])
        for at in rng.integers(0, len(data), rng.integers(1, 6)):
            data[at] = rng.integers(256)
        (tmp_path / "a.pth").write_bytes(data)
        try:
            read_checkpoint(tmp_path / "a.pth")
        except UserError as error:
            assert "can't be read safely" in str(error)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "an empty file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS pointer"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"\x89HDF\r\n", "an HDF5 file"),
        (pickle.dumps({"w": 1}), "a pickle that torch.save didn't write"),
        (b"\xff\xd8\xff\xe0 JFIF", "a file that begins with"),
        (b"PK\x03\x04 and no more", "damaged"),
    ],
)
def test_files_that_are_no_checkpoints_are_named(tmp_path, content, message):
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(UserError, match=f"a.pth can't be read safely: .*{message}"):
        read_checkpoint(tmp_path / "a.pth")


def test_legacy_storages_are_compared_with_the_file(tmp_path):
    def write(elements=6, stored=6, keys=("0",)):
        head = pickle.dumps(torch_checkpoint.LEGACY_MAGIC, 2) + pickle.dumps(1001, 2) + pickle.dumps({}, 2)
        storage = struct.pack("<q", stored) + np.arange(6, dtype="<f4").tobytes()
        tensor = _tensor(elements=elements)
        (tmp_path / "a.pth").write_bytes(head + tensor + pickle.dumps(list(keys), 2) + storage)
        return tmp_path / "a.pth"

    np.testing.assert_array_equal(read_checkpoint(write())["w"], [[0, 1, 2], [3, 4, 5]])
    for options, message in [
        ({"stored": 1 << 60}, "numbers, not 6"),
        ({"elements": 1 << 60, "stored": 1 << 60}, "a file that ends before its tensors"),
        ({"keys": ()}, "no data of the storage"),
        ({"keys": ("0", "0")}, "damaged|numbers, not 6"),
        ({"keys": ("1",)}, "of which no tensor is made"),
    ]:
        with pytest.raises(UserError, match=f"can't be read safely: .*({message})"):
            read_checkpoint(write(**options))


def test_a_whole_pickled_module_is_refused_with_its_name(torch, save):
    with pytest.raises(UserError, match=r"expected only tensors, as torch.save\(model.state_dict\(\), .*torch.nn.mod"):
        read_checkpoint(save(torch.nn.Conv2d(1, 1, 1)))


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_safetensors_of_other_programs_are_read(torch, tmp_path, dtype):
    from safetensors.torch import save_file

    state = {"module.a": torch.randn(3, 4).to(getattr(torch, dtype)), "module.b": torch.tensor([1, 2])}
    save_file(state, tmp_path / "a.safetensors")
    read = read_torch(tmp_path / "a.safetensors")
    np.testing.assert_array_equal(read["a"], state["module.a"].float().numpy())
    assert read["a"].dtype == np.float32 and read["b"].tolist() == [1, 2]


def test_the_content_of_a_file_decides_how_it_is_read(torch, save, tmp_path):
    from safetensors.torch import save_file

    written = save({"a": torch.arange(3.0)})
    np.testing.assert_array_equal(read_torch(written.rename(tmp_path / "torch.safetensors"))["a"], [0, 1, 2])
    for tensors in range(1, 40):  # headers of many lengths: the first byte is that of a pickle, 0x80, in some
        save_file({f"{n:04}": torch.arange(3.0) for n in range(tensors)}, tmp_path / "a.pth")
        np.testing.assert_array_equal(read_torch(tmp_path / "a.pth")["0000"], [0, 1, 2])


def test_our_own_file_with_a_suffix_of_pytorch_is_read(bilinear, tmp_path):
    srgan_jax.save(tmp_path / "a.safetensors", bilinear)
    loaded = srgan_jax.load((tmp_path / "a.safetensors").rename(tmp_path / "a.pth"))
    assert loaded.architecture == bilinear.architecture
