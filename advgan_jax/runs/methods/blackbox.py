"""AdvGAN against a black box, which the attacker distils by queries.

The black box is a target model that was trained on the first
`target_training.num_images` training images; the attacker has the others. The oracle
counts the attacker's queries. Evaluations call the model itself and are no queries.
"""

import logging
from functools import partial
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from advgan_jax import parallel
from advgan_jax.data import Dataset, to_float
from advgan_jax.evaluation import evaluate_adversarial
from advgan_jax.generators import TrainedGenerator
from advgan_jax.oracles import Ledger, Oracle, from_logits_fn
from advgan_jax.reporting import query_curve, read_metrics
from advgan_jax.runs.from_config import gans
from advgan_jax.runs.methods import advgan, target_model
from advgan_jax.runs.run import Run
from advgan_jax.runs.workdir import LEDGER
from advgan_jax.trainers import Options, train_blackbox
from advgan_jax.training import blackbox
from advgan_jax.types import LogitsFn

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
    attacker, schedule = gans.blackbox_attacker(config, dataset.num_classes)
    shape, key = dataset.train.image_shape, jax.random.key(0)
    schedule.check_images(_num_attackers_images(config, dataset), shape)
    shards = parallel.num_shards(config.parallel)
    for name in ("training", "distilled"):
        size = config[name].batch_size
        parallel.check_divides(size, shards, name=f"{name}.batch_size")
    if parallel.num_processes() > 1:
        raise ValueError(
            f"A black-box run uses one process, got {parallel.num_processes()}; omit "
            "--distributed. One process uses all devices of its machine."
        )
    jax.eval_shape(lambda: blackbox.init_state(attacker, schedule, key, shape))


def _num_attackers_images(config: ConfigDict, dataset: Dataset) -> int:
    """Count the attacker's images; raise if it or the black box lacks a class.

    An imported black box was trained elsewhere, so that the attacker has all images.
    """
    train, taken = dataset.train, config.target_training.num_images
    if target_model.is_imported(config):
        return len(train)
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
    attack, counts = trained_generator(run, logits_fn)
    evaluation = advgan.evaluate_generator(run, logits_fn, attack)
    advgan.draw(run, evaluation)
    rows = [row for row in read_metrics(run.workdir) if "queries" in row]
    config = run.config
    curves = {
        label: [(row["queries"], row[name]) for row in rows]
        for name, label in _CURVES.items()
    }
    title = f"{config.dataset}, model {config.target_model}, {config.distillation}"
    run.save_figure("queries", query_curve(curves, title=f"{title} distillation"))
    fields = {"threat_model": f"black-box-{config.distillation}", **counts}
    return [run.generator_row(evaluation, "advgan", **fields)]


def trained_generator(
    run: Run, logits_fn: LogitsFn
) -> tuple[TrainedGenerator, dict[str, int]]:
    """Train the generator or resume; return it, and `queries` and `wasted` of a row.

    If the black box fails, raise `OracleError`; a resumed run reuses recorded answers.
    """
    config, dataset = run.config, run.dataset
    attacker, schedule = gans.blackbox_attacker(config, dataset.num_classes)
    train = dataset.train
    taken = len(train) - _num_attackers_images(config, dataset)
    oracle = from_logits_fn(
        logits_fn,
        answers=config.answers,
        num_classes=dataset.num_classes,
        batch_size=config.queries.batch_size,
        budget=config.queries.budget,
        ledger=Ledger(run.workdir / LEDGER),
    )
    description = gans.describe(config, dataset)
    options = Options(run.workdir, parallel=config.parallel, description=description)
    generator = train_blackbox(
        oracle,
        train.images[taken:],
        train.labels[taken:],
        target_class=config.target_class,
        schedule=schedule,
        distilled=attacker.model,
        distilled_optimizer=attacker.optimizer,
        measure=partial(_measure, run, logits_fn, oracle, schedule),
        **gans.arguments(config, attacker.networks, options),
    )
    return generator, {"queries": oracle.queries, "wasted": oracle.wasted}


def _measure(
    run: Run,
    logits_fn: LogitsFn,
    oracle: Oracle,
    schedule: blackbox.Schedule,
    generator: TrainedGenerator,
    distilled_fn: LogitsFn,
    number: int,
) -> dict[str, float]:
    """Measure success and agreement on the black box after a round."""
    monitor = run.dataset.test.take(run.config.evaluation.monitor_images)
    images, wanted = monitor.images, run.wanted_labels(monitor.labels)
    adversarial = np.asarray(generator.perturb(to_float(images)))
    shown = (images, adversarial, monitor.labels)
    box, distilled = (
        evaluate_adversarial(fn, *shown, target_labels=wanted)
        for fn in (logits_fn, distilled_fn)
    )
    names = ("clean_predictions", "adversarial_predictions")
    same = (getattr(box, name) == getattr(distilled, name) for name in names)
    agreements = (float(np.mean(agrees)) for agrees in same)
    shares = dict(zip(_CURVES, (box.success().rate, *agreements), strict=True))
    if number == schedule.num_rounds and oracle.remaining != 0:
        noise = oracle.measure_noise(_NUM_REPEATED)
        shares["noise_rate"] = noise.changed / noise.images
        if noise.changed:
            _log.warning("%s", noise.warning(oracle.queries))
    return shares
