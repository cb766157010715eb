"""AI-GAN's comparison: one generator for all classes against one for each class.

References:
  Bai et al., 2020 (https://arxiv.org/abs/2002.02196).
"""

from ml_collections import ConfigDict

from advgan_jax.runs.papers.advgan import attack_table
from advgan_jax.runs.papers.rows import Entry, Row, Table, TargetModel, published


def compared(config: ConfigDict) -> list[Table]:
    """Build the table of `config.aigan_models`: success towards each class."""
    rows = [
        Row(
            {"model": name},
            {
                "AdvGAN, mean of the classes": Entry("success_mean", model, "advgan"),
                "AI-GAN, mean of the classes": Entry("success_mean", model, "aigan"),
                "AI-GAN, best class": Entry("success_best", model, "aigan"),
            },
        )
        for name in config.aigan_models
        for model in (TargetModel(name, section="aigan"),)
    ]
    return attack_table(config, "aigan", rows, published("aigan", "aigan"))
