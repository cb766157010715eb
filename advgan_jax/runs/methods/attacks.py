"""Compare attacks on one target model: rows, robustness curves and pictures.

Each attack has a section of `config.attacks` with its hyper-parameters.
"""

from collections.abc import Mapping
from typing import Any

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
from advgan_jax.reporting import comparison_grid, robustness_curve, save_figure
from advgan_jax.runs import from_config, store
from advgan_jax.runs.from_config import gans, target_models
from advgan_jax.runs.methods import advgan, target_model
from advgan_jax.runs.run import Run, attack_row, test_images, wanted_labels
from advgan_jax.types import Attack, LogitsFn

NORMS = ("linf", "l2")
# Attacks for which the run trains a network, by the registry's names.
_THREAT_MODELS = {"advgan": "semi-white-box", "transfer": "transfer"}

# Evaluations by size, or by None for an attack that minimises the distance.
BySize = Mapping[float | None, Evaluation]


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
        kind, norm = from_config.registry_name(config, name), _norm(config, name)
        if kind == "advgan" and len(config.attacks[name]):
            raise ValueError(
                f"A generator has no hyper-parameters of its own, got "
                f"{sorted(config.attacks[name])}; its training has, see `generator`."
            )
        # `len` takes the place of the networks: only names are checked here.
        networks = {"advgan": {"generator": len}, "transfer": {"surrogate_fn": len}}
        from_config.bound_attack(config, name, **networks.get(kind, {}))
        if norm not in NORMS:
            raise unknown_name("norm of an attack", norm, NORMS)
        for size in _sizes(config, norm):
            check_at_least("epsilon", size, 0)
    _check_targets(config)


def _check_targets(config: ConfigDict) -> None:
    if config.random_targets and config.target_class is not None:
        raise ValueError(
            "`random_targets` and `target_class` exclude each other; set one."
        )
    used = {from_config.registry_name(config, name) for name in config.names}
    targeted = config.random_targets or config.target_class is not None
    if targeted and "ilcm" in used:
        raise ValueError("`ilcm` is never targeted; remove it from `names`.")
    if config.random_targets and "advgan" in used:
        raise ValueError(
            "A generator is trained for one class and cannot follow `random_targets`; "
            "remove `advgan` from `names`, or set `target_class` instead."
        )


def run(run: Run) -> list[dict[str, Any]]:
    """Train what the attacks need, run them and compare them.

    Return a row for each attack, and one for all attacks together in each norm.
    """
    logits_fn, test = target_model.trained_logits_fn(run), test_images(run)
    measured = {
        name: evaluate_section(run, logits_fn, test, name) for name in run.config.names
    }
    rows = [row(run, name, by_size) for name, by_size in measured.items()]
    for norm in NORMS:
        rows += _compare(run, measured, norm)
    _draw_examples(run, test, measured)
    return rows


def evaluate_section(run: Run, logits_fn: LogitsFn, test: Split, name: str) -> BySize:
    """Evaluate the attack of a section at all its sizes, or load its evaluations."""
    config, sizes = run.config, _sizes(run.config, _norm(run.config, name))
    depends_on = {
        "target_model": target_models.describe(config),
        "sizes": sizes,
        **from_config.select(config, "seed", "target_class", "random_targets"),
        **from_config.select(config, f"attacks.{name}", "evaluation"),
    }
    kind = from_config.registry_name(config, name)
    if kind == "advgan":
        depends_on["generator"] = gans.describe(config, run.dataset)
    if kind == "transfer":
        depends_on["surrogate"] = target_models.describe(_surrogate_config(config))

    def _make() -> dict[float | None, Evaluation]:
        found = evaluate_many(
            logits_fn,
            {name: _attack(run, logits_fn, name)},
            test.images,
            test.labels,
            epsilons=sizes,
            target_labels=target_labels(config, test, run.dataset.num_classes),
            batch_size=config.evaluation.batch_size,
            key=jax.random.key(config.seed + 2),
            keep=config.evaluation.grid_images,
            progress=True,
        )
        return {size: evaluation for (_, size), evaluation in found.items()}

    return run.store.get(f"evaluations/{name}", depends_on, _make, store.EVALUATIONS)


def _attack(run: Run, logits_fn: LogitsFn, name: str) -> Attack:
    kind = from_config.registry_name(run.config, name)
    if kind == "advgan":
        return advgan.trained_generator(run, logits_fn)
    trained = {}
    if kind == "transfer":
        other = run._replace(config=_surrogate_config(run.config))
        trained = {"surrogate_fn": target_model.trained_logits_fn(other)}
    return from_config.bound_attack(run.config, name, **trained)


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
    """Return the wanted classes, int `[N]`: one for all images, or random wrong ones.

    Return None for an untargeted attack.
    """
    if not config.random_targets:
        return wanted_labels(config, test.labels)
    generator = np.random.default_rng(config.seed)
    away = generator.integers(1, num_classes, len(test), test.labels.dtype)
    return (test.labels + away) % num_classes


def _norm(config: ConfigDict, name: str) -> str:
    """Return the norm that an attack bounds or minimises."""
    if "norm" in config.attacks[name]:
        return config.attacks[name].norm
    kind = from_config.registry_name(config, name)
    return "l2" if kind in ("carlini_wagner_l2", "deepfool", "lbfgs") else "linf"


def _row_size(config: ConfigDict, norm: str) -> float:
    return config.epsilon if norm == "linf" else config.epsilon_l2


def _size_of_row(run: Run, name: str, by_size: BySize) -> float | None:
    if None in by_size:
        return None
    return _row_size(run.config, _norm(run.config, name))


def _sizes(config: ConfigDict, norm: str) -> list[float]:
    """Return the perturbation sizes of the rows and the curve, in order."""
    more = config.epsilons if norm == "linf" else config.epsilons_l2
    return sorted({_row_size(config, norm), *more})


def row(run: Run, name: str, by_size: BySize) -> dict[str, Any]:
    """Return the row of `results.json` for the evaluations of a section."""
    norm, size = _norm(run.config, name), _size_of_row(run, name, by_size)
    kind = from_config.registry_name(run.config, name)
    return attack_row(
        run,
        by_size[size],
        attack=kind,
        threat_model=_THREAT_MODELS.get(kind, "white-box"),
        epsilon=size,
        norm=None if size is None else norm,
    )


def _compare(
    run: Run, measured: Mapping[str, BySize], norm: str
) -> list[dict[str, Any]]:
    """Draw the curves of one norm; return the row of all its attacks together."""
    config, sizes = run.config, _sizes(run.config, norm)
    curves = {
        name: {
            size: by_size[size]
            if size in by_size
            else within(by_size[None], size, norm)
            for size in sizes
        }
        for name, by_size in measured.items()
        if _norm(config, name) == norm
    }
    if not curves:
        return []
    if len(curves) > 1:
        curves["ensemble"] = {
            size: worst_case_evaluation([curve[size] for curve in curves.values()])
            for size in sizes
        }
    clean = next(iter(curves.values()))[sizes[0]].clean_accuracy
    figure = robustness_curve(
        {
            name: [(0.0, clean), *((s, e.robust_accuracy) for s, e in curve.items())]
            for name, curve in curves.items()
        },
        norm=norm,
        title=f"{config.dataset}, model {config.target_model}",
    )
    save_figure(figure, run.workdir / "figures" / f"robustness-{norm}.png")
    if "ensemble" not in curves:
        return []
    size, fields = _row_size(config, norm), {"threat_model": "white-box", "norm": norm}
    found = curves["ensemble"][size]
    return [attack_row(run, found, attack="ensemble", epsilon=size, **fields)]


def _draw_examples(run: Run, test: Split, measured: Mapping[str, BySize]) -> None:
    """Save a picture with a line of adversarial images for each attack's row."""
    lines = {}
    for name, by_size in measured.items():
        found = by_size[_size_of_row(run, name, by_size)]
        examples = np.asarray(found.examples)
        shown = slice(len(examples))
        lines[name] = (examples, found.adversarial_predictions[shown])
    grid = comparison_grid(
        test.images[shown], test.labels[shown], found.clean_predictions[shown], lines
    )
    save_figure(grid, run.workdir / "figures" / "adversarial.png")
