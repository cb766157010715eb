"""One device, eight devices, and two processes of two devices agree."""

import numpy as np
import pytest

pytestmark = [pytest.mark.multi_device, pytest.mark.slow, pytest.mark.timeout(1800)]

LAYOUTS = {"eight devices": (1, 8), "two processes": (2, 2)}


def arrays(path):
    with np.load(path) as found:
        return dict(found)


@pytest.fixture(scope="session")
def one_device(complete, tmp_path_factory):
    folder = tmp_path_factory.mktemp("one")
    complete("steps", folder, "jit")
    return folder


@pytest.fixture(scope="session", params=LAYOUTS)
def several_devices(request, complete, tmp_path_factory):
    processes, devices = LAYOUTS[request.param]
    folder = tmp_path_factory.mktemp("several")
    modes = ("pmap", "shard_map")
    complete("steps", folder, *modes, processes=processes, devices=devices)
    return folder


@pytest.mark.parametrize("mode", ["pmap", "shard_map"])
def test_same_parameters_after_twenty_steps(one_device, several_devices, mode):
    wanted = arrays(one_device / "jit.npz")
    found = arrays(several_devices / f"{mode}.npz")
    assert found.keys() == wanted.keys()
    assert len({name.split("/")[0] for name in wanted}) == 4
    for name, values in wanted.items():
        # Means over 32 images are summed in another order: float32 rounding.
        np.testing.assert_allclose(found[name], values, atol=1e-6, err_msg=name)


def test_same_evaluations(one_device, several_devices):
    wanted = arrays(one_device / "evaluation.npz")
    found = arrays(several_devices / "evaluation.npz")
    assert len(found) == len(wanted) == 7
    for name, values in wanted.items():
        assert len(values) == 101
        if name.endswith("linf"):
            # Differences of pixels may be rounded differently.
            np.testing.assert_allclose(found[name], values, atol=1e-6, err_msg=name)
        else:
            np.testing.assert_array_equal(found[name], values, err_msg=name)
