"""What the papers print, all of MNIST at epsilon 0.3; shares, and seconds.

Tables 3 to 5 of AdvGAN's paper have not been confirmed by a second source. Its Table 5
is probably about the net that the challenge published, not the secret one of the board.

References:
  Xiao et al., 2018 (https://arxiv.org/abs/1801.02610): AdvGAN, Tables 1 to 5;
  Bai et al., 2020 (https://arxiv.org/abs/2002.02196): AI-GAN;
  Madry et al., 2018 (https://arxiv.org/abs/1706.06083), Table 1, and the board of the
  challenge (https://github.com/MadryLab/mnist_challenge).
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

EPSILON = 0.3
MODELS = ("A", "B", "C")  # two of Tramer's nets, and Carlini & Wagner's

# Table 1, for 1,000 images, by title. Its Opt. is Carlini & Wagner's; AI-GAN's
# number is of its own paper.
SECONDS = {
    "FGSM": 0.06,
    "Opt. (Carlini & Wagner)": "> 10800",
    "AdvGAN": "< 0.01",
    "AI-GAN": "< 0.01",
}

# Accuracy, then success semi-white-box and black-box, dynamic and static.
SUCCESS = {
    "A": (0.9897, 0.979, 0.934, 0.307),
    "B": (0.9917, 0.971, 0.901, 0.6663),
    "C": (0.9909, 0.983, 0.9402, 0.873),
}

# Table 3: FGSM, Opt., AdvGAN.
SEMI_WHITE_BOX = {
    ("A", "adv"): (0.043, 0.046, 0.080),
    ("A", "ensemble"): (0.016, 0.042, 0.063),
    ("A", "iterative"): (0.044, 0.0296, 0.056),
    ("B", "adv"): (0.060, 0.045, 0.072),
    ("B", "ensemble"): (0.027, 0.0318, 0.058),
    ("B", "iterative"): (0.090, 0.030, 0.066),
    ("C", "adv"): (0.027, 0.0295, 0.187),
    ("C", "ensemble"): (0.016, 0.022, 0.135),
    ("C", "iterative"): (0.016, 0.019, 0.126),
}

# Table 4, in the same columns.
BLACK_BOX_MODEL, TRANSFER_MODEL = "B", "A"
BLACK_BOX = {
    "adv": (0.031, 0.035, 0.115),
    "ensemble": (0.025, 0.034, 0.103),
    "iterative": (0.024, 0.025, 0.122),
}

# The challenge: accuracy of Madry's net, and who printed it.
CHALLENGE_MODEL = "madry"
_MADRY, _BOARD = "Madry et al., Table 1", "the challenge's board"
CLEAN, FGSM = (0.988, _MADRY), (0.956, _MADRY)
PGD = {
    # By steps and restarts.
    (40, 1): (0.932, _MADRY),
    (100, 1): (0.918, _MADRY),
    (40, 20): (0.904, _MADRY),
    (100, 20): (0.893, _MADRY),
}
# AdvGAN's own number, which no board has.
ADVGAN = (0.8893, "AdvGAN's paper, Table 5 (unconfirmed)")
# By the number of surrogates, "independently trained copies".
PGD_THROUGH = {3: (0.9354, _BOARD)}
ADVGAN_THROUGH = (0.9276, _BOARD)  # through how many is not told

# AI-GAN: of its table by class we know the best alone.
AIGAN_BEST = 0.99


def printed(
    columns: Sequence[str], numbers: Sequence[float] | None
) -> Mapping[str, float]:
    """Numbers by column.

    Args:
      columns: as many as there are numbers.
      numbers: what is printed; None for nothing.

    Returns:
      A mapping, empty without numbers.
    """
    if numbers is None:
        return MappingProxyType({})
    return dict(zip(columns, numbers, strict=True))
