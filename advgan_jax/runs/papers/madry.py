"""The MNIST challenge: accuracy under attack of a model that is trained with PGD.

AdvGAN's number for the challenge, its paper's Table 5, is unconfirmed. It probably
belongs to the public model of the challenge, not to the secret one of the board.

References:
  Madry et al., 2018 (https://arxiv.org/abs/1706.06083), Table 1, and the board of the
  challenge (https://github.com/MadryLab/mnist_challenge);
  Xiao et al., 2018 (https://arxiv.org/abs/1801.02610), Table 5.
"""

from ml_collections import ConfigDict

from advgan_jax.runs.papers.advgan import attack_table, is_comparable, pgd_title
from advgan_jax.runs.papers.rows import Entry, Row, Table, TargetModel, published

MODEL = "madry"
NUM_SURROGATES = 3  # of the board's PGD, "independently trained copies"


def challenge(config: ConfigDict) -> list[Table]:
    """Build the table of the challenge's attacks on `config.challenge_model`.

    AdvGAN has two kinds of rows: trained on the training images, and fitted to the
    images of the challenge, whose labels every other attack also knows.
    """
    model = TargetModel(config.challenge_model, "iterative")
    seeds = range(1, config.num_surrogates + 1)
    surrogates = tuple(model._replace(seed=seed) for seed in seeds)
    known = {"nothing": (), "the model": (model,), "surrogates": surrogates}
    is_theirs = model.name == MODEL and is_comparable(config)
    numbers = published("madry", "challenge") if is_theirs else {}
    if config.num_surrogates != NUM_SURROGATES:
        numbers = {p: v for p, v in numbers.items() if p[0] != "PGD-40 surrogates"}
    rows = []
    for title, knowledge, attack in (
        ("none", "nothing", None),
        ("FGSM", "the model", "fgsm"),
        (pgd_title(config, "pgd"), "the model", "pgd"),
        (pgd_title(config, "pgd100"), "the model", "pgd100"),
        ("AdvGAN", "the model", "advgan"),
        ("AdvGAN, fitted", "the model", "fitted"),
        (pgd_title(config, "pgd"), "surrogates", "pgd"),
        ("AdvGAN", "surrogates", "advgan"),
        ("AdvGAN, fitted", "surrogates", "fitted"),
    ):
        metric = "robust_accuracy" if attack else "clean_accuracy"
        entry = Entry(metric, model, attack, known[knowledge], images="challenge")
        row = Row({"attack": title, "attacker has": knowledge}, {"accuracy": entry})
        source = numbers.get((row.name, "printed by"))
        rows.append(row._replace(facts={"printed by": source}) if source else row)
    numbers = {p: v for p, v in numbers.items() if p[1] == "accuracy"}
    return attack_table(config, "challenge", rows, numbers)
