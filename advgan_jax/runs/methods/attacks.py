"""Many attacks on one target model: a row each, robustness curves and a picture."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from advgan_jax import parallel
from advgan_jax.checks import check_at_least, unknown_name
from advgan_jax.data import Dataset, Split
from advgan_jax.evaluation import (
    Evaluation,
    evaluate_many,
    within,
    worst_case_evaluation,
)
from advgan_jax.reporting import comparison_grid, robustness_curve, save_figure
from advgan_jax.runs import from_config, kept
from advgan_jax.runs.methods import advgan, target_model
from advgan_jax.runs.run import Run, attack_row, test_images
from advgan_jax.types import Attack, LogitsFn

NORMS = ("linf", "l2")
# By the registry's names; these need a network that the run has to train.
_THREAT_MODELS = {"advgan": "semi-white-box", "transfer": "transfer"}


def check(config: ConfigDict, dataset: Dataset) -> None:
    """Refuses a wrong configuration before anything is written."""
    advgan.check(config, dataset)
    other = _surrogate_config(config)
    target_model.check(other, dataset)
    if from_config.target_model_description(
        other
    ) == from_config.target_model_description(config):
        raise ValueError(
            "`surrogate` describes the target model itself; give it another seed or "
            "another target_model."
        )
    check_attacks(config)


def check_attacks(config: ConfigDict) -> None:
    """Refuses `names` and `attacks` that cannot be measured.

    Args:
      config: reads `names`, `attacks`, the sizes, `random_targets`, `target_class`.

    Raises:
      ValueError: for an unknown name, a negative size, or aims that exclude each other.
      TypeError: for an unknown hyper-parameter.
    """
    if not config.names:
        raise ValueError("`names` must name at least one attack, got none.")
    for name in config.names:
        if name not in config.attacks:
            raise unknown_name("attack", name, config.attacks)
        _check_attack(config, name)
        if _norm(config, name) not in NORMS:
            raise unknown_name("norm of an attack", _norm(config, name), NORMS)
    for norm in {_norm(config, name) for name in config.names}:
        for size in _sizes(config, norm):
            check_at_least("epsilon", size, 0)
    _check_aim(config)


def _check_attack(config: ConfigDict, name: str) -> None:
    kind = from_config.registry_name(config, name)
    if kind == "advgan" and len(config.attacks[name]):
        raise ValueError(
            f"A generator has no hyper-parameters of its own, got "
            f"{sorted(config.attacks[name])}; its training has, see `generator`."
        )
    # In the place of the networks; only names are looked at here.
    networks = {"advgan": {"generator": len}, "transfer": {"surrogate_fn": len}}
    from_config.bound_attack(config, name, **networks.get(kind, {}))


def _check_aim(config: ConfigDict) -> None:
    if config.random_targets and config.target_class is not None:
        raise ValueError(
            "`random_targets` and `target_class` exclude each other; set one."
        )
    used = {from_config.registry_name(config, name) for name in config.names}
    targeted = config.random_targets or config.target_class is not None
    if targeted and "ilcm" in used:
        raise ValueError("`ilcm` is never targeted; leave it out of `names`.")
    if config.random_targets and "advgan" in used:
        raise ValueError(
            "A generator is trained for one class and cannot follow `random_targets`; "
            "leave `advgan` out of `names`, or set `target_class` instead."
        )


def run(run: Run) -> list[dict[str, Any]]:
    """Trains what the attacks need, runs them, and compares."""
    logits_fn = target_model.trained_logits_fn(run)
    test = test_images(run)
    measured = {name: measure(run, logits_fn, test, name) for name in run.config.names}
    rows = [row(run, name, measured[name]) for name in run.config.names]
    for norm in NORMS:
        rows += _compare(run, measured, norm)
    _draw_examples(run, test, measured)
    return rows


def measure(
    run: Run, logits_fn: LogitsFn, test: Split, name: str
) -> dict[float | None, Evaluation]:
    """One attack at all its sizes, unless it was measured before an interruption.

    Args:
      run: the run; its workdir keeps what is measured.
      logits_fn: the target model.
      test: the images.
      name: a section of `config.attacks`.

    Returns:
      Evaluations by size, None for an attack that looks for the least.
    """
    config = run.config
    protocol = from_config.fingerprint(from_config.plain(config)["evaluation"])
    path = run.workdir / "evaluations" / f"{name}-{protocol}.npz"
    if parallel.agreed(path.exists()):
        return kept.load(path)
    attack = _attack(run, logits_fn, name)
    found = evaluate_many(
        logits_fn,
        {name: attack},
        test.images,
        test.labels,
        epsilons=_sizes(config, _norm(config, name)),
        target_labels=target_labels(config, test, run.dataset.num_classes),
        batch_size=config.evaluation.batch_size,
        key=jax.random.key(config.seed + 2),
        keep=config.evaluation.grid_images,
        progress=True,
    )
    by_size = {size: evaluation for (_, size), evaluation in found.items()}
    kept.save(path, by_size)
    return by_size


def _attack(run: Run, logits_fn: LogitsFn, name: str) -> Attack:
    kind = from_config.registry_name(run.config, name)
    if kind == "advgan":
        return advgan.trained_generator(run, logits_fn)
    if kind == "transfer":
        other = run._replace(config=_surrogate_config(run.config))
        surrogate_fn = target_model.trained_logits_fn(other)
        return from_config.bound_attack(run.config, name, surrogate_fn=surrogate_fn)
    return from_config.bound_attack(run.config, name)


def _surrogate_config(config: ConfigDict) -> ConfigDict:
    """The target's configuration with what the surrogate has of its own."""
    other, own = config.copy_and_resolve_references(), config.surrogate
    if own.target_model is not None:
        other.target_model = own.target_model
    other.seed = config.seed + 1 if own.seed is None else own.seed
    return other


def target_labels(
    config: ConfigDict, test: Split, num_classes: int
) -> np.ndarray | None:
    """The wanted classes: one, a random other one for each image, or none.

    Args:
      config: the run's; reads `target_class`, `random_targets` and `seed`.
      test: the images that are attacked, with their classes.
      num_classes: K.

    Returns:
      int `[N]`, or None for an untargeted attack.
    """
    if config.target_class is not None:
        return np.full_like(test.labels, config.target_class)
    if not config.random_targets:
        return None
    generator = np.random.default_rng(config.seed)
    away = generator.integers(1, num_classes, len(test), test.labels.dtype)
    return (test.labels + away) % num_classes


def _norm(config: ConfigDict, name: str) -> str:
    """In which norm an attack is bounded or (`carlini_wagner_l2`, ...) least."""
    kind = from_config.registry_name(config, name)
    section = config.attacks[name]
    if "norm" in section:
        return section.norm
    return "l2" if kind in ("carlini_wagner_l2", "deepfool", "lbfgs") else "linf"


def _size(config: ConfigDict, norm: str) -> float:
    """The size that the rows are about."""
    return config.epsilon if norm == "linf" else config.epsilon_l2


def _sizes(config: ConfigDict, norm: str) -> list[float]:
    """That size and those of the curve."""
    more = config.epsilons if norm == "linf" else config.epsilons_l2
    return sorted({_size(config, norm), *more})


def _at(by_size: Mapping, size: float, norm: str) -> Evaluation:
    """An attack at one size, whether it takes one or looks for the least."""
    return by_size[size] if size in by_size else within(by_size[None], size, norm)


def row(run: Run, name: str, by_size: Mapping) -> dict[str, Any]:
    """The row of `results.json` of what `measure` found."""
    config, norm = run.config, _norm(run.config, name)
    size = None if None in by_size else _size(config, norm)
    kind = from_config.registry_name(config, name)
    return attack_row(
        run,
        by_size[size],
        attack=kind,
        threat_model=_THREAT_MODELS.get(kind, "white-box"),
        epsilon=size,
        norm=None if size is None else norm,
    )


def _compare(run: Run, measured: Mapping, norm: str) -> list[dict[str, Any]]:
    """The curves of one norm, and the row of all its attacks together."""
    config = run.config
    chosen = {n: m for n, m in measured.items() if _norm(config, n) == norm}
    if not chosen:
        return []
    sizes = _sizes(config, norm)
    curves = {
        name: {size: _at(by_size, size, norm) for size in sizes}
        for name, by_size in chosen.items()
    }
    if len(chosen) > 1:
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
    together = curves["ensemble"][_size(config, norm)]
    return [
        attack_row(
            run,
            together,
            attack="ensemble",
            threat_model="white-box",
            epsilon=_size(config, norm),
            norm=norm,
        )
    ]


def _draw_examples(run: Run, test: Split, measured: Mapping) -> None:
    """A line of adversarial images for each attack, at the size of its row."""
    lines = {}
    for name, by_size in measured.items():
        size = None if None in by_size else _size(run.config, _norm(run.config, name))
        found = by_size[size]
        shown = len(found.examples)
        lines[name] = (found.examples, found.adversarial_predictions[:shown])
    grid = comparison_grid(
        test.images[:shown], test.labels[:shown], found.clean_predictions[:shown], lines
    )
    save_figure(grid, run.workdir / "figures" / "adversarial.png")
