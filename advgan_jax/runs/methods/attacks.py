"""Compare attacks on one target model: rows, robustness curves and pictures.

Each attack has a section of `config.attacks` with its hyper-parameters.
"""

import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from advgan_jax.attacks import QUERY_ATTACKS, trace_attack
from advgan_jax.checks import unknown_name
from advgan_jax.data import Dataset, Split
from advgan_jax.evaluation import (
    Evaluation,
    autoattack,
    evaluate_many,
    robustness_curves,
)
from advgan_jax.reporting import comparison_grid, robustness_curve, write_json
from advgan_jax.reporting.formats import EVALUATIONS
from advgan_jax.runs import from_config
from advgan_jax.runs.from_config import gans, target_models
from advgan_jax.runs.methods import advgan, target_model
from advgan_jax.runs.run import Run, attack_row, run_fields, test_images
from advgan_jax.types import LogitsFn

# The settings of the sizes of rows and curves, by norm.
NORMS = {"linf": ("epsilon", "epsilons"), "l2": ("epsilon_l2", "epsilons_l2")}
# Threat models by the registry's names; those of all others are white boxes.
_THREAT_MODELS = {
    "advgan": "semi-white-box",
    "transfer": "transfer",
    **dict.fromkeys(QUERY_ATTACKS, "black-box"),
}
_MINIMISE_L2 = ("carlini_wagner_l2", "ddn", "deepfool", "ead", "fmn", "lbfgs")

# Evaluations by size, by None for an attack that minimises the distance, or by name
# after each attack of AutoAttack.
BySize = Mapping[float | str | None, Evaluation]


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
    size, sizes = _sizes(config, norm)
    return _Section(kind, norm, size, [size] if kind == "autoattack" else sizes)


def _sizes(config: ConfigDict, norm: str) -> tuple[float, list[float]]:
    """Return the size of the rows in a norm, and all sizes in order."""
    size, more = (config[setting] for setting in NORMS[norm])
    return size, sorted({size, *more})


def check(config: ConfigDict, dataset: Dataset) -> None:
    """See `Method`."""
    advgan.check(config, dataset)
    check_attacks(config, dataset)
    kinds = {from_config.registry_name(config, name) for name in config.names}
    direct = sorted(kinds - {"transfer", *QUERY_ATTACKS})
    if direct:
        target_model.check_gradients(config, dataset, f"`{direct[0]}`")
    if "transfer" not in kinds and target_model.is_imported(config):
        return  # none that could be trained like the target model
    other = _surrogate_config(config)
    target_model.check(other, dataset)
    if target_models.describe(other) == target_models.describe(config):
        raise ValueError(
            "`surrogate` describes the target model itself; give it another seed, or "
            "another `target_model` such as 'small', as an imported model needs."
        )


def check_attacks(config: ConfigDict, dataset: Dataset) -> None:
    """Raise `ValueError` or `TypeError` for wrong `names`, `attacks` or targets."""
    for name in config.names:
        if name not in config.attacks:
            raise unknown_name("attack", name, config.attacks)
        if config.attacks[name] and from_config.registry_name(config, name) == "advgan":
            raise ValueError(
                f"A generator has no hyper-parameters of its own, got "
                f"{sorted(config.attacks[name])}; its training has, see `generator`."
            )
    shape, num_classes = dataset.train.image_shape, dataset.num_classes
    targeted = from_config.check_targets(config, num_classes)
    sections = {name: _section(config, name) for name in config.names}
    used = {section.kind for section in sections.values()}
    never = used & {"apgd_targeted", "autoattack", "fab_targeted", "ilcm"}
    if never and targeted:
        first = min(never)
        raise ValueError(f"`{first}` is never targeted; remove it from `names`.")
    if "advgan" in used and config.random_targets:
        raise ValueError(
            "A generator is trained for one class and cannot follow `random_targets`; "
            "remove `advgan` from `names`, or set `target_class` instead."
        )
    if "autoattack" in used and config.evaluation.levels is not None:
        raise ValueError("AutoAttack rounds no images; omit `evaluation.levels`.")
    for name, (kind, *_, sizes) in sections.items():
        if kind not in ("advgan", "autoattack"):
            # `trace_attack` replaces `len` by a model.
            known = {"surrogate_fn": len} if kind == "transfer" else {}
            attack = from_config.bound_attack(config, name, **known)
            own = {"epsilon": sizes[0]} if "epsilon" in attack.known else {}
            trace_attack(attack, shape, num_classes, targeted=targeted, **own)


def run(run: Run) -> list[dict[str, Any]]:
    """Return a row for each attack, and one for all attacks together in each norm."""
    logits_fn, test = target_model.trained_logits_fn(run), test_images(run)
    sections = {name: _section(run.config, name) for name in run.config.names}
    measured = {name: evaluate_section(run, logits_fn, test, name) for name in sections}
    found = [row for n, by_size in measured.items() for row in rows(run, n, by_size)]
    for norm in NORMS:
        alike = {n: sizes for n, sizes in measured.items() if sections[n].norm == norm}
        found += _compare(run, alike, norm) if alike else []
    lines = {}
    for name, by_size in measured.items():
        one = by_size.get(None) or by_size[sections[name].size]
        examples = np.asarray(one.examples)
        shown = slice(len(examples))
        lines[name] = (examples, one.adversarial_predictions[shown])
    clean = (test.images[shown], test.labels[shown], one.clean_predictions[shown])
    run.save_figure("adversarial", comparison_grid(*clean, lines))
    return found


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
    if kind == "autoattack":
        path = run.store.folder(f"evaluations/{name}", depends_on, ".npz")
        return _autoattack(run, logits_fn, test, name, path)

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
            **{**run.evaluation_options, "keep": config.evaluation.grid_images},
        )
        return {size: evaluation for (_, size), evaluation in found.items()}

    return run.store.get(f"evaluations/{name}", depends_on, _make, EVALUATIONS)


def _surrogate_config(config: ConfigDict) -> ConfigDict:
    """Return the configuration with the surrogate in place of the target model."""
    other, own = config.copy_and_resolve_references(), config.surrogate
    if own.target_model is not None:
        other.target_model = own.target_model
        other.update({"target_weights": None} if "target_weights" in other else {})
    other.seed = own.seed
    if own.seed is None:
        other.seed = from_config.later_seed(config, 1)
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


def rows(run: Run, name: str, by_size: BySize) -> list[dict[str, Any]]:
    """Return the rows of `results.json` of a section, one but for AutoAttack's."""
    kind, norm, size, _ = _section(run.config, name)
    norm, size = (None, None) if None in by_size else (norm, size)
    threat_model = _THREAT_MODELS.get(kind, "white-box")
    fields = {"threat_model": threat_model, "epsilon": size, "norm": norm}
    # Sections of AutoAttack differ in more than the row says.
    label = name if name.startswith(kind) and kind == "autoattack" else kind
    parts = [(f"{label}:{p}", e) for p, e in by_size.items() if isinstance(p, str)]
    found = [(label, by_size[size]), *parts]
    return [attack_row(run, e, attack=attack, **fields) for attack, e in found]


def _autoattack(
    run: Run, logits_fn: LogitsFn, test: Split, name: str, path: pathlib.Path
) -> BySize:
    """Evaluate AutoAttack, resumed from a file; write the entry of a leaderboard."""
    config, section = run.config, run.config.attacks[name]
    result = autoattack(
        *(logits_fn, test.images, test.labels),
        norm=section.norm,
        epsilon=_section(config, name).size,
        key=jax.random.key(config.seed + 2),
        version=section.version,
        batch_size=config.evaluation.batch_size,
        state_path=path,
        keep=config.evaluation.grid_images,
        progress=True,
    )
    entry = result.entry(name=run_fields(run)["target_model"], dataset=config.dataset)
    write_json(run.workdir / "evaluations" / f"{name}.json", entry)
    return {result.epsilon: result.evaluation, **result.after()}


def _compare(
    run: Run, measured: Mapping[str, BySize], norm: str
) -> list[dict[str, Any]]:
    """Draw the curves of one norm; return the row of all its attacks together."""
    config, rows, (size, sizes) = run.config, [], _sizes(run.config, norm)
    curves = robustness_curves(measured, sizes, norm=norm)
    if "ensemble" in curves:
        fields = {"attack": "ensemble", "threat_model": "white-box", "norm": norm}
        rows = [attack_row(run, curves["ensemble"][size], epsilon=size, **fields)]
    points = {}
    for name, curve in curves.items():
        accuracies = [(epsilon, one.robust_accuracy) for epsilon, one in curve.items()]
        points[name] = [(0.0, curve[size].clean_accuracy), *accuracies]
    title = f"{config.dataset}, model {config.target_model}"
    figure = robustness_curve(points, norm=norm, title=title)
    run.save_figure(f"robustness-{norm}", figure)
    return rows
