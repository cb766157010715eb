"""Measure an entry of a table: a number, and the rows of `results.json` behind it."""

import dataclasses
from collections.abc import Callable
from typing import Any, cast

import jax
import numpy as np

from advgan_jax import analysis
from advgan_jax.data import to_float
from advgan_jax.evaluation import (
    Evaluation,
    add_noise,
    check_submission,
    evaluate,
    evaluate_adversarial,
    make_clean_row,
    make_row,
    mean_distortion,
    paired_test,
    rescale_perturbations,
    takes_epsilon,
    transfer_matrix,
)
from advgan_jax.reporting import bound_chart, direction_grid, save_figure
from advgan_jax.runs.artifacts import GENERATORS, Artifacts, GeneratorArtifacts
from advgan_jax.runs.papers.rows import Entry, Record, TargetModel
from advgan_jax.runs.papers.szegedy_models import (
    DEPENDS_ON,
    SzegedyArtifacts,
    published_title,
)
from advgan_jax.runs.run import run_fields

# The value, which may be several lines, and rows of `results.json`.
Measured = tuple[Any, list[dict[str, Any]]]

# The attack's name in `results.json` where it is not its section's: two sections may
# configure one attack with different numbers.
_NAMES = {"dynamic": "advgan", "static": "advgan", "fitted": "advgan-fitted"}
# Noise and rescaled perturbations are not clipped; this only has to contain them.
_WIDE = (-100.0, 100.0)
_SHOWN = 6  # directions of each kind in the figure of units


def measure_entry(artifacts: Artifacts, entry: Entry) -> Measured:
    """Make what an entry needs, and measure it."""
    return METRICS[entry.metric](artifacts, entry)


def _clean(artifacts: Artifacts, entry: Entry) -> Measured:
    accuracy = artifacts.clean(entry.on, entry.images).clean_accuracy
    value = 1 - accuracy if entry.metric == "error" else accuracy
    return value, _clean_rows(artifacts, entry)


def _clean_rows(artifacts: Artifacts, entry: Entry) -> list[dict[str, Any]]:
    fields: Any = run_fields(artifacts.run) | {"target_model": entry.on.title}
    return [make_clean_row(artifacts.clean(entry.on, "test"), **fields)]


def _attack_rows(
    artifacts: Artifacts, entry: Entry, evaluation: Evaluation, epsilon: float | None
) -> list[dict[str, Any]]:
    name: Any = entry.attack
    if entry.through != (entry.on,):  # also a generator for another model
        threat_model = "transfer"
    elif GENERATORS.get(name) == "blackbox":
        threat_model = f"black-box-{name}"
    elif name in GENERATORS and name != "fitted":
        threat_model = "semi-white-box"
    else:  # a fitted generator needs the model for each new image, too
        threat_model = "white-box"
    fields: Any = run_fields(artifacts.run) | {"target_model": entry.on.title}
    row = make_row(
        evaluation,
        **fields,
        attack=_NAMES.get(name, name),
        threat_model=threat_model,
        epsilon=epsilon,
        norm=None if epsilon is None else "linf",
        **artifacts.counts(name, entry.through),
    )
    return [row]


def _attacked(artifacts: GeneratorArtifacts, entry: Entry) -> Measured:
    """Measure accuracy, or success over the images that are right without attack."""
    config, test = artifacts.run.config, artifacts.images(entry.images)
    name: Any = entry.attack
    moved = artifacts.adversarial(name, entry.through, entry.images)
    if entry.images == "challenge":
        check_submission(moved, test.images, epsilon=config.epsilon)
    shown = (artifacts.logits_fn(entry.on), test.images, moved, test.labels)
    batch_size = config.evaluation.batch_size
    evaluation = evaluate_adversarial(*shown, batch_size=batch_size, keep=len(moved))
    is_success = entry.metric == "success"
    value = evaluation.success().rate if is_success else evaluation.robust_accuracy
    return value, _attack_rows(artifacts, entry, evaluation, config.epsilon)


def _seconds(artifacts: GeneratorArtifacts, entry: Entry) -> Measured:
    """Time an attack for 1,000 images, without compilation."""
    config, test = artifacts.run.config, artifacts.run.dataset.test
    test = test.take(min(config.num_timed, len(test)))
    wanted = None
    if entry.attack == "aigan":  # has no untargeted form
        wanted = (test.labels + 1) % artifacts.run.dataset.num_classes
    batch_size, name = config.evaluation.batch_size, cast(str, entry.attack)
    shared: Any = {"target_labels": wanted, "batch_size": batch_size}
    attack = artifacts.attack(name, entry.through)
    evaluation = timed = evaluate(
        artifacts.surrogate(entry.through),
        attack,
        test.images,
        test.labels,
        key=jax.random.key(config.seed + 2),
        keep=len(test),
        progress=True,
        **shared,
    )
    if entry.through != (entry.on,):  # the transfer is not timed
        shown: Any = (test.images, timed.examples, test.labels)
        logits_fn = artifacts.logits_fn(entry.on)
        evaluation = evaluate_adversarial(logits_fn, *shown, **shared)
        evaluation = dataclasses.replace(evaluation, seconds=timed.seconds)
    # Nothing is projected here: an attack that minimises the distance has no bound.
    epsilon = config.epsilon if takes_epsilon(attack) else None
    seconds = 1000 * cast(float, timed.seconds) / timed.num_images
    return seconds, _attack_rows(artifacts, entry, evaluation, epsilon)


def _compared(artifacts: GeneratorArtifacts, entry: Entry) -> Measured:
    """Return the success of a compared method: the classes' mean or best."""
    method, attack = artifacts.run.config.method, entry.attack
    rows = [r for r in artifacts.compared(entry.on) if r["attack"] == attack]
    # The row of all classes together names none; a class may have no image to count.
    of_classes = [row for row in rows if row["target_class"] is not None]
    rates = [row["attack_success_rate"] for row in of_classes]
    combine = np.mean if entry.metric == "success_mean" else np.max
    value = float(combine([rate for rate in rates if rate is not None]))
    fields = {"experiment": method, "target_model": entry.on.title}
    return value, [row | fields for row in rows]


_OF_PERTURBED: dict[str, Callable[[Evaluation], float]] = {
    "num_images": lambda evaluation: evaluation.num_images,
    "accuracy_under_attack": lambda evaluation: evaluation.robust_accuracy,
    "distortion": mean_distortion,
    "distortion_of_all": lambda evaluation: float(evaluation.rms.mean()),
}


def _perturbed(artifacts: SzegedyArtifacts, entry: Entry) -> Measured:
    """Measure the studies' attack on a model."""
    evaluation = artifacts.attacked(entry.on, entry.images)
    value = _OF_PERTURBED[entry.metric](evaluation)
    if entry.metric == "accuracy_under_attack":
        return value, _attack_rows(artifacts, entry, evaluation, None)
    return value, _clean_rows(artifacts, entry)


def _shown(artifacts: SzegedyArtifacts, entry: Entry) -> Measured:
    """Measure the error on images made for another model, or with noise."""
    clean = artifacts.images(entry.images)
    shown, size = clean.images, entry.size
    if entry.through:
        (other,) = entry.through
        shown = cast(np.ndarray, artifacts.attacked(other, entry.images).examples)
        if size is not None:
            shown = rescale_perturbations(clean.images, shown, size)
    elif size is not None:
        shown = add_noise(shown, size, seed=artifacts.run.config.seed)
    models = {entry.on.title: artifacts.logits_fn(entry.on)}
    rates = transfer_matrix(models, {"shown": shown}, clean.labels, bounds=_WIDE)
    return float(rates[0, 0]), _clean_rows(artifacts, entry)


def _typical_noise(artifacts: SzegedyArtifacts, entry: Entry) -> Measured:
    """Measure errors under noise of the mean distortion of `through`.

    The size has two decimals. Without any successful attack there is no line.
    """
    found = [artifacts.attacked(model, entry.images) for model in entry.through]
    known = [size for size in map(mean_distortion, found) if np.isfinite(size)]
    if not known:
        return [], []
    mean = float(np.mean(known))
    size = round(mean, 2) or float(f"{mean:.1g}")
    line: dict[str, Any] = {"made for": f"Gaussian {size:g}"}
    for model in entry.through:
        noisy = Entry("shown_error", model, images=entry.images, size=size)
        line[published_title(artifacts.run.config, model)], _ = _shown(artifacts, noisy)
    return [line | {"av. distortion": size}], []


def _expansions(artifacts: SzegedyArtifacts, entry: Entry) -> Measured:
    """Measure each layer's bound and expansion, and last those of the whole model."""
    module, variables = artifacts.trained(entry.on)
    config, images = artifacts.run.config, artifacts.images(entry.images).images
    moved = cast(np.ndarray, artifacts.attacked(entry.on, entry.images).examples)
    bounds = analysis.upper_bounds(module, variables, images.shape[1:])
    measured = analysis.measured_expansions(module, variables, images, moved)
    lines: list[Record] = analysis.summarize_expansions(bounds, measured)
    figure = bound_chart(
        [line["layer"] for line in lines],
        [line["upper bound"] for line in lines],
        [measured[line["layer"]] for line in lines],
        title=f"{published_title(config, entry.on)}, {config.dataset}",
    )
    name = f"spectral-{entry.on.title}.png"
    save_figure(figure, artifacts.run.workdir / "figures" / name)
    return lines, _clean_rows(artifacts, entry)


def _directions(artifacts: SzegedyArtifacts, entry: Entry) -> Measured:
    """Compare units with random directions before each layer but the first, in bits."""
    module, variables = artifacts.trained(entry.on)
    config, dataset = artifacts.run.config, artifacts.run.dataset
    images, lines = to_float(dataset.test.images), []
    # A layer's inputs are the units of the layer before it.
    _, *after = analysis.layer_values(module, variables, images[:1])
    for layer in after:
        found = analysis.compare_directions(
            analysis.hidden_features(module, variables, images, layer),
            dataset.test.labels,
            num_classes=dataset.num_classes,
            seed=config.seed,
            **{name: config.units[name] for name in DEPENDS_ON["units"]},
        )
        lines.append({"units before": layer, **found.summary()})
        shown = {
            "single units": found.unit_images[:_SHOWN],
            "random directions": found.random_images[:_SHOWN],
        }
        title = f"{published_title(config, entry.on)}, units before {layer}"
        grid = direction_grid(dataset.test.images, shown, title=title)
        name = f"units-{entry.on.title}-{layer.replace('/', '_')}.png"
        save_figure(grid, artifacts.run.workdir / "figures" / name)
    return lines, _clean_rows(artifacts, entry)


def _repeated(artifacts: SzegedyArtifacts, entry: Entry) -> Measured:
    """Measure a layer-wise training of several seeds, beside others, in one line."""
    config = artifacts.run.config
    seeds = range(config.layerwise.num_seeds)

    def _wrong(model: TargetModel, images: str) -> np.ndarray:
        found = [artifacts.clean(model._replace(seed=s), images) for s in seeds]
        return np.stack([one.clean_predictions != one.labels for one in found])

    wrong = _wrong(entry.on, entry.images)
    errors = wrong.mean(axis=1)
    line = {
        "training error": float(_wrong(entry.on, "trained on").mean()),
        f"{entry.images} error": float(errors.mean()),
        "standard deviation": float(errors.std(ddof=1)) if len(errors) > 1 else None,
        "seeds": len(errors),
    }
    for other in entry.through:
        p = paired_test(wrong, _wrong(other, entry.images), seed=config.seed)
        line[f"p, {other.variant}"] = p
    if entry.images == "validation":  # settings are chosen without the test images
        return [line], []
    each = (entry._replace(on=entry.on._replace(seed=seed)) for seed in seeds)
    return [line], [row for one in each for row in _clean_rows(artifacts, one)]


SHARES = {
    *("clean_accuracy", "robust_accuracy", "success", "success_mean", "success_best"),
    *("error", "accuracy_under_attack", "shown_error"),
}
METRICS: dict[str, Callable[[Any, Entry], Measured]] = {
    **dict.fromkeys(("clean_accuracy", "error"), _clean),
    **dict.fromkeys(("robust_accuracy", "success"), _attacked),
    **dict.fromkeys(("success_mean", "success_best"), _compared),
    "seconds": _seconds,
    **dict.fromkeys(_OF_PERTURBED, _perturbed),
    "shown_error": _shown,
    "typical_noise": _typical_noise,
    "expansions": _expansions,
    "directions": _directions,
    "repeated": _repeated,
}
