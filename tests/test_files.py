"""Files that cannot be read or written: one line with the name and the cure."""

import errno
import io
import os
import zipfile

import numpy as np
import pytest

from advgan_jax import files


@pytest.mark.parametrize(
    "error",
    [RecursionError(), MemoryError("much"), zipfile.BadZipFile("a\nb"), OSError("odd")],
)
def test_any_fault_of_reading_is_one_line(error):
    with (
        pytest.raises(ValueError, match=r"^x\.y must be whole, but .*\); buy it\.$"),
        files.reading("x.y", "whole", "buy it"),
    ):
        raise error


def test_the_system_names_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone"):
        files.read_json(tmp_path / "gone", "whole", "buy it")


def test_a_full_disk_is_named():
    with (
        pytest.raises(OSError, match=r"^a\.b cannot be written \(No space left.*free"),
        files.writing("a.b"),
    ):
        raise OSError(errno.ENOSPC, "full")
    with pytest.raises(PermissionError, match="may write"), files.writing("a.b"):
        raise PermissionError(errno.EACCES, "no")


def with_header(text, data=b"", version=b"\x01\x00"):
    """An .npy file with any header."""
    size = len(text).to_bytes(2 if version[0] == 1 else 4, "little")
    return b"\x93NUMPY" + version + size + text.encode() + data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (10**13,)}"),
        with_header(
            f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({10**13},)}}"
        ),
        with_header(
            "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}", b"abcd"
        ),
        with_header("{'descr': '|O', 'fortran_order': False, 'shape': ()}", b"abcd"),
        with_header(
            "{'descr': '<f4', 'fortran_order': False, 'shape': (1,)}", b"abcde"
        ),
        with_header("(" * 5000),
        with_header("{'descr': " + "9" * 60_000 + "}"),
        with_header("{}", version=b"\x02\x00"),
        with_header("{}", version=b"\x07\x00"),
    ],
)
def test_arrays_that_are_none(tmp_path, data):
    """Above all, no header reserves more memory than the file has bytes."""
    (tmp_path / "a.npy").write_bytes(data)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("a.npy", data)
    for path, read in (("a.npy", files.read_npy), ("a.npz", files.read_npz)):
        with (
            pytest.raises(ValueError, match="buy it"),
            files.reading(path, "whole", "buy it"),
        ):
            read(tmp_path / path)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6.0).reshape(2, 3),
        np.asfortranarray(np.arange(6).reshape(2, 3)),
        np.array(3),
        np.empty((0, 2), np.float32),
        np.array(["a", "bc"]),
    ],
)
def test_arrays_come_back(tmp_path, array):
    np.save(tmp_path / "a.npy", array)
    np.savez_compressed(tmp_path / "a.npz", a=array)
    found = [
        files.read_npy(tmp_path / "a.npy"),
        files.read_npz(tmp_path / "a.npz")["a"],
    ]
    for one in found:
        np.testing.assert_array_equal(one, array, strict=True)


def test_members_that_are_no_arrays(tmp_path):
    buffer = io.BytesIO()
    np.savez(buffer, a=np.ones(2))
    path = tmp_path / "a.npz"
    path.write_bytes(buffer.getvalue())
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("notes.txt", "text")
    assert set(files.read_npz(path, ("a",))) == {"a"}
    with pytest.raises(ValueError, match="cannot be read"), files.reading(path, "", ""):
        files.read_npz(path)
    os.truncate(path, 100)
    with pytest.raises(zipfile.BadZipFile):
        files.read_npz(path, ("a",))
