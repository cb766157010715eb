"""Test losses against values worked out by hand."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advgan_jax import losses

LABELS = jnp.array([0, 1])


class TestMargin:
    LOGITS = jnp.array([[3.0, 1.0, -1.0], [4.0, 1.5, 2.0]])

    def test_untargeted(self):
        # 3 - 1 = 2: not fooled yet. 1.5 - 4 = -2.5: fooled, so the floor of 0.
        loss = losses.margin(self.LOGITS, LABELS)
        np.testing.assert_array_equal(loss, [2.0, 0.0])

    def test_targeted(self):
        # max(1, -1) - 3 = -2 and so 0; max(4, 2) - 1.5 = 2.5.
        loss = losses.margin(self.LOGITS, LABELS, targeted=True)
        np.testing.assert_array_equal(loss, [0.0, 2.5])

    def test_confidence_continues_beyond_the_boundary(self):
        # A kappa of the wrong sign, max(., +kappa), would give [2, 1] here.
        loss = losses.margin(self.LOGITS, LABELS, confidence=1.0)
        np.testing.assert_array_equal(loss, [2.0, -1.0])
        loss = losses.margin(self.LOGITS, LABELS, confidence=9.0)
        np.testing.assert_array_equal(loss, [2.0, -2.5])

    def test_all_logits_negative(self):
        # Masking the label with 0 would give -5 - 0 here.
        logits = jnp.array([[-5.0, -7.0, -9.0]])
        assert losses.margin(logits, LABELS[:1]).item() == 2.0

    def test_gradient_reaches_the_two_logits_only(self):
        gradient = jax.grad(lambda z: losses.margin(z, LABELS).sum())(self.LOGITS)
        np.testing.assert_array_equal(gradient, [[1, -1, 0], [0, 0, 0]])

    def test_negative_confidence(self):
        with pytest.raises(ValueError, match=r"confidence.*>= 0, got -1"):
            losses.margin(self.LOGITS, LABELS, confidence=-1.0)


def test_cross_entropy_is_small_where_the_attack_succeeds():
    logits = jnp.log(jnp.array([[0.25, 0.75], [0.25, 0.75]]))
    for find in (losses.cross_entropy, losses.rounded_cross_entropy):
        loss = find(logits, LABELS)
        np.testing.assert_allclose(loss, [np.log(0.25), np.log(0.75)], rtol=1e-6)
        loss = find(logits, LABELS, targeted=True)
        np.testing.assert_allclose(loss, -np.log([0.25, 0.75]), rtol=1e-6)


class TestDLR:
    LOGITS = jnp.array([[1.0, 5.0, 2.0, -1.0]])

    def test_untargeted(self):
        # (5 - 2) / (5 - 1) for the right class, (2 - 5) / (5 - 1) for another.
        assert losses.dlr(self.LOGITS, jnp.array([1])).item() == 0.75
        assert losses.dlr(self.LOGITS, jnp.array([2])).item() == -0.75

    def test_targeted(self):
        # (5 - 2) / (5 - (1 - 1) / 2).
        loss = losses.dlr(self.LOGITS, jnp.array([2]), targeted=True)
        np.testing.assert_allclose(loss, [3 / 5], rtol=1e-6)

    def test_between_two_classes(self):
        # (2 - 1) / (5 - (1 - 1) / 2); the largest logit is of neither class.
        classes = jnp.array([2]), jnp.array([0])
        assert losses.margin_between(self.LOGITS, *classes).item() == 1
        loss = losses.dlr_between(self.LOGITS, *classes)
        np.testing.assert_allclose(loss, [1 / 5], rtol=1e-6)
        with pytest.raises(ValueError, match="needs at least 4 classes"):
            losses.dlr_between(self.LOGITS[:, :3], *classes)

    def test_scale_of_the_logits_does_not_matter(self):
        label = jnp.array([0])
        np.testing.assert_allclose(
            losses.dlr(1000 * self.LOGITS, label),
            losses.dlr(self.LOGITS, label),
            rtol=1e-6,
        )

    @pytest.mark.parametrize("targeted", [False, True])
    def test_ties_and_masked_classes_have_a_gradient(self, targeted):
        def gradient(loss, logits):
            label = jnp.array([1])
            return jax.grad(lambda z: loss(z, label, targeted=targeted).sum())(logits)

        masked = jnp.array([[1.0, 3.0, -jnp.inf, -jnp.inf]])
        for logits in (masked, jnp.ones((1, 4))):
            expected = gradient(losses.logit_margin, logits)
            assert expected.any()
            np.testing.assert_array_equal(gradient(losses.dlr, logits), expected)

    @pytest.mark.parametrize(("targeted", "classes"), [(False, 2), (True, 3)])
    def test_too_few_classes(self, targeted, classes):
        with pytest.raises(ValueError, match=f"needs at least {classes + 1} classes"):
            losses.dlr(jnp.ones((1, classes)), jnp.array([0]), targeted=targeted)


class TestHinge:
    # Norms 5, 0.5 and 0.
    PERTURBATIONS = jnp.array([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]])[:, None, :, None]

    def test_is_taken_for_each_image(self):
        # The mean norm is 1.83: a hinge on the batch's mean would give 0.83 to all.
        loss = losses.hinge(self.PERTURBATIONS, bound=1.0)
        np.testing.assert_allclose(loss, [4.0, 0.0, 0.0], rtol=1e-6)

    @pytest.mark.parametrize("bound", [0.0, 1.0])
    def test_gradient_is_finite_everywhere(self, bound):
        gradient = jax.grad(lambda r: losses.hinge(r, bound=bound).sum())(
            self.PERTURBATIONS
        )
        assert jnp.isfinite(gradient).all()
        np.testing.assert_allclose(gradient[0, 0, :, 0], [0.6, 0.8], rtol=1e-6)
        np.testing.assert_array_equal(gradient[2], jnp.zeros((1, 2, 1)))


# D(x) = 2 and 0.5 for clean, 1 and -1 for perturbed images.
REAL, FAKE = jnp.array([2.0, 0.5]), jnp.array([1.0, -1.0])
GAN_VALUES = {
    "lsgan": ((1 + 0.25) / 2 + 1, (0 + 4) / 2),
    "bce": (
        (np.log1p(np.exp(-2)) + np.log1p(np.exp(-0.5))) / 2
        + (np.log1p(np.exp(1)) + np.log1p(np.exp(-1))) / 2,
        (np.log1p(np.exp(-1)) + np.log1p(np.exp(1))) / 2,
    ),
    "hinge": ((0 + 0.5) / 2 + (2 + 0) / 2, 0.0),
}


@pytest.mark.parametrize("name", losses.GAN_LOSSES)
def test_gan_losses(name):
    discriminator, generator = losses.gan_loss(name)
    wanted_discriminator, wanted_generator = GAN_VALUES[name]
    np.testing.assert_allclose(discriminator(REAL, FAKE), wanted_discriminator, 1e-6)
    np.testing.assert_allclose(generator(FAKE), wanted_generator, 1e-6)


@pytest.mark.parametrize("find", [losses.gan_loss, losses.adversarial_loss])
def test_unknown_names_list_the_known(find):
    with pytest.raises(ValueError, match=r"Unknown .* 'hinges'.*Known: "):
        find("hinges")


@pytest.mark.parametrize("targeted", [False, True])
def test_cross_entropy_has_its_gradient_where_the_model_is_sure(targeted):
    logits = jnp.array([[40.0, 0.0, 1.0]])
    label = jnp.array([0])
    gradient = jax.grad(
        lambda z: losses.cross_entropy(z, label, targeted=targeted).sum()
    )(logits)
    # Compared with e^40, all other exponentials are rounded away.
    others = np.exp(np.array([0.0, 1.0]) - 40.0)
    expected = np.array([[-others.sum(), *others]]) * (1 if targeted else -1)
    np.testing.assert_allclose(gradient, expected, rtol=1e-5)
    # In the usual form the label's share is lost, and the loss is zero.
    usual = partial(losses.rounded_cross_entropy, labels=label, targeted=targeted)
    assert usual(logits).item() == 0
    assert jax.grad(lambda z: usual(z).sum())(logits)[0, 0] == 0
    masked = logits.at[0, 1].set(-jnp.inf)
    assert jnp.isfinite(jax.grad(lambda z: usual(z).sum())(masked)).all()
