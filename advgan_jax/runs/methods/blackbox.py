"""AdvGAN against a black box, which the attacker distils by queries.

The black box is a target model that was trained on the first
`target_training.num_images` training images; the attacker has the others. The oracle
counts the attacker's queries. Evaluations call the model itself and are no queries.
"""

import logging
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from advgan_jax import parallel
from advgan_jax.checks import check_at_least
from advgan_jax.data import Dataset, Split
from advgan_jax.evaluation import evaluate_adversarial
from advgan_jax.generators import bind_generator
from advgan_jax.oracles import Ledger, Oracle, answers, from_logits_fn
from advgan_jax.reporting import query_curve, read_metrics, save_figure
from advgan_jax.runs import from_config
from advgan_jax.runs.from_config import gans
from advgan_jax.runs.methods import advgan, target_model
from advgan_jax.runs.run import Run, check_evaluation, generator_row, wanted_labels
from advgan_jax.runs.training import Stopped, resumable
from advgan_jax.runs.workdir import LEDGER
from advgan_jax.training import blackbox
from advgan_jax.training.precision import mixed_module, mixed_networks
from advgan_jax.training.states import BlackBoxState
from advgan_jax.types import Attack, LogitsFn

_log = logging.getLogger(__name__)
_NUM_REPEATED = 10  # images that are queried a second time, to measure noise


def check(config: ConfigDict, dataset: Dataset) -> None:
    """See `Method`."""
    target_model.check(config, dataset)
    check_evaluation(config, dataset)
    answers.check_kind(config.answers)
    from_config.compute_dtype(config.training)
    attacker, schedule = gans.blackbox_attacker(config, dataset.num_classes)
    _check_images(config, dataset, schedule)
    _check_processes(config)
    check_at_least("queries.batch_size", config.queries.batch_size, 1)
    if config.queries.budget is not None:
        check_at_least("queries.budget", config.queries.budget, 1)
    monitored, most = config.evaluation.monitor_images, len(dataset.test)
    if not 1 <= monitored <= most:
        raise ValueError(
            f"`monitor_images` must be from 1 to the {most} test images, got "
            f"{monitored}."
        )
    shape, key = dataset.train.image_shape, jax.random.key(0)
    jax.eval_shape(lambda: blackbox.init_state(attacker, schedule, key, shape))


def _attackers_images(config: ConfigDict, dataset: Dataset) -> Split:
    """Return the training images on which the black box was not trained."""
    train, taken = dataset.train, config.target_training.num_images
    if taken is None or taken >= len(train):
        raise ValueError(
            f"`target_training.num_images` must be less than the {len(train)} training "
            f"images, got {taken}; the attacker needs the rest."
        )
    return Split(train.images[taken:], train.labels[taken:])


def _check_images(
    config: ConfigDict, dataset: Dataset, schedule: blackbox.Schedule
) -> None:
    """Raise if the black box or the attacker lacks a class, or images to query."""
    theirs = _attackers_images(config, dataset)
    parts = {
        "the black box": dataset.train.take(config.target_training.num_images),
        "the attacker": theirs,
    }
    for owner, part in parts.items():
        missing = np.setdiff1d(np.arange(dataset.num_classes), part.labels)
        if missing.size:
            raise ValueError(
                f"The {len(part)} training images of {owner} must be of all "
                f"{dataset.num_classes} classes, got none of class {missing[0]}; the "
                "black box has the first `target_training.num_images`: shuffle the "
                "file, or choose another number."
            )
    schedule.check_images(len(theirs))


def _check_processes(config: ConfigDict) -> None:
    """Raise unless there is one process, whose devices share batches evenly."""
    shards = parallel.num_shards(config.parallel)
    for name in ("training", "distilled"):
        size = config[name].batch_size
        if size % shards:
            raise ValueError(
                f"`{name}.batch_size` must be a multiple of the {shards} devices, got "
                f"{size}; change it or use parallel='jit'."
            )
    if parallel.num_processes() > 1:
        raise ValueError(
            f"A black-box run uses one process, got {parallel.num_processes()}; omit "
            "--distributed. One process uses all devices of its machine."
        )


def run(run: Run) -> list[dict[str, Any]]:
    """Distil, train the generator on the distilled model, evaluate on the black box."""
    logits_fn = target_model.trained_logits_fn(run)
    attack, queries = trained_generator(run, logits_fn)
    evaluation = advgan.evaluate_generator(run, logits_fn, attack)
    advgan.draw(run, evaluation)
    _draw_curve(run)
    fields = {"threat_model": f"black-box-{run.config.distillation}"}
    return [generator_row(run, evaluation, "advgan", queries=queries, **fields)]


def trained_generator(run: Run, logits_fn: LogitsFn) -> tuple[Attack, int]:
    """Train the generator or resume; return it and the number of queries.

    If the black box fails, raise `OracleError`; a resumed run reuses recorded answers.
    """
    config, dataset = run.config, run.dataset
    attacker, schedule = gans.blackbox_attacker(config, dataset.num_classes)
    description = gans.describe(config, dataset)
    shape, dtype = dataset.train.image_shape, from_config.compute_dtype(config.training)
    images = _attackers_images(config, dataset)
    oracle = from_logits_fn(
        logits_fn,
        answers=config.answers,
        num_classes=dataset.num_classes,
        batch_size=config.queries.batch_size,
        budget=config.queries.budget,
        ledger=Ledger(run.workdir / LEDGER),
    )
    state = blackbox.init_state(attacker, schedule, jax.random.key(config.seed), shape)
    mixed = attacker._replace(
        networks=mixed_networks(dtype, attacker.networks),
        model=mixed_module(dtype, attacker.model),
    )
    with resumable(run.workdir, state, description) as (state, hooks):
        state, finished = blackbox.fit(
            state,
            oracle,
            images.images,
            images.labels,
            mixed,
            schedule,
            mode=config.parallel,
            hooks=hooks,
            record=_make_record(run, logits_fn, attacker, hooks.log),
        )
        if finished:
            _measure_noise(run, oracle, state.step, hooks.log)
    if not finished:
        raise Stopped(
            f"Stopped at step {int(state.step)}, after {oracle.queries} queries; saved."
        )
    attack = bind_generator(description, state.advgan.generator.params)
    return attack, oracle.queries


def _measure_noise(
    run: Run, oracle: Oracle, step: int, log: Callable[..., None]
) -> None:
    """Log whether the black box repeats its answers, unless the log contains that."""
    known = any("noise_rate" in row for row in read_metrics(run.workdir))
    if known or oracle.remaining == 0:
        return
    noise = oracle.measure_noise(_NUM_REPEATED)
    if noise.changed:
        _log.warning(
            "The black box is noisy: of %d images queried a second time (not counted "
            "among the %d queries), %d got another answer and %d another class; "
            "probabilities moved by up to %.2g.",
            noise.images,
            oracle.queries,
            noise.changed,
            noise.other_class,
            noise.largest,
        )
    log(step, {"noise_rate": noise.changed / noise.images})


def _make_record(
    run: Run, logits_fn: LogitsFn, attacker: blackbox.Attacker, log: Callable[..., None]
) -> Callable[[BlackBoxState, int], None]:
    """Return a function that logs success and agreement on the black box each round."""
    monitor = run.dataset.test.take(run.config.evaluation.monitor_images)
    images, labels = monitor.images, monitor.labels
    wanted = wanted_labels(run.config, labels)

    def _record(state: BlackBoxState, number: int) -> None:
        step = int(state.step)
        logged = read_metrics(run.workdir)
        if any(row["step"] == step and "queries" in row for row in logged):
            return  # by a run that was interrupted afterwards
        adversarial = blackbox.perturb_images(attacker, state, images)
        distilled_fn = blackbox.distilled_logits_fn(attacker, state)
        box, distilled = (
            evaluate_adversarial(fn, images, adversarial, labels, target_labels=wanted)
            for fn in (logits_fn, distilled_fn)
        )
        agree = box.clean_predictions == distilled.clean_predictions
        agree_perturbed = (
            box.adversarial_predictions == distilled.adversarial_predictions
        )
        values = {
            "queries": int(state.queries.max()),
            "black_box_success_rate": box.success().rate,
            "agreement_clean_rate": float(np.mean(agree)),
            "agreement_perturbed_rate": float(np.mean(agree_perturbed)),
        }
        log(step, values)

    return _record


def _draw_curve(run: Run) -> None:
    config = run.config
    rows = [row for row in read_metrics(run.workdir) if "queries" in row]
    names = {
        "success on the black box": "black_box_success_rate",
        "agreement, clean images": "agreement_clean_rate",
        "agreement, perturbed images": "agreement_perturbed_rate",
    }
    curves = {
        label: [(row["queries"], row[name]) for row in rows]
        for label, name in names.items()
    }
    title = f"{config.dataset}, model {config.target_model}"
    figure = query_curve(curves, title=f"{title}, {config.distillation} distillation")
    save_figure(figure, run.workdir / "figures" / "queries.png")
