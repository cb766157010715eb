"""AdvGAN against a black box, which the attacker distils by queries.

The black box is a target model that was trained on the first
`target_training.num_images` training images; the attacker has the others. The oracle
counts the attacker's queries. Evaluations call the model itself and are no queries.
"""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from advgan_jax import parallel
from advgan_jax.checks import check_at_least
from advgan_jax.data import Dataset
from advgan_jax.evaluation import evaluate_adversarial
from advgan_jax.generators import bind_generator
from advgan_jax.oracles import Ledger, Oracle, answers, from_logits_fn
from advgan_jax.reporting import query_curve, read_metrics
from advgan_jax.runs import from_config
from advgan_jax.runs.from_config import gans
from advgan_jax.runs.methods import advgan, target_model
from advgan_jax.runs.run import Run
from advgan_jax.runs.training import Stopped, resumable
from advgan_jax.runs.workdir import LEDGER
from advgan_jax.training import blackbox
from advgan_jax.training.precision import mixed_module, mixed_networks
from advgan_jax.training.states import BlackBoxState
from advgan_jax.types import Attack, LogitsFn

_log = logging.getLogger(__name__)
# Metrics that a run logs after each round, and their names in the figure.
_CURVES = {
    "black_box_success_rate": "success on the black box",
    "agreement_clean_rate": "agreement, clean images",
    "agreement_perturbed_rate": "agreement, perturbed images",
}
_NUM_REPEATED = 10  # images that are queried a second time, to measure noise


def check(config: ConfigDict, dataset: Dataset) -> None:
    """See `Method`; a run needs one process, whose devices share batches evenly."""
    target_model.check_attacked(config, dataset)
    answers.check_kind(config.answers)
    attacker, schedule = gans.blackbox_attacker(config, dataset.num_classes)
    schedule.check_images(_num_attackers_images(config, dataset))
    shards = parallel.num_shards(config.parallel)
    for name in ("training", "distilled"):
        size = config[name].batch_size
        parallel.check_divides(size, shards, name=f"{name}.batch_size")
    if parallel.num_processes() > 1:
        raise ValueError(
            f"A black-box run uses one process, got {parallel.num_processes()}; omit "
            "--distributed. One process uses all devices of its machine."
        )
    check_at_least("queries.batch_size", config.queries.batch_size, 1)
    if config.queries.budget is not None:
        check_at_least("queries.budget", config.queries.budget, 1)
    shape, key = dataset.train.image_shape, jax.random.key(0)
    jax.eval_shape(lambda: blackbox.init_state(attacker, schedule, key, shape))


def _num_attackers_images(config: ConfigDict, dataset: Dataset) -> int:
    """Count the attacker's images; raise if it or the black box lacks a class."""
    train, taken = dataset.train, config.target_training.num_images
    if taken is None or taken >= len(train):
        raise ValueError(
            f"`target_training.num_images` must be less than the {len(train)} training "
            f"images, got {taken}; the attacker needs the rest."
        )
    theirs = train.labels[taken:]
    for owner, part in (("black box", train.labels[:taken]), ("attacker", theirs)):
        missing = np.setdiff1d(np.arange(dataset.num_classes), part)
        if missing.size:
            raise ValueError(
                f"The {len(part)} training images of the {owner} must be of all "
                f"{dataset.num_classes} classes, got none of class {missing[0]}; the "
                "black box has the first `target_training.num_images`: shuffle the "
                "file, or choose another number."
            )
    return len(theirs)


def run(run: Run) -> list[dict[str, Any]]:
    """Distil, train the generator on the distilled model, evaluate on the black box."""
    logits_fn = target_model.trained_logits_fn(run)
    attack, queries = trained_generator(run, logits_fn)
    evaluation = advgan.evaluate_generator(run, logits_fn, attack)
    advgan.draw(run, evaluation)
    rows, config = _logged(run, "queries"), run.config
    curves = {
        label: [(row["queries"], row[name]) for row in rows]
        for name, label in _CURVES.items()
    }
    title = f"{config.dataset}, model {config.target_model}, {config.distillation}"
    run.save_figure("queries", query_curve(curves, title=f"{title} distillation"))
    fields = {"threat_model": f"black-box-{config.distillation}", "queries": queries}
    return [run.generator_row(evaluation, "advgan", **fields)]


def trained_generator(run: Run, logits_fn: LogitsFn) -> tuple[Attack, int]:
    """Train the generator or resume; return it and the number of queries.

    If the black box fails, raise `OracleError`; a resumed run reuses recorded answers.
    """
    config, dataset = run.config, run.dataset
    attacker, schedule = gans.blackbox_attacker(config, dataset.num_classes)
    description = gans.describe(config, dataset)
    shape, dtype = dataset.train.image_shape, from_config.compute_dtype(config.training)
    train, taken = dataset.train, config.target_training.num_images
    oracle = from_logits_fn(
        logits_fn,
        answers=config.answers,
        num_classes=dataset.num_classes,
        batch_size=config.queries.batch_size,
        budget=config.queries.budget,
        ledger=Ledger(run.workdir / LEDGER),
    )
    state = blackbox.init_state(attacker, schedule, jax.random.key(config.seed), shape)
    model, networks = mixed_module(dtype, attacker.model), attacker.networks
    mixed = attacker._replace(networks=mixed_networks(dtype, networks), model=model)
    with resumable(run.workdir, state, description) as (state, hooks):
        state, finished = blackbox.fit(
            state,
            oracle,
            train.images[taken:],
            train.labels[taken:],
            mixed,
            schedule,
            mode=config.parallel,
            hooks=hooks,
            record=partial(_record, run, logits_fn, attacker, hooks.log),
        )
        if finished:
            _measure_noise(run, oracle, state.step, hooks.log)
    if not finished:
        raise Stopped(
            f"Stopped at step {int(state.step)}, after {oracle.queries} queries; saved."
        )
    return bind_generator(description, state.advgan.generator.params), oracle.queries


def _logged(run: Run, name: str) -> list[dict[str, Any]]:
    """Return the lines of the log that have a metric, also of an interrupted run."""
    return [row for row in read_metrics(run.workdir) if name in row]


def _measure_noise(
    run: Run, oracle: Oracle, step: int, log: Callable[..., None]
) -> None:
    """Log whether the black box repeats its answers, unless the log contains that."""
    if _logged(run, "noise_rate") or oracle.remaining == 0:
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


def _record(
    run: Run,
    logits_fn: LogitsFn,
    attacker: blackbox.Attacker,
    log: Callable[..., None],
    state: BlackBoxState,
    number: int,
) -> None:
    """Log success and agreement on the black box after a round, once."""
    del number
    step = int(state.step)
    if any(row["step"] == step for row in _logged(run, "queries")):
        return
    monitor = run.dataset.test.take(run.config.evaluation.monitor_images)
    images, wanted = monitor.images, run.wanted_labels(monitor.labels)
    adversarial = blackbox.perturb_images(attacker, state, images)
    distilled_fn = blackbox.distilled_logits_fn(attacker, state)
    shown = (images, adversarial, monitor.labels)
    box, distilled = (
        evaluate_adversarial(fn, *shown, target_labels=wanted)
        for fn in (logits_fn, distilled_fn)
    )
    names = ("clean_predictions", "adversarial_predictions")
    same = (getattr(box, name) == getattr(distilled, name) for name in names)
    agreements = (float(np.mean(agrees)) for agrees in same)
    shares = dict(zip(_CURVES, (box.success().rate, *agreements), strict=True))
    log(step, {"queries": int(state.queries.max()), **shares})
