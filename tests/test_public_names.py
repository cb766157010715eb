"""What tab completion shows is what users may use."""

import advgan_jax
from advgan_jax import trainers


def test_only_public_names_are_shown():
    assert dir(advgan_jax) == sorted(advgan_jax.__all__)
    for name in advgan_jax.__all__:
        assert getattr(advgan_jax, name) is not None
    assert {"train_advgan", "train_aigan", "train_blackbox"} <= set(trainers.__all__)
