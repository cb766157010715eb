"""Train an AI-GAN against any model: its two stages, and its result."""

import jax
import numpy as np
import pytest

import advgan_jax
from advgan_jax import attacks, trainers
from advgan_jax.reporting import read_metrics

KEY = jax.random.key(3)
ATTACKER = attacks.make_attack("fgsm", epsilon=0.2)


@pytest.fixture(scope="module")
def train(model, images, labels, tiny):
    def run(**changes):
        arguments = {**tiny, "num_epochs": (1, 2), "attacker": ATTACKER, **changes}
        shown = (arguments.pop("images", images), labels)
        return advgan_jax.train_aigan(model, *shown, epsilon=0.2, key=KEY, **arguments)

    return run


def test_stages_resume_to_the_same_bits(train, images, tmp_path, stop_before):
    """Signals come in stage one, and in stage two."""
    whole = train()
    stop_before(2, 6)
    for message in ("step 2 of AI-GAN, stage 1", "step 6 of AI-GAN, stage 2"):
        with pytest.raises(trainers.Stopped, match=message):
            train(workdir=tmp_path)
    resumed = train(workdir=tmp_path)
    wanted = (np.arange(24) % 3).astype(np.int32)
    found = resumed.perturb(images, wanted)
    np.testing.assert_array_equal(found, whole.perturb(images, wanted))
    assert np.abs(found - images).max() <= 0.2
    assert (resumed.conditional, resumed.target_class) == (True, None)
    assert [row["step"] for row in read_metrics(tmp_path)] == [2, 3, 6, 9]
    loaded = advgan_jax.load_generator(tmp_path, module=resumed.module)
    np.testing.assert_array_equal(loaded.perturb(images, wanted), found)
    first = advgan_jax.load_generator(tmp_path / "stage_one", module=resumed.module)
    assert np.abs(first.perturb(images, wanted) - found).max() > 0


def test_wrong_attackers_write_nothing(train, tmp_path):
    wrong = attacks.make_attack("pgd", epsilon=0.2, step_size=1.0)
    with pytest.raises(ValueError, match="`step_size` must not exceed"):
        train(attacker=wrong, workdir=tmp_path / "new")
    assert not (tmp_path / "new").exists()
