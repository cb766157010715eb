r"""AdvGAN against a classifier that the attacker can only query.

    advgan-jax train --config=advgan_blackbox            # digits
    advgan-jax train --config=advgan_blackbox:mnist
    advgan-jax train --config=advgan_blackbox:cifar10
    advgan-jax train --config=advgan_blackbox \
        --config.distillation=static --config.answers=labels --workdir=runs/static

The black box is trained on the first `target_training.num_images` training images, and
the attacker has the others. `queries` limits the number of clean and of perturbed
images that the attacker queries. Static distillation spends all queries on clean
images. At the end the attacker queries ten images a second time, to measure noise.

| variant | queries | run time | success (dynamic) |
|---|---|---|---|
| digits | 437 | a minute on one core | 95.4 % |
| mnist | 20,000 | 8 minutes on a core after the black box | C 96.7 % |
| mnist, 2,750 clean and 250 per round | 5,000 | as long | not measured anew |
| cifar10 | 20,000 | not measured | not measured |

Dynamic distillation makes 50,000 queries on CIFAR-10 with

    --config.training.num_rounds=11 --config.queries.clean=20000 \
    --config.queries.perturbed_per_round=3000

With `--resume`, `queries.budget` and `queries.batch_size` may change.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from advgan_jax.configs import advgan

VARIANTS: tuple[str, ...] = ("digits", "mnist", "cifar10")


def get_config(variant: str = "digits") -> ConfigDict:
    """Return the configuration of one data set's run."""
    advgan.check_variant(variant, VARIANTS)
    cifar10, digits = variant == "cifar10", variant == "digits"
    # Black box, generator and losses are those of configs/advgan.py.
    config = advgan.get_config(variant)
    config.method = "advgan_blackbox"
    config.distillation = "dynamic"  # or static
    config.answers = "probabilities"  # or logits, or labels
    taken = {"digits": 1_000, "mnist": 40_000, "cifar10": 30_000}
    config.target_training.num_images = taken[variant]

    # Generator and discriminator.
    config.training = ConfigDict()
    config.training.num_rounds = 8 if digits else 10
    config.training.steps_per_round = 60 if digits else 300
    config.training.batch_size = 64
    # Of generator, discriminator and distilled model; or bfloat16 for accelerators.
    config.training.compute_dtype = "float32"

    # The model into which the attacker distils the black box.
    config.distilled = ConfigDict()
    models = {"digits": "small", "mnist": "C", "cifar10": "resnet32"}
    config.distilled.model = models[variant]
    config.distilled.optimizer = "sgd" if cifar10 else "adam"
    config.distilled.learning_rate = 0.1 if cifar10 else 1e-3
    config.distilled.weight_decay = 5e-4 if cifar10 else 0.0
    config.distilled.batch_size = 64 if digits else 128
    steps = {"digits": 40, "mnist": 130, "cifar10": 320}
    config.distilled.steps_per_round = steps[variant]
    # Training before the first round is as long as that of so many rounds.
    config.distilled.initial_rounds = 10 if cifar10 else 6
    # Also train on the perturbed images of earlier rounds.
    config.distilled.replay = True
    # Augmentation; the answers stay those of the original images.
    config.distilled.max_shift = 4 if cifar10 else 0
    config.distilled.flip = cifar10

    config.queries = ConfigDict()
    config.queries.clean = 227 if digits else 11_000
    config.queries.perturbed_per_round = 30 if digits else 1_000
    # Of the perturbed images: random, or margin or entropy of the distilled model.
    config.queries.choice = "random"
    config.queries.budget = placeholder(int)  # default: all queries of the rounds
    config.queries.batch_size = 250

    # Measured after each round on the first test images; no choice depends on them.
    config.evaluation.monitor_images = 360 if digits else 1_000
    return config
