"""AdvGAN against a black box: from asking it to results.

The black box is a target model that was trained on the first `target_training.num_images`
training images; the attacker has the others. Questions that only measure how well the
attacker does are asked of the model itself, and are no queries.
"""

import logging
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from advgan_jax import parallel
from advgan_jax.checks import check_at_least
from advgan_jax.data import Dataset, Split
from advgan_jax.evaluation import evaluate_adversarial
from advgan_jax.oracles import Ledger, Oracle, answers, from_logits_fn
from advgan_jax.reporting import query_curve, read_metrics, save_figure
from advgan_jax.runs import from_config
from advgan_jax.runs.methods import advgan, target_model
from advgan_jax.runs.run import Run, attack_row
from advgan_jax.runs.training import Stopped, resumable
from advgan_jax.runs.workdir import LEDGER
from advgan_jax.training import blackbox
from advgan_jax.training.states import BlackBoxState
from advgan_jax.types import Attack, LogitsFn

_log = logging.getLogger(__name__)
_MEASURED = 10  # images that are asked about again at the end


def check(config: ConfigDict, dataset: Dataset) -> None:
    """Refuses a wrong configuration before anything is written."""
    target_model.check(config, dataset)
    advgan.check_evaluation(config, dataset)
    answers.check_kind(config.answers)
    from_config.compute_dtype(config.training)
    attacker, schedule = from_config.blackbox_attacker(config, dataset.num_classes)
    _check_classes(config, dataset)
    schedule.check_images(len(_attackers_images(config, dataset)))
    _check_shards(config)
    if parallel.num_processes() > 1:
        raise ValueError(
            "A black box is asked by one process, which counts and keeps the answers, "
            f"got {parallel.num_processes()}; leave --distributed out. One process "
            "uses all devices of its machine."
        )
    check_at_least("queries.batch_size", config.queries.batch_size, 1)
    if config.queries.budget is not None:
        check_at_least("queries.budget", config.queries.budget, 1)
    monitored, most = config.evaluation.monitor_images, len(dataset.test)
    if not 1 <= monitored <= most:
        raise ValueError(
            f"`monitor_images` must be from 1 to the {most} test images, got "
            f"{monitored}."
        )
    shape = dataset.train.image_shape
    key = jax.random.key(0)
    jax.eval_shape(lambda: blackbox.init_state(attacker, schedule, key, shape))


def _attackers_images(config: ConfigDict, dataset: Dataset) -> Split:
    """The training images that the black box was not trained on."""
    train, taken = dataset.train, config.target_training.num_images
    if taken is None or taken >= len(train):
        raise ValueError(
            "`target_training.num_images` must leave some of the training images to the "
            f"attacker, got {taken} of {len(train)}."
        )
    return Split(train.images[taken:], train.labels[taken:])


def _check_classes(config: ConfigDict, dataset: Dataset) -> None:
    """Refuses a split that leaves the black box or the attacker without a class."""
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
                "black box has the first `target_training.num_images`: shuffle the file, or "
                "choose another number."
            )


def _check_shards(config: ConfigDict) -> None:
    shards = parallel.num_shards(config.parallel)
    for name in ("training", "distilled"):
        size = config[name].batch_size
        if size % shards:
            raise ValueError(
                f"`{name}.batch_size` must be a multiple of the {shards} devices, got "
                f"{size}; change it or use parallel='jit'."
            )


def run(run: Run) -> list[dict[str, Any]]:
    """Distils, attacks the copy, and evaluates on the black box."""
    logits_fn = target_model.trained_logits_fn(run)
    attack, queries = trained_generator(run, logits_fn)
    evaluation = advgan.evaluate_generator(run, logits_fn, attack)
    advgan.draw(run, evaluation)
    _draw_curve(run)
    row = attack_row(
        run,
        evaluation,
        attack="advgan",
        threat_model=f"black-box-{run.config.distillation}",
        epsilon=run.config.epsilon,
        norm="linf",
        queries=queries,
    )
    return [row]


def trained_generator(run: Run, logits_fn: LogitsFn) -> tuple[Attack, int]:
    """The run's generator, trained as far as its checkpoints do not have it.

    Args:
      run: the run that needs it.
      logits_fn: the black box.

    Returns:
      The generator as an attack, and the queries that it cost.

    Raises:
      Stopped: if a signal came; the state is saved.
    """
    config, dataset = run.config, run.dataset
    attacker, schedule = from_config.blackbox_attacker(config, dataset.num_classes)
    shape = dataset.train.image_shape
    images = _attackers_images(config, dataset)
    description = {
        "config": from_config.plain(config),
        "image_shape": list(shape),
        "num_classes": dataset.num_classes,
    }
    oracle = make_oracle(run, logits_fn)
    state = blackbox.init_state(attacker, schedule, jax.random.key(config.seed), shape)
    with resumable(run.workdir, state, description) as (state, hooks):
        record = _Record(run, logits_fn, attacker, hooks.log)
        state, finished = blackbox.fit(
            state,
            oracle,
            images.images,
            images.labels,
            _mixed(from_config.compute_dtype(config.training), attacker),
            schedule,
            mode=config.parallel,
            hooks=hooks,
            record=record,
        )
        if finished:
            _measure_noise(run, oracle, state.step, hooks.log)
    if not finished:
        raise Stopped(
            f"Stopped at step {int(state.step)}, after {oracle.queries} queries; saved."
        )
    return blackbox.bind_generator(attacker, state), oracle.queries


def _mixed(dtype: str, attacker: blackbox.Attacker) -> blackbox.Attacker:
    return attacker._replace(
        networks=from_config.mixed_networks(dtype, attacker.networks),
        model=from_config.mixed_module(dtype, attacker.model),
    )


def make_oracle(run: Run, logits_fn: LogitsFn) -> Oracle:
    """The black box, as far as the attacker sees it."""
    config = run.config
    return from_logits_fn(
        logits_fn,
        answers=config.answers,
        num_classes=run.dataset.num_classes,
        batch_size=config.queries.batch_size,
        budget=config.queries.budget,
        ledger=Ledger(pathlib.Path(run.workdir, LEDGER)),
    )


def _measure_noise(run: Run, oracle: Oracle, step: int, log: Callable) -> None:
    """Logs whether the black box repeats its answers, unless that was done before."""
    known = any("noise_rate" in row for row in read_metrics(run.workdir))
    if known or oracle.remaining == 0:
        return
    noise = oracle.measure_noise(_MEASURED)
    if noise.changed:
        _log.warning(
            "The black box is noisy: of %d images that were asked about again, beside "
            "the %d queries, %d got another answer and %d another class; "
            "probabilities moved by up to %.2g.",
            noise.images,
            oracle.queries,
            noise.changed,
            noise.other_class,
            noise.largest,
        )
    log(step, {"noise_rate": noise.changed / noise.images})


class _Record:
    """After each round: how well f agrees with b, and what the generator does to b."""

    def __init__(self, run, logits_fn, attacker, log):
        self._run, self._logits_fn, self._log = run, logits_fn, log
        self._attacker = attacker
        self._monitor = run.dataset.test.take(run.config.evaluation.monitor_images)

    def __call__(self, state: BlackBoxState, number: int) -> None:
        """Logs it, unless that was done before an interruption."""
        step = int(state.step)
        rows = read_metrics(self._run.workdir)
        if any(row["step"] == step and "queries" in row for row in rows):
            return
        images, labels = self._monitor.images, self._monitor.labels
        wanted = self._run.config.target_class
        wanted = None if wanted is None else np.full_like(labels, wanted)
        adversarial = blackbox.perturb_images(self._attacker, state, images)
        ours = blackbox.distilled_logits_fn(self._attacker, state)
        on_b, on_f = (
            evaluate_adversarial(fn, images, adversarial, labels, target_labels=wanted)
            for fn in (self._logits_fn, ours)
        )
        agree = on_b.clean_predictions == on_f.clean_predictions
        agree_perturbed = on_b.adversarial_predictions == on_f.adversarial_predictions
        values = {
            "queries": int(state.queries.max()),
            "black_box_success_rate": on_b.success().rate,
            "agreement_clean_rate": float(np.mean(agree)),
            "agreement_perturbed_rate": float(np.mean(agree_perturbed)),
        }
        self._log(step, values)


def _draw_curve(run: Run) -> None:
    rows = [row for row in read_metrics(run.workdir) if "queries" in row]
    curves = {
        "success on the black box": "black_box_success_rate",
        "agreement, clean images": "agreement_clean_rate",
        "agreement, perturbed images": "agreement_perturbed_rate",
    }
    figure = query_curve(
        {
            label: [(row["queries"], row[name]) for row in rows]
            for label, name in curves.items()
        },
        title=f"{run.config.dataset}, model {run.config.target_model}, "
        f"{run.config.distillation} distillation",
    )
    save_figure(figure, run.workdir / "figures" / "queries.png")
