"""Compare attacks by queries, black-box AdvGAN among them, on one target model.

The black box and AdvGAN are those of `advgan_blackbox`. Searches run compiled on the
model and count in their states; the hybrid goes through an oracle.
"""

from functools import cache, partial
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from advgan_jax.attacks import QUERY_ATTACKS, query_method, trace_attack
from advgan_jax.checks import unknown_name
from advgan_jax.data import Dataset
from advgan_jax.evaluation import (
    QueryCounts,
    count_generator,
    count_queries,
    summarize_queries,
)
from advgan_jax.evaluation.queries import TRAINED
from advgan_jax.reporting import draw_frontier
from advgan_jax.reporting.environment import describe_origin
from advgan_jax.reporting.published import write_records
from advgan_jax.runs import from_config
from advgan_jax.runs.from_config import gans, target_models
from advgan_jax.runs.methods import blackbox, target_model
from advgan_jax.runs.run import Run, attack_row, test_images
from advgan_jax.types import LogitsFn


def check(config: ConfigDict, dataset: Dataset) -> None:
    """See `Method`."""
    blackbox.check(config, dataset)
    if config.target_class is not None:
        raise ValueError(
            "`target_class` must be omitted; the comparison is untargeted."
        )
    known = {name for name in config.attacks if _kind(config, name) in QUERY_ATTACKS}
    for name in config.names:
        if name not in {*known, *TRAINED}:
            raise unknown_name("attack by queries", name, {*known, *TRAINED})
        if name not in TRAINED:
            shape, classes = dataset.train.image_shape, dataset.num_classes
            trace_attack(_attack(config, name), shape, classes)
        search = config.hybrid_search if name == "hybrid" else name
        if config.answers != "labels" or search == "advgan":
            continue
        if query_method(_attack(config, search)).loss is not None:
            raise ValueError(
                f"`answers` must be logits or probabilities for {name!r}, which needs "
                "scores, got 'labels'; omit it from `names`."
            )


def run(run: Run) -> list[dict[str, Any]]:
    """Return a row for each attack and seed; write the table and the figure."""
    config, logits_fn = run.config, target_model.trained_logits_fn(run)
    train = cache(partial(blackbox.trained_generator, run, logits_fn))
    rows, counts = [], {}
    for name in config.names:
        # Once without random numbers; another seed of a generator is another training.
        is_random = name not in TRAINED and query_method(_attack(config, name)).random
        seeds = config.num_seeds if is_random else 1
        found = [_measure(run, logits_fn, train, name, i) for i in range(seeds)]
        rows += [one["row"] for one in found]
        counts[name] = [QueryCounts.of_json(one) for one in found]
    records = summarize_queries(counts, config.budgets)
    title = f"{config.dataset}, model {config.target_model}, L-inf {config.epsilon:g}"
    write_records(
        run.workdir / "tables" / "query_frontier",
        records,
        origin=describe_origin(),
        title=f"Queries for each success, {title}",
        seed=config.seed,
        note=f"{config.num_seeds} seeds of searches that draw random numbers; queries "
        "of correctly classified images.",
        percent=[n for n in records[0] if n.startswith(("success", "within"))],
    )
    figure = draw_frontier(
        {name: one for name, (one, *_) in counts.items()},
        most_images=config.most_images,
        most_queries=max(config.budgets),
        title=title,
    )
    run.save_figure("query_frontier", figure)
    return rows


def _kind(config: ConfigDict, name: str) -> str:
    return from_config.registry_name(config, name)


def _attack(config: ConfigDict, name: str) -> Any:
    """Return the attack of a section within the configuration's epsilon."""
    return from_config.bound_attack(config, name, epsilon=config.epsilon)


def _measure(
    run: Run, logits_fn: LogitsFn, train: Any, name: str, number: int
) -> dict[str, Any]:
    """Measure an attack with one seed, or load what was measured."""
    config = run.config
    section = config.hybrid_search if name == "hybrid" else name
    depends_on = {
        "target_model": target_models.describe(config),
        "number": number,
        "counts": list(QueryCounts._fields),
        "kind": name if name in TRAINED else _kind(config, name),
        **from_config.select(config, "seed", "epsilon", "evaluation"),
        **from_config.select(config, f"attacks.{section}", f"attacks.{name}"),
    }
    if name in TRAINED:
        depends_on["generator"] = gans.describe(config, run.dataset)
    make = partial(_make, run, logits_fn, train, name, number)
    return run.store.get(f"evaluations/{name}", depends_on, make)


def _make(
    run: Run, logits_fn: LogitsFn, train: Any, name: str, number: int
) -> dict[str, Any]:
    """Attack the test images; return the row, and queries and success of each."""
    config, test = run.config, test_images(run)
    seed = from_config.later_seed(config, number)
    key, size = jax.random.key(seed), config.evaluation.batch_size
    shown: Any = (test.images, test.labels)
    shared: dict[str, Any] = {"key": key, "batch_size": size, "keep": len(test)}
    threat_model = "black-box"
    fields: dict[str, Any] = {"wasted": 0}
    if name in TRAINED:
        threat_model = f"black-box-{config.distillation}"
        generator, spent = train()
        shared |= {"paid": spent["queries"]}
        fields = {"wasted": spent["wasted"]}
        if name == "hybrid":
            search = _attack(config, config.hybrid_search)
            shared |= {"search": search, "answers": config.answers}
            shared |= config.attacks.hybrid
        evaluation, counts = count_generator(logits_fn, generator, *shown, **shared)
    else:
        found = count_queries(logits_fn, _attack(config, name), *shown, **shared)
        evaluation, counts = found
    row = attack_row(
        run,
        evaluation,
        attack=name,
        threat_model=threat_model,
        epsilon=config.epsilon,
        norm="linf",
        queries=counts.total,
        queries_mean=counts.queries.mean(),
        queries_median=np.median(counts.queries),
        **fields,
    )
    return {"row": {**row, "seed": seed}, **counts.to_json()}
