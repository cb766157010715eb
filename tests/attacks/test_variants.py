"""Attacks in the ways that chex runs a function: jitted or not, placed or not."""

import functools

import chex
import jax
import numpy as np
from absl.testing import parameterized
from jax.tree_util import Partial

from advgan_jax import attacks

STEPS = {"num_steps": 3}
BALL = {**STEPS, "epsilon": 0.3}
QUERIES = {"num_queries": 5, "epsilon": 0.3}
SEARCH = {"num_search_steps": 2}
HYPERPARAMETERS = {
    "apgd": BALL,
    "apgd_targeted": {**BALL, "num_classes_tried": 2},
    "bim": BALL,
    "carlini_wagner_l2": {**STEPS, **SEARCH, "initial_loss_weight": 1.0},
    "carlini_wagner_linf": {**STEPS, "initial_loss_weight": 1.0, "min_tau": 0.5},
    "ddn": STEPS,
    "deepfool": STEPS,
    "ead": {**STEPS, **SEARCH, "initial_loss_weight": 1.0},
    "fab": STEPS,
    "fab_targeted": {**STEPS, "num_classes_tried": 2},
    "fgsm": {"epsilon": 0.3},
    "fmn": STEPS,
    "ilcm": BALL,
    "lbfgs": {**SEARCH, "num_steps": 5},
    "mi_fgsm": BALL,
    "pgd": BALL,
    "square": QUERIES,
}


def linear(weights, images):
    return images.reshape(len(images), -1) @ weights


class VariantsTest(chex.TestCase):
    @chex.variants(
        with_jit=True, without_jit=True, with_device=True, without_device=True
    )
    @parameterized.named_parameters((name, name) for name in HYPERPARAMETERS)
    def test_same_images(self, name):
        # Attacks by queries share the loop of one of them.
        others = {"advgan", "aigan", "transfer", *attacks.QUERY_ATTACKS}
        assert {*HYPERPARAMETERS, *others} == set(attacks.ATTACKS)
        keys = jax.random.split(jax.random.key(0), 3)
        images = jax.random.uniform(keys[0], (2, 3, 2, 1))
        model = Partial(linear, jax.random.normal(keys[1], (6, 4)))
        attack = functools.partial(
            attacks.make_attack(name, **HYPERPARAMETERS[name]), key=keys[2]
        )
        labels = np.array([0, 3])
        found = self.variant(attack)(model, images, labels)
        chex.assert_equal_shape_prefix([found, images], 4)
        # Another order of the sums moves a pixel by rounding alone.
        np.testing.assert_allclose(found, attack(model, images, labels), atol=1e-5)
