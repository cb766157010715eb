"""The child process of `time_to_success` that trains our AdvGAN."""

import _measure  # noqa: F401 (sets up memory on a GPU)
import _success
import jax
import jax.numpy as jnp

from advgan_jax import data, models, parallel
from advgan_jax.configs import advgan as advgan_config
from advgan_jax.cpu import process
from advgan_jax.data import Split
from advgan_jax.generators import TrainedGenerator
from advgan_jax.runs.from_config import gans
from advgan_jax.training import advgan, fit


def main():
    settings, arrays, variables = _success.settings_and_task()
    process.compute_in_caller()
    process.keep_memory()
    config = advgan_config.get_config("mnist")
    target = models.make_logits_fn(models.make_classifier("C", 10), variables)
    networks = gans.make_networks(config, 10, settings["max_steps"])
    objective = gans.advgan_objective(config, 10)
    shape = arrays["test_images"].shape[1:]
    state = advgan.init_state(networks, jax.random.key(settings["seed"]), shape)
    run = parallel.compile_steps(advgan.make_train_step(networks, objective))
    train = fit.on_device(Split(arrays["train_images"], arrays["train_labels"]))

    def steps(rows):
        nonlocal state
        state, _ = run(state, train, rows, target)

    @jax.jit
    def predict(images):
        return jnp.argmax(target(images), axis=-1)

    images, labels = data.to_float(arrays["test_images"]), arrays["test_labels"]
    correct = predict(images) == labels

    def success():
        attack = TrainedGenerator(
            networks.generator,
            state.generator.params,
            epsilon=config.epsilon,
            image_shape=shape,
            num_classes=10,
        )
        wrong = predict(attack.perturb(images)) != labels
        return float(wrong[correct].mean())

    size = config.training.batch_size
    rows = _success.shuffled(len(train.labels), size, settings["seed"])
    per_call = min(parallel.default_steps_per_call(), settings["check_every"])
    _success.until_success(settings, steps, rows, success, per_call)


if __name__ == "__main__":
    main()
