"""Compare attacks on one target model: rows, robustness curves and pictures.

Each attack has a section of `config.attacks` with its hyper-parameters.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from advgan_jax.checks import check_at_least, unknown_name
from advgan_jax.data import Dataset, Split
from advgan_jax.evaluation import (
    Evaluation,
    evaluate_many,
    within,
    worst_case_evaluation,
)
from advgan_jax.reporting import comparison_grid, robustness_curve
from advgan_jax.runs import from_config, store
from advgan_jax.runs.from_config import gans, target_models
from advgan_jax.runs.methods import advgan, target_model
from advgan_jax.runs.run import Run, attack_row, test_images
from advgan_jax.types import LogitsFn

# The settings of the sizes of rows and curves, by norm.
NORMS = {"linf": ("epsilon", "epsilons"), "l2": ("epsilon_l2", "epsilons_l2")}
# Attacks for which the run trains a network, by the registry's names.
_THREAT_MODELS = {"advgan": "semi-white-box", "transfer": "transfer"}
_MINIMISE_L2 = ("carlini_wagner_l2", "deepfool", "lbfgs")

# Evaluations by size, or by None for an attack that minimises the distance.
BySize = Mapping[float | None, Evaluation]


class _Section(NamedTuple):
    """An attack by its registry name, its norm, and sizes: of its row, and in order."""

    kind: str
    norm: str
    size: float
    sizes: list[float]


def _section(config: ConfigDict, name: str) -> _Section:
    kind = from_config.registry_name(config, name)
    norm = "l2" if kind in _MINIMISE_L2 else "linf"
    norm = config.attacks[name].get("norm", norm)
    if norm not in NORMS:
        raise unknown_name("norm of an attack", norm, NORMS)
    size, more = (config[setting] for setting in NORMS[norm])
    return _Section(kind, norm, size, sorted({size, *more}))


def check(config: ConfigDict, dataset: Dataset) -> None:
    """See `Method`."""
    advgan.check(config, dataset)
    other = _surrogate_config(config)
    target_model.check(other, dataset)
    if target_models.describe(other) == target_models.describe(config):
        raise ValueError(
            "`surrogate` describes the target model itself; give it another seed or "
            "another target_model."
        )
    check_attacks(config)


def check_attacks(config: ConfigDict) -> None:
    """Raise `ValueError` or `TypeError` for wrong `names`, `attacks` or targets."""
    if not config.names:
        raise ValueError("`names` must name at least one attack, got none.")
    for name in config.names:
        if name not in config.attacks:
            raise unknown_name("attack", name, config.attacks)
        kind = from_config.registry_name(config, name)
        if kind == "advgan" and len(config.attacks[name]):
            raise ValueError(
                f"A generator has no hyper-parameters of its own, got "
                f"{sorted(config.attacks[name])}; its training has, see `generator`."
            )
        # `len` takes the place of the networks: only names are checked here.
        networks = {"advgan": {"generator": len}, "transfer": {"surrogate_fn": len}}
        from_config.bound_attack(config, name, **networks.get(kind, {}))
        for size in _section(config, name).sizes:
            check_at_least("epsilon", size, 0)
    if config.random_targets and config.target_class is not None:
        raise ValueError(
            "`random_targets` and `target_class` exclude each other; set one."
        )
    used = {from_config.registry_name(config, name) for name in config.names}
    if "ilcm" in used and (config.random_targets or config.target_class is not None):
        raise ValueError("`ilcm` is never targeted; remove it from `names`.")
    if "advgan" in used and config.random_targets:
        raise ValueError(
            "A generator is trained for one class and cannot follow `random_targets`; "
            "remove `advgan` from `names`, or set `target_class` instead."
        )


def run(run: Run) -> list[dict[str, Any]]:
    """Return a row for each attack, and one for all attacks together in each norm."""
    logits_fn, test = target_model.trained_logits_fn(run), test_images(run)
    sections = {name: _section(run.config, name) for name in run.config.names}
    measured = {name: evaluate_section(run, logits_fn, test, name) for name in sections}
    rows = [row(run, name, by_size) for name, by_size in measured.items()]
    for norm in NORMS:
        alike = {n: found for n, found in measured.items() if sections[n].norm == norm}
        rows += _compare(run, alike) if alike else []
    lines = {}
    for name, by_size in measured.items():
        found = by_size.get(None) or by_size[sections[name].size]
        examples = np.asarray(found.examples)
        shown = slice(len(examples))
        lines[name] = (examples, found.adversarial_predictions[shown])
    clean = (test.images[shown], test.labels[shown], found.clean_predictions[shown])
    run.save_figure("adversarial", comparison_grid(*clean, lines))
    return rows


def evaluate_section(run: Run, logits_fn: LogitsFn, test: Split, name: str) -> BySize:
    """Evaluate the attack of a section at all its sizes, or load its evaluations."""
    config, (kind, *_, sizes) = run.config, _section(run.config, name)
    depends_on = {
        "target_model": target_models.describe(config),
        "sizes": sizes,
        **from_config.select(config, "seed", "target_class", "random_targets"),
        **from_config.select(config, f"attacks.{name}", "evaluation"),
    }
    other = _surrogate_config(config) if kind == "transfer" else config
    if kind == "advgan":
        depends_on["generator"] = gans.describe(config, run.dataset)
    if kind == "transfer":
        depends_on["surrogate"] = target_models.describe(other)

    def _make() -> dict[float | None, Evaluation]:
        trained = {}
        if kind == "transfer":
            surrogate_fn = target_model.trained_logits_fn(run._replace(config=other))
            trained = {"surrogate_fn": surrogate_fn}
        attack = (
            advgan.trained_generator(run, logits_fn)
            if kind == "advgan"
            else from_config.bound_attack(config, name, **trained)
        )
        found = evaluate_many(
            logits_fn,
            {name: attack},
            test.images,
            test.labels,
            epsilons=sizes,
            target_labels=target_labels(config, test, run.dataset.num_classes),
            key=jax.random.key(config.seed + 2),
            **run.evaluation_options,
        )
        return {size: evaluation for (_, size), evaluation in found.items()}

    return run.store.get(f"evaluations/{name}", depends_on, _make, store.EVALUATIONS)


def _surrogate_config(config: ConfigDict) -> ConfigDict:
    """Return the configuration with the surrogate in place of the target model."""
    other, own = config.copy_and_resolve_references(), config.surrogate
    if own.target_model is not None:
        other.target_model = own.target_model
    other.seed = config.seed + 1 if own.seed is None else own.seed
    return other


def target_labels(
    config: ConfigDict, test: Split, num_classes: int
) -> np.ndarray | None:
    """Return wanted classes, int `[N]`, maybe random ones; None for untargeted."""
    wanted = config.target_class
    if not config.random_targets:
        return None if wanted is None else np.full_like(test.labels, wanted)
    generator = np.random.default_rng(config.seed)
    away = generator.integers(1, num_classes, len(test), test.labels.dtype)
    return (test.labels + away) % num_classes


def row(run: Run, name: str, by_size: BySize) -> dict[str, Any]:
    """Return the row of `results.json` for the evaluations of a section."""
    kind, norm, size, _ = _section(run.config, name)
    norm, size = (None, None) if None in by_size else (norm, size)
    threat_model = _THREAT_MODELS.get(kind, "white-box")
    fields = {"attack": kind, "threat_model": threat_model, "epsilon": size}
    return attack_row(run, by_size[size], norm=norm, **fields)


def _compare(run: Run, measured: Mapping[str, BySize]) -> list[dict[str, Any]]:
    """Draw the curves of one norm; return the row of all its attacks together."""
    config, (first, *_) = run.config, measured
    _, norm, row_size, sizes = _section(config, first)
    curves = {
        name: [
            by_size[size] if size in by_size else within(by_size[None], size, norm)
            for size in sizes
        ]
        for name, by_size in measured.items()
    }
    rows, clean = [], curves[first][0].clean_accuracy
    if len(curves) > 1:
        columns = zip(*curves.values(), strict=True)
        curves["ensemble"] = [worst_case_evaluation(column) for column in columns]
        found = curves["ensemble"][sizes.index(row_size)]
        fields = {"attack": "ensemble", "threat_model": "white-box", "norm": norm}
        rows = [attack_row(run, found, epsilon=row_size, **fields)]
    points = {}
    for name, curve in curves.items():
        accuracies = [clean, *(evaluation.robust_accuracy for evaluation in curve)]
        points[name] = list(zip([0.0, *sizes], accuracies, strict=True))
    title = f"{config.dataset}, model {config.target_model}"
    figure = robustness_curve(points, norm=norm, title=title)
    run.save_figure(f"robustness-{norm}", figure)
    return rows
