r"""AdvGAN against a classifier that the attacker can only query.

    advgan-jax train --config=advgan_blackbox            # digits
    advgan-jax train --config=advgan_blackbox:mnist
    advgan-jax train --config=advgan_blackbox \
        --config.distillation=static --config.answers=labels --workdir=runs/static

The black box is trained on the first `target_training.num_images` training images, and
the attacker has the others. `queries` limits the number of clean and of perturbed
images that the attacker queries. Static distillation spends all queries on clean
images. At the end the attacker queries ten images a second time, to measure noise.

| variant | queries | run time | success (dynamic) |
|---|---|---|---|
| digits | 437 | a minute on one core | 96.9 % |
| mnist | 20,000 | 8 minutes on a core after the black box | A 97.4, B 98.9, C 96.6 % |
| mnist, 2,750 clean and 250 per round | 5,000 | as long | C 90.6 % |

With `--resume`, `queries.budget` and `queries.batch_size` may change.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from advgan_jax.configs import advgan

VARIANTS: tuple[str, ...] = ("digits", "mnist")


def get_config(variant: str = "digits") -> ConfigDict:
    """Return the configuration of one data set's run."""
    advgan.check_variant(variant, VARIANTS)
    mnist = variant == "mnist"
    # Black box, generator and losses are those of configs/advgan.py.
    config = advgan.get_config(variant)
    config.method = "advgan_blackbox"
    config.distillation = "dynamic"  # or static
    config.answers = "probabilities"  # or logits, or labels
    config.target_training.num_images = 40_000 if mnist else 1_000

    # Generator and discriminator.
    config.training = ConfigDict()
    config.training.num_rounds = 10 if mnist else 8
    config.training.steps_per_round = 300 if mnist else 60
    config.training.batch_size = 64
    # Of generator, discriminator and distilled model; or bfloat16 for accelerators.
    config.training.compute_dtype = "float32"

    # The model into which the attacker distils the black box.
    config.distilled = ConfigDict()
    config.distilled.model = "C" if mnist else "small"
    config.distilled.optimizer = "adam"
    config.distilled.learning_rate = 1e-3
    config.distilled.weight_decay = 0.0
    config.distilled.batch_size = 128 if mnist else 64
    config.distilled.steps_per_round = 130 if mnist else 40
    # Training before the first round is as long as that of so many rounds.
    config.distilled.initial_rounds = 6
    # Also train on the perturbed images of earlier rounds.
    config.distilled.replay = True

    config.queries = ConfigDict()
    config.queries.clean = 11_000 if mnist else 227
    config.queries.perturbed_per_round = 1_000 if mnist else 30
    # Of the perturbed images: random, or margin or entropy of the distilled model.
    config.queries.choice = "random"
    config.queries.budget = placeholder(int)  # default: all queries of the rounds
    config.queries.batch_size = 250

    # Measured after each round on the first test images; no choice depends on them.
    config.evaluation.monitor_images = 1_000 if mnist else 360
    return config
