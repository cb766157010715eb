"""AI-GAN from target model to results: two stages, every pair of classes."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from advgan_jax import parallel
from advgan_jax.checkpointing import Checkpoints
from advgan_jax.data import Dataset
from advgan_jax.evaluation import (
    Evaluation,
    evaluate_per_class,
    pool,
    success_by_pair,
)
from advgan_jax.reporting import (
    heatmap,
    read_metrics,
    save_figure,
    target_grids,
    training_curves,
    write_json,
)
from advgan_jax.runs import from_config, kept
from advgan_jax.runs.methods import advgan, target_model
from advgan_jax.runs.run import Run, attack_row, test_images
from advgan_jax.runs.training import fit
from advgan_jax.training import aigan
from advgan_jax.types import Attack, LogitsFn

STAGES = ("stage_one", "stage_two")
_ATTACKS = {"stage_one": "aigan-stage-one", "stage_two": "aigan"}
_MOST_COLUMNS = 10  # classes in the picture of perturbations


def check(config: ConfigDict, dataset: Dataset) -> None:
    """Refuses a wrong configuration before anything is written."""
    target_model.check(config, dataset)
    advgan.check_evaluation(config, dataset)
    from_config.aigan_objective(config, dataset.num_classes)
    from_config.compute_dtype(config.training)
    attacker = from_config.aigan_attacker(config)
    from_config.trace_attack(
        attacker, dataset.train.image_shape, dataset.num_classes, targeted=True
    )
    for stage in STAGES:
        from_config.training_plan(_section(config, config[stage].num_epochs), dataset)
    shape = dataset.train.image_shape
    from_config.aigan_like(config, dataset.num_classes, shape)


def run(run: Run) -> list[dict[str, Any]]:
    """Both stages, then each of their generators towards every class."""
    logits_fn = target_model.trained_logits_fn(run)
    generators = trained_generators(run, logits_fn)
    measured = {
        stage: evaluated(run, logits_fn, attack, range(run.dataset.num_classes), stage)
        for stage, attack in generators.items()
    }
    _write_pairs(run, measured)
    _draw(run, measured)
    return [row for stage in measured for row in _rows(run, stage, measured[stage])]


def trained_generators(run: Run, logits_fn: LogitsFn) -> dict[str, Attack]:
    """The generator after each stage, trained as far as checkpoints do not have it.

    Args:
      run: the run that needs them.
      logits_fn: the target model.

    Returns:
      Attacks by stage; without `stage_one` if that has no epochs.
    """
    config, dataset = run.config, run.dataset
    first_epochs = config.stage_one.num_epochs
    all_epochs = first_epochs + config.stage_two.num_epochs
    sections = [_section(config, number) for number in (first_epochs, all_epochs)]
    num_steps = from_config.training_plan(sections[1], dataset).num_steps
    networks = from_config.aigan_networks(config, dataset.num_classes, num_steps)
    objective = from_config.aigan_objective(config, dataset.num_classes)
    shape, dtype = dataset.train.image_shape, from_config.compute_dtype(config.training)
    shared = {
        "description": {
            "config": from_config.plain(config),
            "image_shape": list(shape),
            "num_classes": dataset.num_classes,
        },
        "frozen": (from_config.mixed_logits_fn(dtype, logits_fn),),
    }
    state = aigan.init_state(networks, jax.random.key(config.seed), shape)
    attacker = from_config.aigan_attacker(config)
    mixed = from_config.mixed_networks(dtype, networks)
    step = aigan.make_first_step(mixed, objective, attacker)
    title = "AI-GAN, stage 1"
    state = fit(run, run.workdir, sections[0], state, step, title=title, **shared)
    found = {}
    if first_epochs:
        switch = from_config.training_plan(sections[0], dataset).num_steps
        at_switch = _keep_first_stage(run, state, switch, shared["description"])
        found["stage_one"] = from_config.bind_aigan(
            at_switch, config, dataset.num_classes
        )
    step = aigan.make_second_step(mixed, objective)
    title = "AI-GAN, stage 2"
    state = fit(run, run.workdir, sections[1], state, step, title=title, **shared)
    found["stage_two"] = from_config.bind_aigan(state, config, dataset.num_classes)
    return found


def _section(config: ConfigDict, num_epochs: int) -> ConfigDict:
    """How to train up to an epoch."""
    section = config.training.copy_and_resolve_references()
    with section.unlocked():
        section.num_epochs = num_epochs
    return section


def _keep_first_stage(
    run: Run, state: Any, switch: int, description: Mapping[str, Any]
) -> Any:
    """The state between the stages, in a folder that no later checkpoint empties."""
    with Checkpoints(run.workdir / "stage_one" / "checkpoints") as checkpoints:
        if int(state.step) == switch:
            # Nobody donates it: stage two goes on from the run's own checkpoint.
            checkpoints.save(switch, state, description)
            return state
        return checkpoints.restore(state)


def evaluated(
    run: Run, logits_fn: LogitsFn, attack: Attack, classes: Sequence[int], name: str
) -> dict[int, Evaluation]:
    """A generator towards some classes, unless it was measured before an interruption.

    Args:
      run: the run that needs it.
      logits_fn: the target model.
      attack: a generator that was trained for these classes.
      classes: the wanted classes.
      name: of the kept file.

    Returns:
      Evaluations by class.
    """
    config, test = run.config, test_images(run)
    protocol = from_config.fingerprint(from_config.plain(config)["evaluation"])
    path = run.workdir / "evaluations" / f"{name}-{protocol}.npz"
    if parallel.agreed(path.exists()):
        return {int(wanted): found for wanted, found in kept.load(path).items()}
    found = evaluate_per_class(
        logits_fn,
        attack,
        test.images,
        test.labels,
        classes,
        batch_size=config.evaluation.batch_size,
        keep=config.evaluation.grid_images,
        progress=True,
    )
    kept.save(path, found)
    return found


def _rows(
    run: Run, stage: str, by_class: Mapping[int, Evaluation]
) -> list[dict[str, Any]]:
    """Of stage two a row for each class, of both stages one of all classes."""
    chosen = list(by_class.values()) if stage == "stage_two" else []
    return [
        attack_row(
            run,
            evaluation,
            attack=_ATTACKS[stage],
            threat_model="semi-white-box",
            epsilon=run.config.epsilon,
            norm="linf",
        )
        for evaluation in [*chosen, pool(list(by_class.values()))]
    ]


def _write_pairs(run: Run, measured: Mapping[str, Mapping[int, Evaluation]]) -> None:
    """Leaves the matrices of success in numbers, and what sums them up."""
    summary = {}
    for stage, by_class in measured.items():
        everything = pool(list(by_class.values()))
        pairs = success_by_pair(everything, run.dataset.num_classes)
        rates = [evaluation.success().rate for evaluation in by_class.values()]
        won = everything.counted() & everything.succeeded
        summary[stage] = {
            "success_by_target": rates,
            "success_mean": float(np.nanmean(rates)),
            "l2_mean": float(everything.l2[won].mean()) if won.any() else None,
            **pairs._asdict(),
        }
    write_json(run.workdir / "pairs.json", summary)


def _draw(run: Run, measured: Mapping[str, Mapping[int, Evaluation]]) -> None:
    """Leaves the pictures a person would want in `figures/`."""
    figures, test = run.workdir / "figures", run.dataset.test
    num_classes = run.dataset.num_classes
    names = [str(number) for number in range(num_classes)]
    panels = {}
    for stage, by_class in measured.items():
        pairs = success_by_pair(pool(list(by_class.values())), num_classes)
        mean = np.nanmean([e.success().rate for e in by_class.values()])
        title = f"AI-GAN, {stage.replace('_', ' ')}: {mean:.2%} on average"
        figure = heatmap(
            pairs.rates,
            names,
            names,
            title,
            row_label="true class",
            column_label="target class",
        )
        save_figure(figure, figures / f"pairs-{stage}.png")
        shown = [e.examples for e in list(by_class.values())[:_MOST_COLUMNS]]
        panels[stage.replace("_", " ")] = np.stack(shown, axis=1)
    clean = test.images[: next(iter(panels.values())).shape[0]]
    save_figure(target_grids(clean, panels, names), figures / "perturbations.png")
    metrics = read_metrics(run.workdir)
    if metrics:  # none, if no step was asked for
        curves = training_curves(metrics, switches=_switches(run))
        save_figure(curves, figures / "curves.png")


def _switches(run: Run) -> list[int]:
    """The step after which stage two begins, if there are both stages."""
    epochs = [run.config[stage].num_epochs for stage in STAGES]
    first = from_config.training_plan(_section(run.config, epochs[0]), run.dataset)
    return [first.num_steps] if all(epochs) else []
