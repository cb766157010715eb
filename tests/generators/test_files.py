"""Saved generators: the same after a load, and nothing damaged is loaded."""

import dataclasses
import subprocess
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advgan_jax import models
from advgan_jax.generators import TrainedGenerator


class Own(nn.Module):
    """A generator of a user, in a class that no saved file can name."""

    size: float = 0.1

    @nn.compact
    def __call__(self, images):
        return self.size * jnp.tanh(nn.Conv(2, (3, 3))(images))


@pytest.mark.parametrize("conditional", [False, True])
def test_the_loaded_one_is_the_saved_one(make_generator, images, tmp_path, conditional):
    generator = make_generator(conditional, bounds=(-1.0, 2.0))
    generator.save(tmp_path / "saved")
    loaded = TrainedGenerator.load(tmp_path / "saved")
    labels = np.array([0, 3, 4]) if conditional else None
    found, again = (g.perturb(images, labels) for g in (generator, loaded))
    np.testing.assert_array_equal(found, again)
    assert repr(loaded) == repr(generator)
    with pytest.raises(FileExistsError, match="saved exists; `save` needs a new"):
        generator.save(tmp_path / "saved")
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]


def test_loading_imports_no_orbax_and_no_pickle(make_generator, tmp_path, repository):
    make_generator().save(tmp_path / "saved")
    code = (
        "import sys, pickle; pickle.Unpickler = pickle.loads = pickle.load = None\n"
        "from advgan_jax import TrainedGenerator\n"
        "TrainedGenerator.load(sys.argv[1]).image_shape\n"
        "assert not {'orbax', 'sklearn', 'matplotlib'} & set(sys.modules)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "saved")]
    subprocess.run(command, check=True, cwd=repository)


def test_no_byte_can_change_without_notice(make_generator, tmp_path):
    make_generator().save(tmp_path / "saved")
    for name in ("generator.json", "generator.safetensors"):
        path = tmp_path / "saved" / name
        whole = path.read_bytes()
        # Every 31st byte: headers, names, numbers and weights.
        for place in range(0, len(whole), 31):
            changed = bytearray(whole)
            changed[place] ^= 4
            path.write_bytes(changed)
            with pytest.raises(ValueError, match=r"is damaged|cannot be read"):
                TrainedGenerator.load(tmp_path / "saved")
        for size in (0, 7, len(whole) // 2, len(whole) - 1):
            path.write_bytes(whole[:size])
            if whole[:size].strip() != whole.strip():
                with pytest.raises(ValueError, match=r"is damaged|cannot be read"):
                    TrainedGenerator.load(tmp_path / "saved")
        path.write_bytes(whole)
    assert TrainedGenerator.load(tmp_path / "saved")
    (tmp_path / "saved" / "generator.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no generator\.json"):
        TrainedGenerator.load(tmp_path / "saved")


def test_a_module_of_ones_own_is_passed_again(images, tmp_path):
    params = Own().init(jax.random.key(0), images)["params"]
    own = TrainedGenerator(Own(), params, 0.1, (6, 9, 2), 5)
    own.save(tmp_path)
    with pytest.raises(ValueError, match=r"Own, which is not of this library"):
        TrainedGenerator.load(tmp_path)
    loaded = TrainedGenerator.load(tmp_path, module=Own())
    np.testing.assert_array_equal(loaded.perturb(images), own.perturb(images))
    for other in (Own(0.2), models.Generator(0.3)):
        with pytest.raises(ValueError, match="pass the module of its training"):
            TrainedGenerator.load(tmp_path, module=other)


def test_weights_of_other_shapes_or_without_finite_numbers(make_generator, tmp_path):
    generator = make_generator()
    module = models.Generator(0.3, (4, 4, 8), 1)
    dataclasses.replace(generator, module=module).save(tmp_path / "other")
    with pytest.raises(ValueError, match="weights of other shapes"):
        TrainedGenerator.load(tmp_path / "other")
    params = jax.tree.map(
        lambda leaf: leaf.at[(0,) * leaf.ndim].set(jnp.nan), generator.params
    )
    dataclasses.replace(generator, params=params).save(tmp_path / "nan")
    with pytest.raises(ValueError, match="weights that are not finite"):
        TrainedGenerator.load(tmp_path / "nan")
