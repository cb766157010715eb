"""AI-GAN's comparison: one generator for all classes against one for each class.

Of the paper's table by class we know only the best class, and not of which model.

References:
  Bai et al., 2020 (https://arxiv.org/abs/2002.02196).
"""

from ml_collections import ConfigDict

from advgan_jax.runs.papers.advgan import MODELS, attack_table
from advgan_jax.runs.papers.rows import Entry, Row, Table, TargetModel, by_place

BEST = "AI-GAN, best class"
PRINTED = by_place(dict.fromkeys(MODELS, (0.99,)), [BEST])


def compared(config: ConfigDict) -> list[Table]:
    """Success of AdvGANs and an AI-GAN towards each class, on `config.aigan_models`."""
    rows = [
        Row(
            {"model": name},
            {
                "AdvGAN, mean of the classes": Entry("success_mean", model, "advgan"),
                "AI-GAN, mean of the classes": Entry("success_mean", model, "aigan"),
                BEST: Entry("success_best", model, "aigan"),
            },
        )
        for name in config.aigan_models
        for model in (TargetModel(name),)
    ]
    return attack_table(config, "aigan", rows, PRINTED)
