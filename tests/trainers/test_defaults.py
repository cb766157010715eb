"""Without another argument, trainings succeed on images that they have not seen."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import advgan_jax
from advgan_jax.evaluation import evaluate, evaluate_per_class, summarize_classes
from advgan_jax.trainers import defaults

pytestmark = pytest.mark.optimised


def test_the_rule_follows_the_size_and_the_number_of_images():
    digits = defaults.choose((8, 8, 1), 1437, None)
    assert (digits.batch_size, digits.num_epochs) == (64, 28)
    assert digits.stage_epochs == (18, 92)
    mnist = defaults.choose((28, 28, 1), 60_000, None)
    # Those of the configurations.
    assert (mnist.batch_size, mnist.num_epochs, mnist.stage_epochs) == (64, 4, (1, 6))
    assert (mnist.widths, mnist.learning_rate) == ((8, 16, 32), 1e-2)
    large = defaults.choose((224, 224, 3), 1000, None)
    assert (large.batch_size, large.widths) == (8, (32, 64, 128))
    assert defaults.choose((224, 224, 3), 3, None).batch_size == 3
    assert defaults.choose((8, 8, 1), 1437, 128).num_epochs == 55
    assert defaults.classifier((224, 224, 3)) == "resnet32"


@pytest.mark.slow
def test_advgan_succeeds_on_digits(digits, digits_logits_fn):
    generator = advgan_jax.train_advgan(
        digits_logits_fn, digits.train, epsilon=0.3, key=jax.random.key(0)
    )
    test = digits.test
    result = evaluate(digits_logits_fn, generator, test.images, test.labels)
    assert result.success().rate >= 0.97
    assert generator.trained_on.success >= 0.97


@pytest.mark.slow
def test_aigan_reaches_every_class_of_digits(digits, digits_logits_fn):
    generator = advgan_jax.train_aigan(
        digits_logits_fn, digits.train, epsilon=0.3, key=jax.random.key(0)
    )
    test = digits.test
    shown = (digits_logits_fn, generator, test.images, test.labels, range(10))
    summary = summarize_classes(evaluate_per_class(*shown))
    assert summary["success_mean"] >= 0.93
    assert np.min(summary["success_by_target"]) > 0.5


def test_rates_fall_later_while_the_attacked_model_changes():
    """Adam's first step is as long as the rate, whatever the gradient."""

    def rates(**options):
        adam = defaults.optimizer(0.1, 10, **options)
        state, found = adam.init(jnp.zeros(())), []
        for _ in range(10):
            step, state = adam.update(jnp.ones(()), state)
            found.append(-float(step))
        return np.array(found)

    steps = np.arange(10) / 10
    np.testing.assert_allclose(rates(), 0.05 * (1 + np.cos(np.pi * steps)), rtol=1e-4)
    np.testing.assert_allclose(rates(moving=True), 0.1 * (1 - steps), rtol=1e-4)
