"""The numbers that Szegedy et al. print for MNIST, by the titles of their nets.

References:
  Szegedy et al., 2013 (https://arxiv.org/abs/1312.6199), Tables 1 to 4 and Sec. 4.2.
"""

_NETS = (
    "FC10(1e-4)",
    "FC10(1e-2)",
    "FC10(1)",
    "FC100-100-10",
    "FC200-200-10",
    "AE400-10",
)
_HALVES = ("FC100-100-10", "FC123-456-10", "FC100-100-10'")

# Training error, test error, average minimum distortion.
DISTORTION = {
    "FC10(1e-4)": (0.067, 0.074, 0.062),
    "FC10(1e-2)": (0.10, 0.094, 0.1),
    "FC10(1)": (0.212, 0.20, 0.14),
    "FC100-100-10": (0.0, 0.0164, 0.058),
    "FC200-200-10": (0.0, 0.0154, 0.065),
    "AE400-10": (0.0057, 0.019, 0.086),
}

# Errors of the nets in the columns, on images made for the net of the row.
_CROSS_MODEL = {
    "FC10(1e-4)": (100, 11.7, 22.7, 2, 3.9, 2.7),
    "FC10(1e-2)": (87.1, 100, 35.2, 35.9, 27.3, 9.8),
    "FC10(1)": (71.9, 76.2, 100, 48.1, 47, 34.4),
    "FC100-100-10": (28.9, 13.7, 21.1, 100, 6.6, 2),
    "FC200-200-10": (38.2, 14, 23.8, 20.3, 100, 2.7),
    "AE400-10": (23.4, 16, 24.8, 9.4, 6.6, 100),
    "Gaussian 0.1": (5.0, 10.1, 18.3, 0, 0, 0.8),
    "Gaussian 0.3": (15.6, 11.3, 22.7, 5, 4.3, 3.1),
}
_CROSS_TRAINING_SET = {
    "FC100-100-10": (100, 26.2, 5.9),
    "FC123-456-10": (6.25, 100, 5.1),
    "FC100-100-10'": (8.2, 8.2, 100),
    "Gaussian 0.06": (2.2, 2.6, 2.4),
    "FC100-100-10 to 0.1": (100, 98, 43),
    "FC123-456-10 to 0.1": (96, 100, 22),
    "FC100-100-10' to 0.1": (27, 50, 100),
    "Gaussian 0.1": (2.6, 2.8, 2.7),
}
# Errors on both halves of the training set and on the test set, then the distortion.
HALVES = {
    "FC100-100-10": (0.0, 0.024, 0.02, 0.062),
    "FC123-456-10": (0.0, 0.025, 0.021, 0.059),
    "FC100-100-10'": (0.023, 0.0, 0.021, 0.058),
}

# Test errors with layer-wise training, of which the paper prints an upper bound only.
LAYERWISE = {"weight decay": 0.016, "dropout": 0.013, "all layers": 0.012}


def _shares(table: dict, columns: tuple[str, ...]) -> dict[tuple[str, str], float]:
    return {
        (row, column): percent / 100
        for row, line in table.items()
        for column, percent in zip(columns, line, strict=True)
    }


CROSS_MODEL = _shares(_CROSS_MODEL, _NETS)
CROSS_TRAINING_SET = _shares(_CROSS_TRAINING_SET, _HALVES)
