"""Test errors with adversarial examples of no, one or every layer in the training."""

from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

from advgan_jax.attacks import BoundAttack
from advgan_jax.checks import unknown_name
from advgan_jax.data import Dataset
from advgan_jax.reporting import bar_chart
from advgan_jax.runs import from_config
from advgan_jax.runs.run import Run
from advgan_jax.runs.szegedy import nets, output, paper
from advgan_jax.runs.szegedy.nets import Net
from advgan_jax.runs.training import fit
from advgan_jax.training import layerwise
from advgan_jax.training.layerwise import Mixture


class Variant(NamedTuple):
    """One way to train the net of the study.

    Attributes:
      layers: whose outputs are made adversarial.
      decays: whether there is weight decay.
      drops: whether there is dropout.
    """

    layers: tuple[int, ...] = ()
    decays: bool = True
    drops: bool = False


def variants(num_hidden: int) -> dict[str, Variant]:
    """All ways to train that are compared, by name."""
    single = {f"layer {k}": Variant((k,)) for k in range(1, num_hidden + 1)}
    return {
        "none": Variant(decays=False),
        "weight decay": Variant(),
        "dropout": Variant(decays=False, drops=True),
        "input": Variant((0,)),
        **single,
        "all layers": Variant(tuple(range(num_hidden + 1))),
    }


def study(run: Run) -> list[dict[str, Any]]:
    """Trains the net of `config.layerwise.net` in each of the chosen ways.

    Args:
      run: the run.

    Returns:
      A row of `results.json` for each way, without attack.
    """
    base = run.config.layerwise.net
    rows, records, errors = [], [], {}
    known = variants(len(run.config.nets[base].hidden))
    for name in run.config.layerwise.variants:
        variant = known[name]
        net = trained_variant(run, name, variant)
        rows.append(output.clean_row(run, net))
        errors[name] = 1 - rows[-1]["clean_accuracy"]
        train = 1 - output.clean(run, net, "train").clean_accuracy
        printed = paper.LAYERWISE.get(name)
        records.append(
            {
                "adversarial examples of": name,
                "train error": train,
                **output.beside(run, "test error", errors[name], printed),
            }
        )
    references = paper.LAYERWISE if run.config.dataset == "mnist" else {}
    lines = {f"paper, {name}": error for name, error in references.items()}
    title = f"{run.config.nets[base].title}, {run.config.dataset}"
    figure = bar_chart(errors, label="test error", title=title, references=lines)
    output.write(run, "layerwise", records, figure)
    return rows


def trained_variant(run: Run, name: str, variant: Variant) -> Net:
    """The net, trained in one way unless its folder has it already."""
    config, section = run.config, run.config.layerwise
    model = _model(config, run.dataset, variant)
    mixture = mixture_of(config, variant)
    plan = from_config.training_plan(section, run.dataset)
    optimizer = from_config.make_optimizer(section, plan.num_steps)
    values = from_config.plain(config)
    # Neither pace nor company decides what a net becomes.
    for pace in ("epochs_per_checkpoint", "steps_per_call", "variants"):
        del values["layerwise"][pace]
    description = {
        "variant": variant._asdict(),
        "net": values["nets"][section.net],
        **{key: values[key] for key in ("layerwise", "dataset", "seed")},
    }
    key, shape = jax.random.key(config.seed), run.dataset.train.image_shape
    state = fit(
        run,
        nets.folder(run, f"layerwise-{name}", description),
        section,
        layerwise.init_state(model, optimizer, key, shape, mixture),
        layerwise.make_train_step(
            model,
            optimizer,
            _attack(config),
            mixture,
            strengths=_strengths(config, variant),
        ),
        description=description,
        title=f"layerwise, {name}",
    )
    net = f"{section.net}, {name}"
    return Net(net, net, model, {"params": state.net.params})


def mixture_of(config: ConfigDict, variant: Variant) -> Mixture:
    """What a variant mixes with the training images."""
    section = config.layerwise
    return Mixture(
        layers=variant.layers,
        pool_size=section.pool_size,
        num_replaced=section.num_replaced,
        steps_per_replacement=section.steps_per_replacement,
        num_mixed=section.num_mixed,
        weight=section.weight,
    )


def check(config: ConfigDict, dataset: Dataset) -> None:
    """Refuses a wrong configuration before anything is written."""
    section = config.layerwise
    from_config.training_plan(section, dataset)
    from_config.make_optimizer(section, 1)
    known = variants(len(config.nets[section.net].hidden))
    for name in section.variants:
        if name not in known:
            raise unknown_name("variant of `layerwise`", name, known)
    if not section.variants:
        raise ValueError(
            f"`layerwise.variants` must name at least one of {', '.join(known)}."
        )
    every = known["all layers"]
    model = _model(config, dataset, every)
    optimizer = from_config.make_optimizer(section, 1)
    shape, mixture = dataset.train.image_shape, mixture_of(config, every)
    jax.eval_shape(
        lambda: layerwise.init_state(
            model, optimizer, jax.random.key(0), shape, mixture
        )
    )


def _model(config: ConfigDict, dataset: Dataset, variant: Variant):
    model = nets.make_model(config, config.layerwise.net, dataset)
    return model.clone(dropout=config.layerwise.dropout if variant.drops else 0.0)


def _strengths(config: ConfigDict, variant: Variant) -> tuple[float, ...]:
    strengths = tuple(config.nets[config.layerwise.net].weight_decay)
    return strengths if variant.decays else (0.0,) * len(strengths)


def _attack(config: ConfigDict) -> BoundAttack:
    section = from_config.plain(config)["layerwise"]["attack"]
    return from_config.bound_attack(ConfigDict({"attacks": {"own": section}}), "own")
