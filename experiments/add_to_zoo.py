r"""Put the target model or the generator of a finished run into the zoo.

    python experiments/add_to_zoo.py runs/advgan-mnist-C target/mnist-c
    python experiments/add_to_zoo.py runs/advgan-mnist-C advgan/mnist-c \
        --attacks=target/mnist-c

A name that begins with `target/` is a target model. Kernels are rounded to 8
bits, and the figures of the model card are measured on all test images after that. The
figures of the run itself, of unrounded weights, stand beside them.
"""

import argparse
import json
import pathlib
import tempfile

import jax
import numpy as np

from advgan_jax import models, zoo
from advgan_jax.configs import evaluate as config_of
from advgan_jax.data import Dataset, load_dataset
from advgan_jax.evaluation import (
    evaluate,
    evaluate_clean,
    evaluate_per_class,
    pool,
    wilson_interval,
)
from advgan_jax.generators import TrainedGenerator, files, load_generator
from advgan_jax.runs import Run
from advgan_jax.runs.methods import target_model

_ZOO = pathlib.Path(zoo.__file__).parent


def main() -> None:
    """Round, measure and save."""
    parser = argparse.ArgumentParser(description="Add an entry to the zoo.")
    parser.add_argument("workdir")
    parser.add_argument("name", help="such as advgan/mnist-c or target/mnist-c")
    parser.add_argument("--attacks", help="the target model in the zoo, of a generator")
    parser.add_argument("--command", help="which trained it (default: the run's own)")
    chosen = parser.parse_args()
    if chosen.name.startswith("target/") == bool(chosen.attacks):
        parser.error("--attacks must be given for a generator, and only for one")
    config = config_of.get_config(chosen.workdir)
    dataset = load_dataset(config.dataset, data_dir=config.data_dir)
    workdir = pathlib.Path(chosen.workdir).absolute()
    results = json.loads((workdir / "results.json").read_text(encoding="utf8"))
    card = {
        "dataset": config.dataset,
        "trained_on": f"{len(dataset.train):,} training images of {config.dataset}",
        "target": chosen.attacks,
        "command": chosen.command or results["command"],
        "licence": "Apache-2.0",
        "versions": results["versions"],
    }
    if chosen.attacks is None:
        kind, saved = files.MODEL, _target_model(Run(config, workdir, dataset))
        measure = measure_model
        if results["config"]["method"] == "defence":  # its attacks
            card["figures_of_the_run"] = results["rows"]
    else:
        kind, saved = files.GENERATOR, load_generator(workdir)
        saved = (saved.to_record(), saved.params)
        measure = measure_generator
        card["figures_of_the_run"] = results["rows"]
    with tempfile.TemporaryDirectory() as folder:
        files.save(folder, *saved, kind, packed=True)
        card["figures"] = measure(folder, dataset, chosen.attacks)
    record, params = saved
    files.save(_ZOO / chosen.name, {**record, "card": card}, params, kind, packed=True)
    print(json.dumps(card["figures"], indent=2))


def _target_model(run: Run) -> tuple[dict, dict]:
    """Return the record and the variables of a run's target model."""
    logits_fn = target_model.trained_logits_fn(run)
    record = {
        "architecture": run.config.target_model,
        "arguments": {"num_classes": run.dataset.num_classes},
    }
    return record, logits_fn.args[0]


def measure_model(folder: str, dataset: Dataset, _: None) -> list[dict]:
    """Return the accuracy of a saved target model on the test images."""
    record, variables = files.load(folder, files.MODEL)
    model = models.make_classifier(record["architecture"], **record["arguments"])
    logits_fn = models.make_logits_fn(model, variables)
    test = dataset.test
    found = evaluate_clean(logits_fn, test.images, test.labels)
    right = int(np.sum(found.clean_predictions == test.labels))
    return [_figure("accuracy", right, len(test))]


def measure_generator(folder: str, dataset: Dataset, target: str) -> list[dict]:
    """Return the success of a saved generator against a target model of the zoo."""
    generator, logits_fn = TrainedGenerator.load(folder), zoo.load(target)
    shown = (logits_fn, generator, dataset.test.images, dataset.test.labels)
    if generator.conditional:
        classes = range(dataset.num_classes)
        found = evaluate_per_class(*shown, classes, key=jax.random.key(0))
        success = pool(list(found.values())).success()
    elif generator.target_class is None:
        success = evaluate(*shown).success()
    else:
        wanted = np.full_like(dataset.test.labels, generator.target_class)
        success = evaluate(*shown, target_labels=wanted).success()
    return [_figure("attack success", success.successes, success.trials)]


def _figure(name: str, successes: int, trials: int) -> dict:
    low, high = wilson_interval(successes, trials)
    value = successes / trials
    return {"figure": name, "value": value, "low": low, "high": high, "of": trials}


if __name__ == "__main__":
    main()
