"""Models, generators and adversarial images of tables, each made once.

They are stored in the workdir and kept in memory.
"""

import abc
import dataclasses
from collections.abc import Callable, Hashable
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from advgan_jax.attacks.transfer import average_models
from advgan_jax.data import Dataset, Split, to_float
from advgan_jax.evaluation import Evaluation, craft, evaluate_clean
from advgan_jax.projections import project_linf
from advgan_jax.runs import from_config
from advgan_jax.runs.from_config import gans, select, target_models
from advgan_jax.runs.methods import advgan, aigan, blackbox, compare_generators
from advgan_jax.runs.methods.target_model import trained_logits_fn
from advgan_jax.runs.papers.rows import Entry, TargetModel
from advgan_jax.runs.run import Run, test_images
from advgan_jax.runs.store import ARRAY
from advgan_jax.types import Attack, LogitsFn

Models = tuple[TargetModel, ...]
# Attacks that are trained, and the section of the configuration that trains each.
GENERATORS = {
    "advgan": "advgan",
    "aigan": "aigan",
    "dynamic": "blackbox",
    "fitted": "fitted",
    "static": "blackbox",
}
# What the tables set in the configuration of each of their runs.
_SHARED = ("dataset", "data_dir", "epsilon", "parallel")


class Artifacts(abc.ABC):
    """The models of one run's tables."""

    def __init__(self, run: Run) -> None:
        """Prepare for a run; this makes and writes nothing."""
        self.run: Run = run
        self._loaded: dict[Hashable, Any] = {}

    def once(self, name: Hashable, make: Callable[[], Any]) -> Any:
        """Return what `make` returned when it was first called for this name."""
        if name not in self._loaded:
            self._loaded[name] = make()
        return self._loaded[name]

    @abc.abstractmethod
    def logits_fn(self, model: TargetModel) -> LogitsFn:
        """Return a classifier, trained unless it is stored in `target_model_dir`."""

    @abc.abstractmethod
    def describe(self, model: TargetModel) -> dict[str, Any]:
        """Return every setting that decides the weights of a model, as JSON values."""

    @abc.abstractmethod
    def depends_on(self, entry: Entry) -> dict[str, Any]:
        """Return every setting that decides an entry, but for those of its models."""

    def queries(self, name: str, models: Models) -> int | None:
        """Return the number of queries of an attacker; None if it makes none."""
        del name, models
        return None

    def split(self, images: str) -> Split:
        """Return all images of a split, see `Entry.images`."""
        return self.run.dataset.train if images == "train" else self.run.dataset.test

    def clean(self, model: TargetModel, images: str) -> Evaluation:
        """Evaluate a model on all clean images of a split."""

        def _evaluate() -> Evaluation:
            split, size = self.split(images), self.run.config.evaluation.batch_size
            shown = (self.logits_fn(model), split.images, split.labels)
            return evaluate_clean(*shown, batch_size=size)

        return self.once(("clean", model, images), _evaluate)


class GeneratorArtifacts(Artifacts):
    """Models, generators and images of AdvGAN's, AI-GAN's and Madry's tables."""

    def images(self, images: str) -> Split:
        """Return all images of the challenge, or the first `evaluation.num_images`."""
        return self.split(images) if images == "challenge" else test_images(self.run)

    def training_set(self, attack: str) -> Dataset:
        """Return the data set that a generator is trained on."""
        dataset = self.run.dataset
        if attack != "fitted":
            return dataset
        return dataclasses.replace(dataset, train=dataset.test)

    def config_of(self, model: TargetModel, section: str) -> ConfigDict:
        """Return a section as the configuration of a run against a model."""
        ours = self.run.config
        config = ours[section].copy_and_resolve_references()
        training = ours.advgan.target_training.copy_and_resolve_references()
        # How many images a black box sees.
        training.update(config.get("target_training", {}))
        training.update(ours.trainings.get(model.name, {}))
        training.defence = model.defence
        values = {name: ours[name] for name in _SHARED} | {
            "target_model": model.name,
            "target_model_dir": str(self.run.target_models.directory),
            "target_training": training,
            "seed": ours.seed + model.seed,
        }
        for part in (config, config.get("advgan")):
            if part is not None:
                with part.unlocked():
                    part.update(values)
        if section == "generators":
            with config.unlocked():
                config.aigan = self.config_of(model, "aigan")
        return config

    def describe(self, model: TargetModel) -> dict[str, Any]:
        """See `Artifacts`; the settings of the model's defence count, too."""

        def _describe() -> dict[str, Any]:
            return target_models.describe(self.config_of(model, model.section))

        return self.once(("description", model), _describe)

    def logits_fn(self, model: TargetModel) -> LogitsFn:
        """See `Artifacts`."""
        run = self.run._replace(config=self.config_of(model, model.section))
        return self.once(model, lambda: trained_logits_fn(run))

    def surrogate(self, models: Models) -> LogitsFn:
        """Return the attacker's classifier, or the average of several."""
        return average_models([self.logits_fn(m) for m in models], "log_probabilities")

    def attack(self, name: str, models: Models) -> Attack:
        """Return an attack, see `Entry.attack`; generators are trained once."""
        if name not in GENERATORS:
            return from_config.bound_attack(self.run.config, name)
        return self._generator(name, models)[0]

    def queries(self, name: str, models: Models) -> int | None:
        """See `Artifacts`."""
        is_queried = GENERATORS.get(name) == "blackbox"
        return self._generator(name, models)[1] if is_queried else None

    def _generator(self, name: str, models: Models) -> tuple[Attack, int | None]:
        def _train() -> tuple[Attack, int | None]:
            run, logits_fn = self.generator_run(name, models), self.surrogate(models)
            if name in ("dynamic", "static"):
                return blackbox.trained_generator(run, logits_fn)
            if name == "aigan":
                return aigan.trained_generators(run, logits_fn)["stage_two"], None
            return advgan.trained_generator(run, logits_fn), None

        return self.once((name, models), _train)

    def generator_run(self, name: str, models: Models) -> Run:
        """Return the run that trains a generator; its configuration names one model."""
        config = self._generator_config(name, models[0])
        kind = f"generators/{name}-{_titles(models)}"
        workdir = self.run.store.folder(kind, self._generator_settings(name, models))
        return Run(config, workdir, self.training_set(name))

    def _generator_config(self, name: str, model: TargetModel) -> ConfigDict:
        config = self.config_of(model, GENERATORS[name])
        if GENERATORS[name] == "blackbox":
            config.distillation = name
        return config

    def _generator_settings(self, name: str, models: Models) -> list[Any]:
        def _describe() -> list[Any]:
            config = self._generator_config(name, models[0])
            described = gans.describe(config, self.training_set(name))
            return [name, described, [self.describe(model) for model in models]]

        return self.once(("settings", name, models), _describe)

    def adversarial(self, name: str, models: Models, images: str) -> np.ndarray:
        """Return adversarial images, made once and projected to `config.epsilon`."""
        config = self.run.config

        def _craft() -> np.ndarray:
            test, key = self.images(images), jax.random.key(config.seed + 2)
            shown = (self.attack(name, models), test.images, test.labels)
            batch_size, surrogate = config.evaluation.batch_size, self.surrogate(models)
            found: Any = craft(surrogate, *shown, batch_size=batch_size, key=key)
            clean: Any = to_float(test.images)
            return np.asarray(project_linf(found, clean, config.epsilon, (0.0, 1.0)))

        kind = f"crafted/{name}-{_titles(models)}"
        depends_on = self._images_settings(name, models, images)
        return self.run.store.get(kind, depends_on, _craft, ARRAY)

    def _images_settings(
        self, attack: str | None, models: Models, images: str
    ) -> dict[str, Any]:
        """Return the settings that decide clean or adversarial images."""
        config = self.run.config
        # Each batch has its own draws.
        found = select(config, "dataset", "epsilon", "seed", "evaluation.batch_size")
        if images != "challenge":
            found |= select(config, "evaluation.num_images")
        if attack in GENERATORS:
            found["generator"] = self._generator_settings(attack, models)
        elif attack is not None:
            found |= select(config, f"attacks.{attack}")
            found["models"] = [self.describe(model) for model in models]
        return found

    def depends_on(self, entry: Entry) -> dict[str, Any]:
        """See `Artifacts`."""
        config, attack, through = self.run.config, entry.attack, entry.through
        if entry.metric.startswith("success_"):
            advgan_config = self.config_of(entry.on, "generators").advgan
            return {
                **select(config.generators, "target_classes", "evaluation"),
                "advgan": gans.describe(advgan_config, self.run.dataset),
                "aigan": self._generator_settings("aigan", (entry.on,)),
            }
        if entry.metric == "clean_accuracy":
            return self._images_settings(None, (), "challenge")
        if entry.metric == "seconds":
            timed = select(config, "num_timed")
            return timed | self._images_settings(attack, through, "challenge")
        return self._images_settings(attack, through, entry.images)

    def compared(self, model: TargetModel) -> list[dict[str, Any]]:
        """Return the rows of one AdvGAN for each class, and of one AI-GAN for all."""

        def _compare() -> list[dict[str, Any]]:
            config = self.config_of(model, "generators")
            # Table 1 has the same AI-GAN.
            self.attack("aigan", (model,))
            trained = self.generator_run("aigan", (model,))
            config.aigan_workdir = str(trained.workdir)
            workdir = self.run.workdir / "generators" / f"compared-{model.title}"
            return compare_generators.run(Run(config, workdir, self.run.dataset))

        return self.once(("compared", model), _compare)


def _titles(models: Models) -> str:
    return "+".join(model.title for model in models)
