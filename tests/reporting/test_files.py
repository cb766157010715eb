"""Files are whole or as they were; JSON has no NaN."""

import json

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
