"""The tables of the AdvGAN and AI-GAN papers, and the MNIST challenge.

    advgan-jax reproduce --table=all --scale=smoke   # digits
    advgan-jax reproduce --table=2 --scale=cpu       # MNIST
    advgan-jax reproduce --table=2 --scale=full      # MNIST, a GPU or TPU
    advgan-jax reproduce --table=all --config=reproduce:mnist

The scales are the variants `smoke`, `mnist` and `full`. On two cores `smoke` takes two
minutes and `cpu` about ten hours for all tables; `full` has not been run. RESULTS.md
has the results of `cpu`. For example, AdvGAN's semi-white-box success on A, B and C
(Table 2) is 99.9 % each; the paper has 97.9, 97.1 and 98.3 %.

The sections `advgan`, `blackbox`, `aigan` and `generators` are the configurations of
these names without the settings of the tables: models, data set, seed and `epsilon`.
All sections, attacks and defences use this `epsilon`; only a defence may have another,
`--config.advgan.target_training.defences.adv.attack.epsilon=0.2`. `fitted` is an AdvGAN
that is trained on the images that it attacks.

`advgan.target_training` specifies the training of every model, with or without a
defence: on MNIST six epochs in batches of 64, as for Tramer's A and B. A black box
trains on `blackbox.target_training.num_images` images. A model of AI-GAN's comparison
trains longer (`aigan.target_training`), as in `configs/aigan.py`: on MNIST 12 epochs in
batches of 32. `trainings.NAME` overrides both for one model, and
`advgan.target_training` for the sources of its ensemble. On a CPU, A has half the
epochs (`--config.trainings.A.num_epochs=6`) and smaller PGD steps.

`full` trains defended models as their papers do. `iterative` uses 40 steps of 0.01 for
100,000 batches of 50 at Madry's learning rate, but with our warm-up. `adv` and
`ensemble` train for Tramer's 12 epochs. In Table 4 models train on two thirds of the
images, so `iterative` has 67,000 batches. No scale has the CIFAR-10 columns of Tables 2
to 4.
"""

from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from advgan_jax.configs import advgan, advgan_blackbox, aigan, generators

VARIANTS = ("smoke", "mnist", "full")
EPSILON = 0.3  # of the papers and the challenge; its own module imports JAX
# Whole configurations by section.
SECTIONS = {
    "advgan": advgan,
    "fitted": advgan,
    "blackbox": advgan_blackbox,
    "aigan": aigan,
    "generators": generators,
}
# The settings that the tables set in each section.
_SHARED = (
    "dataset",
    "data_dir",
    "target_model",
    "target_model_dir",
    "target_weights",
    "epsilon",
    "parallel",
    "seed",
)
_LENGTH = ("num_epochs", "batch_size")


def get_config(variant: str = "smoke") -> ConfigDict:
    """Return the configuration of one scale."""
    if variant not in VARIANTS:
        raise ValueError(
            f"Unknown variant {variant!r} of this config. Known: {', '.join(VARIANTS)}."
        )
    smoke = variant == "smoke"
    config = ConfigDict()
    config.method = "reproduce"
    config.table = "all"
    config.dataset = "digits" if smoke else "mnist"
    config.data_dir = placeholder(str)  # default: TFDS_DATA_DIR
    config.target_model_dir = placeholder(str)  # default: the workdir's `target_models`
    config.target_model = variant  # only names the default workdir
    config.epsilon = EPSILON
    config.parallel = "auto"
    config.seed = 0
    config.update(model_names(variant))

    # The number of first test images; the challenge uses all.
    config.num_timed = 100 if smoke else 1000
    config.evaluation = ConfigDict()
    config.evaluation.num_images = placeholder(int)
    if variant != "full":
        config.evaluation.num_images = 100 if smoke else 1000
    config.evaluation.batch_size = 500 if not smoke else 100
    config.evaluation.grid_images = 10
    config.evaluation.levels = placeholder(int)

    for name, module in SECTIONS.items():
        config[name] = module.get_config(config.dataset)
        if name == "generators":
            del config[name].aigan  # one AI-GAN for all tables, that of `aigan`
        if name == "fitted":
            fit_to_images(config[name])
        if smoke:
            shorten(config[name])
        leave_to_tables(config[name], name)
    if not smoke:
        longer = {n: config.advgan.target_training[n] for n in _LENGTH}
        config.aigan.target_training = ConfigDict(longer)
        config.advgan.target_training.update({"num_epochs": 6, "batch_size": 64})
    config.trainings = trainings(variant)
    if variant == "full":
        train_as_printed(config.advgan.target_training.defences)
    config.attacks = attacks(variant)
    follow_epsilon(config)
    return config


def model_names(variant: str) -> ConfigDict:
    """Return the models that the tables attack."""
    smoke = variant == "smoke"
    aigan_models = {"smoke": ("fc100_100_10",), "mnist": ("C",), "full": ("A", "C")}
    return ConfigDict(
        {
            "models": ("fc100_100_10",) if smoke else ("A", "B", "C"),
            "speed_model": "fc100_100_10" if smoke else "C",
            "blackbox_model": "fc100_100_10" if smoke else "B",
            "transfer_model": "fc200_200_10" if smoke else "A",
            "challenge_model": "fc100_100_10" if smoke else "madry",
            "num_surrogates": 3 if variant == "full" else 2,
            "aigan_models": aigan_models[variant],
        }
    )


def fit_to_images(section: ConfigDict) -> None:
    """Set AdvGAN's numbers for training on the images that it attacks.

    On the challenge's 10,000 images this takes 17 minutes of one core.
    """
    # The challenge does not require that images look real.
    section.loss.update({"gan_weight": 0.0, "hinge_weight": 0.0})
    section.generator.update({"widths": (16, 32, 64), "learning_rate": 3e-3})
    section.training.num_epochs = 50


def leave_to_tables(section: ConfigDict, name: str) -> None:
    """Remove the settings of the tables from a section, where they have no effect."""
    images = section.target_training.num_images
    parts = (section, section.get("advgan"))
    for part in (part for part in parts if part is not None):
        for shared in _SHARED:
            del part[shared]
        if name != "advgan":
            del part.target_training
    if name == "blackbox":
        section.target_training = ConfigDict({"num_images": images})


def trainings(variant: str) -> ConfigDict:
    """Return the settings that override `advgan.target_training`, by model name."""
    if variant != "mnist":
        return ConfigDict()
    # A training step of A costs more than four times as much as one of B or C.
    names = ("adv", "ensemble")
    defences: dict[str, Any] = {name: {"training": {"num_epochs": 3}} for name in names}
    defences["iterative"] = {
        "warmup_epochs": 1.0,
        "training": {"num_epochs": 4},
        # With the derived steps of 0.15, A learns to resist only such steps. The value
        # is for `epsilon` 0.3 and does not follow it.
        "attack": {"step_size": 0.075},
    }
    return ConfigDict({"A": {"num_epochs": 3, "defences": defences}})


def train_as_printed(defences: ConfigDict) -> None:
    """Set the defences' trainings to those of their papers, on MNIST."""
    # Madry's 100,000 steps; without the warm-up some seeds stay at chance accuracy.
    defences.iterative.attack.update({"num_steps": 40, "step_size": 0.01})
    defences.iterative.training.update(
        {"num_epochs": 84, "batch_size": 50, "learning_rate": 1e-4}
    )
    for name in ("adv", "ensemble"):
        defences[name].training.num_epochs = 12


def follow_epsilon(config: ConfigDict) -> None:
    """Make all attacks, also those of defences, follow the tables' `epsilon`."""
    defences = config.advgan.target_training.defences.values()
    for section in (*config.attacks.values(), *(d.attack for d in defences)):
        if "epsilon" in section:
            # One way, because a defence may have its own; an attack may not.
            section.epsilon = config.get_oneway_ref("epsilon")


def attacks(variant: str) -> ConfigDict:
    """Return the attacks that need no generator; `opt` is the paper's Opt."""
    few, full = variant == "smoke", variant == "full"
    search = {
        "num_search_steps": 2 if few else 9,
        "num_steps": 10 if few else (1000 if full else 100),
        "learning_rate": 1e-2,
        "initial_loss_weight": 1.0,
        "confidence": 0.0,
    }
    return ConfigDict(
        {
            "fgsm": {"epsilon": EPSILON},
            "opt": {"kind": "carlini_wagner_l2", **search},
            "lbfgs": {
                "solver": "projected",
                "num_search_steps": 1 if few else 12,
                "num_steps": 5 if few else 60,
            },
            "transfer": {
                "kind": "pgd",
                "epsilon": EPSILON,
                "num_steps": 3 if few else 40,
            },
            "pgd": {
                "epsilon": EPSILON,
                "step_size": 0.01,
                "num_steps": 3 if few else 40,
                "num_restarts": 1,
            },
            "pgd100": {
                "kind": "pgd",
                "epsilon": EPSILON,
                "step_size": 0.01,
                "num_steps": 3 if few else 100,
                "num_restarts": 20 if full else 2,
            },
        }
    )


def shorten(config: ConfigDict) -> None:
    """Shorten a configuration on digits until it only tests the code."""
    tiny = {
        # Compilation dominates, and it grows with the number of layers.
        "generator.widths": (4, 4, 4),
        "generator.num_residual": 0,
        "discriminator.widths": (4,),
        "training.num_epochs": 2,
        "training.num_rounds": 1,
        "training.steps_per_round": 10,
        "distilled.model": "fc100_100_10",
        "distilled.steps_per_round": 10,
        "distilled.initial_rounds": 1,
        "stage_one.num_epochs": 1,
        "stage_two.num_epochs": 1,
        "attacker.num_steps": 1,
        "evaluation.num_images": 100,
        "evaluation.monitor_images": 100,
        "target_training.num_epochs": 5,
        "target_training.learning_rate": 1e-2,
        "target_training.defences.ensemble.sources": ("fc200_200_10",),
    }
    for path, value in tiny.items():
        *sections, name = path.split(".")
        section = config
        for part in sections:
            section = section.get(part, {})
        if name in section:
            section[name] = value
    if "target_training" in config:
        for settings in config.target_training.defences.values():
            settings.training.num_epochs = 5
            settings.warmup_epochs = min(settings.warmup_epochs, 4.0)
    if "advgan" in config:
        shorten(config.advgan)
    if "target_classes" in config:
        config.target_classes = (3,)
