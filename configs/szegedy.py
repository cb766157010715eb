"""Szegedy et al., "Intriguing properties of neural networks": sizes of its studies.

    python experiments/szegedy.py --study=all --scale=smoke   # digits, tiny
    python experiments/szegedy.py --study=all --scale=cpu     # MNIST, about an hour
    python experiments/szegedy.py --study=all --scale=full    # MNIST, all images
    python experiments/szegedy.py --config=configs/szegedy.py:digits

The scales are the variants `smoke`, `mnist` and `full`. `nets` are trained by
full-batch L-BFGS with the paper's weight decay; every other name (`A`, `B`, `C`, ...)
is a target model, trained as `target` says. With `@1` or `@2` a net gets half of the
training set.

Override any value: `--config.models="('fc10_1e4','A')" --config.attack=pgd_l2`.
"""

import pathlib
import runpy

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

VARIANTS = ("digits", "smoke", "mnist", "full")

# Title, hidden layers, and lambda of each trained layer.
NETS = {
    "fc10_1e4": ("FC10(1e-4)", (), (1e-4,)),
    "fc10_1e2": ("FC10(1e-2)", (), (1e-2,)),
    "fc10_1": ("FC10(1)", (), (1.0,)),
    "fc100_100_10": ("FC100-100-10", (100, 100), (1e-5, 1e-5, 1e-6)),
    "fc200_200_10": ("FC200-200-10", (200, 200), (1e-5, 1e-5, 1e-6)),
    "ae400_10": ("AE400-10", (400,), (1e-6,)),
    "fc123_456_10": ("FC123-456-10", (123, 456), (1e-5, 1e-5, 1e-6)),
}


def get_config(variant: str = "digits") -> ConfigDict:
    """The configuration of one scale."""
    if variant not in VARIANTS:
        raise ValueError(
            f"Unknown variant {variant!r} of this config. Known: {', '.join(VARIANTS)}."
        )
    digits, smoke = variant in ("digits", "smoke"), variant == "smoke"
    # The attacks and the target models' training are those of configs/attacks.py.
    attacks = runpy.run_path(str(pathlib.Path(__file__).with_name("attacks.py")))
    config = attacks["get_config"]("digits" if digits else "mnist")
    for unused in (
        *("names", "epsilon", "epsilons", "epsilon_l2", "epsilons_l2", "substitute"),
        *("generator", "discriminator", "loss", "training", "distillation"),
    ):
        del config[unused]
    config.method = "szegedy"
    config.study = "all"
    config.target_model = "fc100_100_10"  # gives the workdir its name, nothing else
    config.nets = ConfigDict(
        {
            name: {
                "title": title,
                "hidden": hidden,
                "weight_decay": decays,
                "autoencoder": name == "ae400_10",
            }
            for name, (title, hidden, decays) in NETS.items()
        }
    )
    config.models = tuple(name for name in NETS if name != "fc123_456_10")
    config.half_models = ("fc100_100_10@1", "fc123_456_10@1", "fc100_100_10@2")
    config.spectral_models = ("fc100_100_10", "small" if digits else "C")
    # A convolutional net's accuracy matters little here.
    if variant == "mnist":
        config.target.num_epochs = 1

    config.attack = "lbfgs"
    config.random_targets = True
    config.noise = (0.1, 0.3)
    config.amplified_to = 0.1
    del config.evaluation.grid_images
    config.evaluation.num_images = {"smoke": 30, "full": placeholder(int)}.get(
        variant, 500
    )
    config.evaluation.batch_size = 500

    config.full_batch = ConfigDict()
    config.full_batch.max_iterations = 60 if smoke else 600
    config.full_batch.iterations_per_call = 10
    config.full_batch.calls_per_checkpoint = 5
    config.full_batch.gradient_tolerance = 1e-7
    config.full_batch.value_tolerance = 1e-5

    # Weights of the penalties as in the lecture notes.
    config.autoencoder = ConfigDict()
    config.autoencoder.units = 400
    config.autoencoder.num_images = placeholder(int)  # default: all training images
    config.autoencoder.sparsity = 0.1
    config.autoencoder.sparsity_weight = 3.0
    config.autoencoder.weight_decay = 3e-3
    config.autoencoder.max_iterations = 20 if smoke else 300
    config.autoencoder.iterations_per_call = 10
    config.autoencoder.calls_per_checkpoint = 1
    config.autoencoder.gradient_tolerance = 1e-6
    config.autoencoder.value_tolerance = 1e-5
    if variant == "mnist":
        config.autoencoder.num_images = 10_000

    config.units = ConfigDict()
    config.units.models = ("fc100_100_10",)
    config.units.num_directions = 100
    config.units.num_images = 8
    config.units.num_permutations = 200 if smoke else 10_000

    config.layerwise = ConfigDict()
    config.layerwise.net = "fc100_100_10"
    config.layerwise.attack = ConfigDict(
        {"kind": "lbfgs", "num_search_steps": 6, "max_iterations": 20}
    )
    config.layerwise.pool_size = 200 if smoke else 2000
    config.layerwise.num_replaced = 10 if smoke else 50
    config.layerwise.steps_per_replacement = 10
    config.layerwise.num_mixed = 64
    config.layerwise.weight = 1.0
    config.layerwise.dropout = 0.5
    config.layerwise.optimizer = "adam"
    config.layerwise.learning_rate = 1e-3
    config.layerwise.weight_decay = 0.0  # of the optimiser; the nets have their own
    config.layerwise.num_epochs = {"smoke": 2, "digits": 60, "mnist": 20}.get(
        variant, 100
    )
    config.layerwise.batch_size = 128
    config.layerwise.epochs_per_checkpoint = 5
    config.layerwise.steps_per_call = placeholder(int)  # default: by platform
    return config
