"""Configure the studies of Szegedy et al., "Intriguing properties of neural networks".

    advgan-jax szegedy --study=all --scale=smoke   # digits
    advgan-jax szegedy --study=all --scale=cpu     # MNIST
    advgan-jax szegedy --study=all --scale=full    # MNIST, all images
    advgan-jax szegedy --config=szegedy:digits

The scales are the variants `smoke`, `mnist` and `full`. `smoke` takes a minute and
`cpu` 55 minutes of one core with one seed of layer-wise training, which now has three;
`full` has not been run. RESULTS.md has the results of `cpu`. For example, FC10(1e-4)
has 7.4 % test error and an average distortion of 0.062, as in the paper.

The models of `networks` are trained by full-batch L-BFGS with the paper's weight decay.
All other names (`A`, `B`, `C`, ...) are target models, which `target_training`
specifies. `@1` or `@2` after a name means that half of the training set.

Override any value: `--config.models="('fc10_1e4','A')" --config.attack=pgd_l2`.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from advgan_jax.configs import attacks

VARIANTS = ("digits", "smoke", "mnist", "full")

# Title in the paper, hidden layers, and lambda of each trained layer.
NETWORKS: dict[str, tuple[str, tuple[int, ...], tuple[float, ...]]] = {
    "fc10_1e4": ("FC10(1e-4)", (), (1e-4,)),
    "fc10_1e2": ("FC10(1e-2)", (), (1e-2,)),
    "fc10_1": ("FC10(1)", (), (1.0,)),
    "fc100_100_10": ("FC100-100-10", (100, 100), (1e-5, 1e-5, 1e-6)),
    "fc200_200_10": ("FC200-200-10", (200, 200), (1e-5, 1e-5, 1e-6)),
    "ae400_10": ("AE400-10", (400,), (1e-6,)),
    "fc123_456_10": ("FC123-456-10", (123, 456), (1e-5, 1e-5, 1e-6)),
}


def get_config(variant: str = "digits") -> ConfigDict:
    """Return the configuration of one scale."""
    if variant not in VARIANTS:
        raise ValueError(
            f"Unknown variant {variant!r} of this config. Known: {', '.join(VARIANTS)}."
        )
    digits = variant in ("digits", "smoke")
    # The attacks and the target models' training are those of configs/attacks.py.
    config = attacks.get_config("digits" if digits else "mnist")
    for unused in (
        *("names", "epsilon", "epsilons", "epsilon_l2", "epsilons_l2", "surrogate"),
        "target_weights",
        *("generator", "discriminator", "loss", "training", "distillation"),
    ):
        del config[unused]
    # The studies use the attacks at one size; the attacks have no default.
    for name in (*("fgsm", "bim", "ilcm", "mi_fgsm", "pgd", "apgd"), "pgd_l2"):
        config.attacks[name].epsilon = 0.3
    config.method = "szegedy"
    config.study = "all"
    config.target_model = "fc100_100_10"  # only names the default workdir
    config.models = tuple(name for name in NETWORKS if name != "fc123_456_10")
    config.half_models = ("fc100_100_10@1", "fc123_456_10@1", "fc100_100_10@2")
    config.spectral_models = ("fc100_100_10", "small" if digits else "C")
    if variant == "mnist":
        # The accuracy of a convolutional model matters little here.
        config.target_training.num_epochs = 1

    if variant == "smoke":
        config.models = ("fc10_1e4", "fc100_100_10", "ae400_10")
        config.half_models = ("fc10_1e4@1", "fc10_1e4@2")

    config.attack = "lbfgs"
    config.random_targets = True
    config.noise = (0.1, 0.3)
    # The paper's size; the 8x8 digits need twice as much.
    config.amplified_to = 0.2 if digits else 0.1
    config.evaluation = evaluation(variant)
    config.networks = networks()
    config.full_batch = full_batch(variant)
    config.autoencoder = autoencoder(variant)
    config.layerwise = layerwise(variant)
    config.units = units(variant)
    return config


def evaluation(variant: str) -> ConfigDict:
    """Return how many images are attacked."""
    section = ConfigDict()
    section.num_images = placeholder(int)  # default: the whole split
    if variant != "full":
        section.num_images = {"smoke": 30, "digits": 360, "mnist": 1000}[variant]
    section.batch_size = 500
    return section


def networks() -> ConfigDict:
    """Return the models of the paper."""
    return ConfigDict(
        {
            name: {
                "title": title,
                "hidden": hidden,
                "weight_decay": decays,
                "autoencoder": name == "ae400_10",
            }
            for name, (title, hidden, decays) in NETWORKS.items()
        }
    )


def full_batch(variant: str) -> ConfigDict:
    """Return the settings of full-batch L-BFGS."""
    section = ConfigDict()
    section.max_iterations = 60 if variant == "smoke" else 600
    section.iterations_per_call = 10
    section.calls_per_checkpoint = 5
    section.gradient_tolerance = 1e-7
    section.value_tolerance = 1e-5
    return section


def autoencoder(variant: str) -> ConfigDict:
    """Return the sparse autoencoder; its penalties weigh as in Ng's lecture notes."""
    section = ConfigDict()
    section.units = 400
    section.num_images = placeholder(int)  # default: all training images
    if variant == "mnist":
        section.num_images = 10_000
    section.sparsity = 0.1
    section.sparsity_weight = 3.0
    section.weight_decay = 3e-3
    section.max_iterations = 20 if variant == "smoke" else 300
    section.iterations_per_call = 10
    section.calls_per_checkpoint = 1
    section.gradient_tolerance = 1e-6
    section.value_tolerance = 1e-5
    return section


def units(variant: str) -> ConfigDict:
    """Return the comparison of single units with random directions."""
    section = ConfigDict()
    section.models = ("fc100_100_10",)
    section.num_directions = 100
    section.num_images = 8
    section.num_permutations = 200 if variant == "smoke" else 10_000
    return section


def layerwise(variant: str) -> ConfigDict:
    """Return the training with adversarial examples of layers."""
    section = ConfigDict()
    section.model = "fc100_100_10"
    section.variants = (
        *("none", "weight decay", "dropout"),
        *("input", "layer 1", "layer 2", "all layers"),
    )
    section.attack = ConfigDict(
        {"kind": "lbfgs", "num_search_steps": 6, "num_steps": 20}
    )
    section.pool_size = 200 if variant == "smoke" else 2000
    section.num_replaced = 10 if variant == "smoke" else 50
    section.steps_per_replacement = 10
    section.num_mixed = 64
    section.weight = 1.0
    # To scale perturbations to this root mean square; by default as the attack made.
    section.rms = placeholder(float)
    section.activation = "sigmoid"  # or relu
    # Of each layer, with every variant but `none` and `dropout`.
    section.decays = (1e-5, 1e-5, 1e-6)
    section.dropout = 0.5  # of hidden units, and of pixels:
    section.input_dropout = 0.0
    section.num_seeds = 1 if variant in ("smoke", "digits") else 3
    # The last training images, held out and shown instead of the test images: to choose
    # settings.
    section.num_validation = 0
    section.optimizer = "adam"
    section.learning_rate = 1e-3
    section.weight_decay = 0.0  # of the optimiser; see `decays`
    epochs = {"smoke": 2, "digits": 60, "mnist": 20, "full": 100}
    section.num_epochs = epochs[variant]
    section.batch_size = 128
    section.epochs_per_checkpoint = 5
    section.steps_per_call = placeholder(int)  # default: by platform
    return section
