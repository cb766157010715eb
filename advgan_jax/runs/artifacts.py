"""Models, generators and adversarial images of tables, each made once and stored."""

import abc
import dataclasses
from collections.abc import Callable, Hashable
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from advgan_jax.attacks.transfer import average_models
from advgan_jax.data import Split, split_for_distillation, to_float
from advgan_jax.evaluation import Evaluation, craft, evaluate_clean
from advgan_jax.projections import project_linf
from advgan_jax.reporting.formats import ARRAY
from advgan_jax.runs import from_config
from advgan_jax.runs.from_config import gans, select, target_models
from advgan_jax.runs.methods import advgan, aigan, blackbox, compare_generators
from advgan_jax.runs.methods.target_model import trained_logits_fn
from advgan_jax.runs.papers.rows import Entry, TargetModel
from advgan_jax.runs.run import Run, test_images
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

    def counts(self, name: str, models: Models) -> dict[str, Any]:
        """Return `queries` and `wasted` of an attacker; nothing if it makes none."""
        return {}

    def split(self, images: str) -> Split:
        """Return all images of a split, see `Entry.images`."""
        train, seed = self.run.dataset.train, self.run.config.seed
        if images in ("half 1", "half 2"):
            # They share no image and have the classes in proportion.
            return split_for_distillation(train, 0.5, seed=seed)[int(images[-1]) - 1]
        return train if images == "train" else self.run.dataset.test

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

    def config_of(self, model: TargetModel, section: str) -> ConfigDict:
        """Return a section as the configuration of a run against a model."""
        ours = self.run.config
        config = ours[section].copy_and_resolve_references()
        training = ours.advgan.target_training.copy_and_resolve_references()
        training.update(ours[model.section].get("target_training", {}))
        training.update(ours.trainings.get(model.name, {}))
        training.defence = model.defence
        values = {name: ours[name] for name in _SHARED} | {
            "target_model": model.name,
            "target_model_dir": str(self.run.target_models.directory),
            "target_training": training,
            "seed": from_config.later_seed(ours, model.seed),
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

    def counts(self, name: str, models: Models) -> dict[str, Any]:
        """See `Artifacts`."""
        is_queried = GENERATORS.get(name) == "blackbox"
        return self._generator(name, models)[1] if is_queried else {}

    def _generator(self, name: str, models: Models) -> tuple[Attack, dict[str, int]]:
        def _train() -> tuple[Attack, dict[str, int]]:
            run, logits_fn = self.generator_run(name, models), self.surrogate(models)
            if name in ("dynamic", "static"):
                return blackbox.trained_generator(run, logits_fn)
            if name == "aigan":
                return aigan.trained_generators(run, logits_fn)["stage_two"], {}
            return advgan.trained_generator(run, logits_fn), {}

        return self.once((name, models), _train)

    def generator_run(self, name: str, models: Models) -> Run:
        """Return the run that trains a generator; its configuration names one model."""
        return self._prepared(name, models)[0]

    def _prepared(self, name: str, models: Models) -> tuple[Run, list[Any]]:
        """Return the run that trains a generator, and the settings that decide it."""

        def _prepare() -> tuple[Run, list[Any]]:
            config = self.config_of(models[0], GENERATORS[name])
            dataset = self.run.dataset
            if GENERATORS[name] == "blackbox":
                config.distillation = name
            if name == "fitted":  # to the images that it attacks
                dataset = dataclasses.replace(dataset, train=dataset.test)
            described = gans.describe(config, dataset)
            settings = [name, described, [self.describe(model) for model in models]]
            kind = f"generators/{name}-{_titles(models)}"
            return Run(config, self.run.store.folder(kind, settings), dataset), settings

        return self.once(("prepared", name, models), _prepare)

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
        depends_on = self.depends_on(Entry("success", models[0], name, models, images))
        return self.run.store.get(kind, depends_on, _craft, ARRAY)

    def depends_on(self, entry: Entry) -> dict[str, Any]:
        """See `Artifacts`."""
        config, attack, through = self.run.config, entry.attack, entry.through
        if entry.metric.startswith("success_"):
            advgan_config = self.config_of(entry.on, "generators").advgan
            return {
                **select(config.generators, "target_classes", "evaluation"),
                "advgan": gans.describe(advgan_config, self.run.dataset),
                "aigan": self._prepared("aigan", (entry.on,))[1],
            }
        # Each batch has its own draws.
        found = select(config, "dataset", "epsilon", "seed", "evaluation.batch_size")
        if entry.metric == "seconds":
            found |= select(config, "num_timed")
        elif entry.metric != "clean_accuracy" and entry.images != "challenge":
            found |= select(config, "evaluation.num_images")
        if attack in GENERATORS:
            found["generator"] = self._prepared(attack, through)[1]
        elif attack is not None:
            found |= select(config, f"attacks.{attack}")
            found["models"] = [self.describe(model) for model in through]
        return found

    def compared(self, model: TargetModel) -> list[dict[str, Any]]:
        """Return the rows of one AdvGAN for each class, and of one AI-GAN for all."""

        def _compare() -> list[dict[str, Any]]:
            config = self.config_of(model, "generators")
            self.attack("aigan", (model,))  # table 1 has the same AI-GAN
            config.aigan_workdir = str(self.generator_run("aigan", (model,)).workdir)
            workdir = self.run.workdir / "generators" / f"compared-{model.title}"
            return compare_generators.run(Run(config, workdir, self.run.dataset))

        return self.once(("compared", model), _compare)


def _titles(models: Models) -> str:
    return "+".join(model.title for model in models)
