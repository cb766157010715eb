"""Any number of devices and processes can restore a checkpoint.

It does not matter whether the images were on the devices or streamed.
"""

import numpy as np
import pytest

pytestmark = [pytest.mark.multi_device, pytest.mark.slow, pytest.mark.timeout(1800)]


def test_four_devices_then_one_then_two_processes_of_two(complete, tmp_path):
    def go(folder, last, name, source="devices", mode="auto", **layout):
        path = tmp_path / f"{name}.npz"
        complete("resume", tmp_path / folder, last, path, source, mode, **layout)
        with np.load(path) as arrays:
            return dict(arrays)

    whole = go("whole", 20, "whole")
    for number, (last, layout) in enumerate(
        [
            (5, {"devices": 4, "source": "stream"}),
            (10, {"devices": 1}),
            (
                15,
                {"processes": 2, "devices": 2, "source": "stream", "mode": "shard_map"},
            ),
            (20, {"processes": 2, "devices": 2}),
        ]
    ):
        found = go("parts", last, f"part-{number}", **layout)
        assert found["first"] == 5 * number
        assert found["step"] == last
    back = go("parts", 20, "back")
    assert back.pop("first") == 20
    for name, values in back.items():
        # The bits that two processes wrote; one process differs by rounding.
        np.testing.assert_array_equal(values, found[name])
        np.testing.assert_allclose(values, whole[name], atol=1e-6)
