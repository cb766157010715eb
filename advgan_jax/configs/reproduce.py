"""The tables of AdvGAN's and AI-GAN's papers; see experiments/reproduce.py.

Variants: `smoke` (digits, for tests), `mnist` (a CPU) and `full` (a GPU or TPU). The
sections `advgan`, `blackbox`, `aigan` and `generators` are configurations of the files
of these names without what the tables set: the nets, the data set, the seeds, and
`epsilon`, which stands for all sections, attacks and defences (of the latter one may
have another: `--config.advgan.target_training.defences.adv.attack.epsilon=0.2`). `fitted` is
another of AdvGAN's, for a generator that is trained on the images it attacks;
`generators` has no `aigan`, for that of all tables is one.

All nets, defended or not, are trained as `advgan.target_training` says, on MNIST as Tramer's A
and B were: six epochs in batches of 64. Of a net that is only asked,
`blackbox.target_training.num_images` says how many training images it gets. What `trainings`
has under the name of a net goes before `advgan.target_training`, for it and for the sources of
its ensemble: on a CPU A gets half the epochs (`--config.trainings.A.num_epochs=6`),
and shorter steps of PGD.

`full` trains defended nets as their papers do: `iterative` with 40 steps of 0.01 for
100,000 batches of 50 (67,000 in table 4, whose nets see two thirds of the images), at
Madry's learning rate but with our warm-up; `adv` and `ensemble` for Tramer's 12 epochs.
The CIFAR-10 columns of AdvGAN's tables 2 to 4 are not there at any scale: the black box
has no configuration for CIFAR-10.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from advgan_jax.configs import advgan, advgan_blackbox, aigan, generators

EPSILON = 0.3
VARIANTS = ("smoke", "mnist", "full")
# Whole configurations by section.
SECTIONS = {
    "advgan": advgan,
    "fitted": advgan,
    "blackbox": advgan_blackbox,
    "aigan": aigan,
    "generators": generators,
}
# What the tables set in each of them.
_SHARED = (
    "dataset",
    "data_dir",
    "target_model",
    "target_model_dir",
    "epsilon",
    "parallel",
    "seed",
)


def get_config(variant: str = "smoke") -> ConfigDict:
    """The configuration of one scale."""
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
    config.target_model = variant  # gives the workdir its name, nothing else
    config.epsilon = EPSILON
    config.parallel = "auto"
    config.seed = 0
    config.update(nets(variant))

    # The first test images; the challenge takes all of them.
    config.num_timed = 100 if smoke else 1000
    config.evaluation = ConfigDict()
    config.evaluation.num_images = placeholder(int)
    if variant != "full":
        config.evaluation.num_images = 100 if smoke else 1000
    config.evaluation.batch_size = 500 if not smoke else 100
    config.evaluation.grid_images = 10

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
        config.advgan.target_training.update({"num_epochs": 6, "batch_size": 64})
    config.trainings = trainings(variant)
    if variant == "full":
        train_as_printed(config.advgan.target_training.defences)
    config.attacks = attacks(variant)
    follow_epsilon(config)
    return config


def nets(variant: str) -> ConfigDict:
    """Which nets the tables are about."""
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
    """AdvGAN's numbers where it is trained on the very images that it attacks.

    On the challenge's 10,000 images 17 minutes on one core.
    """
    # What is handed in is a file of images; nobody judges how real they look.
    section.loss.update({"gan_weight": 0.0, "hinge_weight": 0.0})
    section.generator.update({"widths": (16, 32, 64), "learning_rate": 3e-3})
    section.training.num_epochs = 50


def leave_to_tables(section: ConfigDict, name: str) -> None:
    """Takes from a section what the tables set, so that nobody sets it in vain."""
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
    """What nets are trained otherwise than `advgan.target_training` says, by the net's name."""
    if variant != "mnist":
        return ConfigDict()
    # A step of A takes more than four times the arithmetic of one of B or C.
    defences = {name: {"training": {"num_epochs": 3}} for name in ("adv", "ensemble")}
    defences["iterative"] = {
        "warmup_epochs": 1.0,
        "training": {"num_epochs": 4},
        # By the derived steps of 0.15 A learns to resist those and no others. Chosen
        # for `epsilon` 0.3, which it does not follow.
        "attack": {"step_size": 0.075},
    }
    return ConfigDict({"A": {"num_epochs": 3, "defences": defences}})


def train_as_printed(defences: ConfigDict) -> None:
    """The defences' trainings in the numbers of their papers, on MNIST."""
    # Madry's 100,000 steps; without the warm-up some seeds stay at chance.
    defences.iterative.attack.update({"num_steps": 40, "step_size": 0.01})
    defences.iterative.training.update(
        {"num_epochs": 84, "batch_size": 50, "learning_rate": 1e-4}
    )
    for name in ("adv", "ensemble"):
        defences[name].training.num_epochs = 12


def follow_epsilon(config: ConfigDict) -> None:
    """Gives all attacks, those of the defences too, the bound of the tables."""
    defences = config.advgan.target_training.defences.values()
    for section in (*config.attacks.values(), *(d.attack for d in defences)):
        if "epsilon" in section:
            # One way: a defence may differ, and an attack that does is refused.
            section.epsilon = config.get_oneway_ref("epsilon")


def attacks(variant: str) -> ConfigDict:
    """The attacks that need no generator; `opt` is the paper's Opt."""
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
    """Makes a configuration on digits one that only shows that all parts work."""
    tiny = {
        # Nearly all of the time is the compiler's, and that grows with the layers.
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
