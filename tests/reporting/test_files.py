"""Files are whole or as they were; JSON has no NaN."""

import errno
import json
import os
import stat

import jax.numpy as jnp
import numpy as np
import pytest

from advgan_jax.reporting import write_json
from advgan_jax.reporting.files import replacing


def test_values_become_plain(tmp_path):
    path = tmp_path / "new" / "a.json"
    write_json(
        path,
        {
            "nan": float("nan"),
            "deep": [(np.float32("inf"), np.int64(3)), {"x": jnp.float32(0.5)}],
            "array": np.array([[1.0, np.nan]]),
            "rest": [None, True, "é"],
        },
    )
    assert json.loads(path.read_text("utf8")) == {
        "nan": None,
        "deep": [[None, 3], {"x": 0.5}],
        "array": [[1.0, None]],
        "rest": [None, True, "é"],
    }


def write_half(path):
    path.write_text("half")
    raise OSError("disk full")


def test_the_old_file_stays_when_the_new_one_cannot_be_written(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"good": 1})
    with pytest.raises(TypeError, match="not JSON serializable"):
        write_json(path, {"good": 2, "bad": object()})
    with pytest.raises(OSError, match="disk"), replacing(path) as partial:
        write_half(partial)
    with pytest.raises(FileNotFoundError), replacing(path):
        pass  # nothing was written
    assert json.loads(path.read_text()) == {"good": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_no_link_can_be_put_in_place_of_the_partial_file(tmp_path):
    """Its folder is private and its name unpredictable."""
    path, names = tmp_path / "a.json", set()
    for _ in range(2):
        with replacing(path) as partial:
            assert stat.S_IMODE(partial.parent.stat().st_mode) == 0o700
            assert not partial.exists()
            names.add(partial.parent.name)
            partial.write_text("1")
    assert len(names) == 2
    assert list(tmp_path.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask()


def umask():
    before = os.umask(0)
    os.umask(before)
    return before


def test_a_link_in_place_of_the_file_is_replaced(tmp_path):
    """What it points to belongs to somebody else."""
    (tmp_path / "theirs").write_text("keep")
    (tmp_path / "a.json").symlink_to(tmp_path / "theirs")
    write_json(tmp_path / "a.json", 1)
    assert (tmp_path / "theirs").read_text() == "keep"
    assert not (tmp_path / "a.json").is_symlink()


def test_errors_of_the_system_name_the_file(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"file/a\.json cannot be written \(.*free disk"):
        write_json(tmp_path / "file" / "a.json", 1)
    with (
        pytest.raises(OSError, match=r"a\.json cannot be written \(No space left"),
        replacing(tmp_path / "a.json"),
    ):
        raise OSError(errno.ENOSPC, "full")
