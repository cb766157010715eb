"""The MNIST challenge: accuracy under attack of a model that is trained with PGD.

AdvGAN's number for the challenge, its paper's Table 5, is unconfirmed. It is probably
about the public model of the challenge, not the secret one of the board.

References:
  Madry et al., 2018 (https://arxiv.org/abs/1706.06083), Table 1, and the board of the
  challenge (https://github.com/MadryLab/mnist_challenge);
  Xiao et al., 2018 (https://arxiv.org/abs/1801.02610), Table 5.
"""

from ml_collections import ConfigDict

from advgan_jax.runs.papers.advgan import attack_table, is_comparable, pgd_title
from advgan_jax.runs.papers.rows import Entry, Row, Table, TargetModel

MODEL = "madry"
_MADRY, _BOARD = "Madry et al., Table 1", "the challenge's board"
# Accuracy by row, and who printed it.
PRINTED = {
    "none nothing": (0.988, _MADRY),
    "FGSM the model": (0.956, _MADRY),
    "PGD-40 the model": (0.932, _MADRY),
    "PGD-100 the model": (0.918, _MADRY),
    "PGD-40, 20 restarts the model": (0.904, _MADRY),
    "PGD-100, 20 restarts the model": (0.893, _MADRY),
    "AdvGAN the model": (0.8893, "AdvGAN's paper, Table 5 (unconfirmed)"),
    "PGD-40 surrogates": (0.9354, _BOARD),
    "AdvGAN surrogates": (0.9276, _BOARD),  # the number of surrogates is unknown
}
NUM_SURROGATES = 3  # of the board's PGD, "independently trained copies"


def challenge(config: ConfigDict) -> list[Table]:
    """The challenge's attacks on `config.challenge_model`.

    AdvGAN has two kinds of rows: trained on the training images, and fitted to the
    images of the challenge, whose labels every other attack also knows.
    """
    model = TargetModel(config.challenge_model, "iterative")
    seeds = range(1, config.num_surrogates + 1)
    surrogates = tuple(model._replace(seed=seed) for seed in seeds)
    known = {"the model": (model,), "surrogates": surrogates}
    printed = PRINTED if model.name == MODEL and is_comparable(config) else {}
    if config.num_surrogates != NUM_SURROGATES:
        printed = {n: v for n, v in printed.items() if n != "PGD-40 surrogates"}
    clean = Entry("clean_accuracy", model, images="challenge")
    rows = [Row({"attack": "none", "attacker has": "nothing"}, {"accuracy": clean})]
    for title, knowledge, attack in (
        ("FGSM", "the model", "fgsm"),
        (pgd_title(config, "pgd"), "the model", "pgd"),
        (pgd_title(config, "pgd100"), "the model", "pgd100"),
        ("AdvGAN", "the model", "advgan"),
        ("AdvGAN, fitted", "the model", "fitted"),
        (pgd_title(config, "pgd"), "surrogates", "pgd"),
        ("AdvGAN", "surrogates", "advgan"),
        ("AdvGAN, fitted", "surrogates", "fitted"),
    ):
        titles = {"attack": title, "attacker has": knowledge}
        entry = Entry(
            "robust_accuracy", model, attack, known[knowledge], images="challenge"
        )
        rows.append(Row(titles, {"accuracy": entry}))
    rows = [
        row._replace(facts={"printed by": printed[row.name][1]})
        if row.name in printed
        else row
        for row in rows
    ]
    numbers = {(name, "accuracy"): number for name, (number, _) in printed.items()}
    return attack_table(config, "challenge", rows, numbers)
