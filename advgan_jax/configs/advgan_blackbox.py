"""AdvGAN against a classifier that the attacker can only ask.

    python experiments/train.py --config=configs/advgan_blackbox.py            # digits
    python experiments/train.py --config=configs/advgan_blackbox.py:mnist
    python experiments/train.py --config=configs/advgan_blackbox.py \
        --config.distillation=static --config.answers=labels --workdir=runs/static

The black box is trained on the first `target_training.num_images` training images; the attacker
has the others, and `queries` says about how many of them, and about how many perturbed
ones, it may ask. Static distillation spends as many queries on clean images alone. Ten
more images are asked about again at the end, to see whether the answers are noisy.

Digits take a minute on one CPU core, the training of the black box counted: success
96.9 % with 437 queries. On MNIST with 20,000 queries, `dynamic`, eight minutes on one
core after the black box is trained: A 97.4 %, B 98.9 %, C 96.6 %.

`--resume` goes on with another `queries.budget` or `queries.batch_size` too.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from advgan_jax.configs import advgan

VARIANTS = ("digits", "mnist")


def get_config(variant: str = "digits") -> ConfigDict:
    """The configuration of one data set's run."""
    if variant not in VARIANTS:
        raise ValueError(
            f"Unknown variant {variant!r} of this config. Known: {', '.join(VARIANTS)}."
        )
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
    # What generator, discriminator and the copy multiply in while they are trained:
    # float32, or bfloat16 for accelerators.
    config.training.compute_dtype = "float32"

    # The attacker's copy of the black box.
    config.distilled = ConfigDict()
    config.distilled.model = "C" if mnist else "small"
    config.distilled.optimizer = "adam"
    config.distilled.learning_rate = 1e-3
    config.distilled.weight_decay = 0.0
    config.distilled.batch_size = 128 if mnist else 64
    config.distilled.steps_per_round = 130 if mnist else 40
    config.distilled.initial_rounds = 6  # before the first, in steps of so many rounds
    config.distilled.replay = True  # of the perturbed images of earlier rounds

    config.queries = ConfigDict()
    config.queries.clean = 11_000 if mnist else 227
    config.queries.perturbed_per_round = 1_000 if mnist else 30
    config.queries.budget = placeholder(int)  # default: all that the rounds ask
    config.queries.batch_size = 250

    # After each round, on so many of the first test images; they choose nothing.
    config.evaluation.monitor_images = 1_000 if mnist else 360
    return config
