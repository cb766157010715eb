"""The tables of AdvGAN's and AI-GAN's papers; see experiments/reproduce.py.

Variants: `smoke` (digits, for tests), `mnist` (a CPU) and `full` (a GPU or TPU). The
sections `advgan`, `blackbox`, `aigan` and `generators` are whole configurations, those
of the files of these names; `advgan.target` says how nets are trained, and defended.
"""

import pathlib
import runpy

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

VARIANTS = ("smoke", "mnist", "full")


def get_config(variant: str = "smoke") -> ConfigDict:
    """The configuration of one scale."""
    if variant not in VARIANTS:
        raise ValueError(
            f"Unknown variant {variant!r} of this config. Known: {', '.join(VARIANTS)}."
        )
    smoke, full = variant == "smoke", variant == "full"
    config = ConfigDict()
    config.method = "reproduce"
    config.table = "all"
    config.dataset = "digits" if smoke else "mnist"
    config.data_dir = placeholder(str)  # default: TFDS_DATA_DIR
    config.target_dir = placeholder(str)  # default: the workdir's `targets`
    config.target_model = variant  # gives the workdir its name, nothing else
    config.target_class = placeholder(int)
    config.epsilon = 0.3
    config.parallel = "auto"
    config.seed = 0

    # Which nets the tables are about.
    config.models = ("fc100_100_10",) if smoke else ("A", "B", "C")
    config.speed_model = "fc100_100_10" if smoke else "C"
    config.blackbox_model = "fc100_100_10" if smoke else "B"
    config.transfer_model = "fc200_200_10" if smoke else "A"
    config.challenge_model = "fc100_100_10" if smoke else "madry"
    config.num_surrogates = 3 if full else 2
    config.aigan_models = {"smoke": ("fc100_100_10",), "mnist": ("C",)}.get(
        variant, ("A", "C")
    )

    # The first test images; the challenge takes all of them.
    config.num_timed = 100 if smoke else 1000
    config.evaluation = ConfigDict()
    config.evaluation.num_images = placeholder(int)
    if not full:
        config.evaluation.num_images = 100 if smoke else 1000
    config.evaluation.batch_size = 500 if not smoke else 100
    config.evaluation.grid_images = 10

    config.attacks = attacks(variant)
    sections = {
        "advgan": "advgan",
        "blackbox": "advgan_blackbox",
        "aigan": "aigan",
        "generators": "generators",
    }
    for name, file in sections.items():
        config[name] = load(file, config.dataset)
        if smoke:
            shorten(config[name])
            config[name].target_model = "fc100_100_10"
    return config


def load(name: str, variant: str) -> ConfigDict:
    """The configuration of another file beside this one."""
    path = pathlib.Path(__file__).with_name(f"{name}.py")
    return runpy.run_path(str(path))["get_config"](variant)


def attacks(variant: str) -> ConfigDict:
    """The attacks that need no generator; `opt` is the paper's Opt."""
    few, full = variant == "smoke", variant == "full"
    search = {
        "num_search_steps": 2 if few else 9,
        "num_steps": 10 if few else (1000 if full else 100),
        "learning_rate": 1e-2,
        "initial_const": 1.0,
        "confidence": 0.0,
    }
    return ConfigDict(
        {
            "fgsm": {"epsilon": 0.3},
            "opt": {"kind": "carlini_wagner", **search},
            "lbfgs": {
                "solver": "projected",
                "num_search_steps": 2 if few else 12,
                "max_iterations": 10 if few else 60,
            },
            "transfer": {"kind": "pgd", "epsilon": 0.3, "num_steps": 40},
            "pgd": {
                "epsilon": 0.3,
                "step_size": 0.01,
                "num_steps": 5 if few else 40,
                "num_restarts": 1,
            },
            "pgd100": {
                "kind": "pgd",
                "epsilon": 0.3,
                "step_size": 0.01,
                "num_steps": 5 if few else 100,
                "num_restarts": 20 if full else 2,
            },
        }
    )


def shorten(config: ConfigDict) -> None:
    """Makes a configuration on digits one that only shows that all parts work."""
    tiny = {
        "generator.widths": (4, 8, 8),
        "generator.num_residual": 1,
        "discriminator.widths": (4, 8, 8),
        "training.num_epochs": 2,
        "training.num_rounds": 1,
        "training.steps_per_round": 10,
        "distilled.model": "fc100_100_10",
        "distilled.steps_per_round": 10,
        "distilled.initial_rounds": 1,
        "stage_one.num_epochs": 1,
        "stage_two.num_epochs": 1,
        "attacker.num_steps": 2,
        "evaluation.num_images": 100,
        "evaluation.monitor_images": 100,
        "target.num_epochs": 5,
        "target.defences.ensemble.sources": ("fc200_200_10",),
    }
    for path, value in tiny.items():
        *sections, name = path.split(".")
        section = config
        for part in sections:
            section = section.get(part, {})
        if name in section:
            section[name] = value
    if "target" in config:
        for settings in config.target.defences.values():
            settings.training.num_epochs = 5
            settings.warmup_epochs = 0.0
    for name in ("advgan", "aigan"):
        if name in config:
            shorten(config[name])
    if "target_classes" in config:
        config.target_classes = (0, 3)
