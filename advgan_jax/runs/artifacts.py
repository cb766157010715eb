"""What tables need: models, generators and adversarial images, each made once.

What takes long is in the run's folder, named by everything that decides it; what was
loaded stays in memory.
"""

import abc
import dataclasses
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from advgan_jax.attacks.transfer import average_models
from advgan_jax.data import Dataset, Split, to_float
from advgan_jax.evaluation import Evaluation, craft, evaluate_clean
from advgan_jax.projections import project_linf
from advgan_jax.runs import from_config
from advgan_jax.runs.from_config import gans, target_models
from advgan_jax.runs.methods import advgan, aigan, blackbox, compare_generators
from advgan_jax.runs.methods.target_model import trained_logits_fn
from advgan_jax.runs.papers.rows import Entry, TargetModel
from advgan_jax.runs.run import Run, test_images
from advgan_jax.runs.store import ARRAY
from advgan_jax.types import Attack, LogitsFn

Models = tuple[TargetModel, ...]
# Attacks that are trained, and the section of the configuration that says how.
GENERATORS = {
    "advgan": "advgan",
    "aigan": "aigan",
    "dynamic": "blackbox",
    "fitted": "fitted",
    "static": "blackbox",
}
# What the tables set in the configuration of each of their runs.
_SHARED = ("dataset", "data_dir", "epsilon", "parallel")


def chosen(settings: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Return some of the settings."""
    return {name: settings[name] for name in names}


class Artifacts(abc.ABC):
    """What the tables of one run need."""

    def __init__(self, run: Run) -> None:
        """Prepare for a run; this makes and writes nothing."""
        self.run: Run = run
        self.settings: dict[str, Any] = from_config.plain(run.config)
        self._loaded: dict[Hashable, Any] = {}

    def once(self, name: Hashable, make: Callable[[], Any]) -> Any:
        """Return what `make` returned when it was first called for this name."""
        if name not in self._loaded:
            self._loaded[name] = make()
        return self._loaded[name]

    @abc.abstractmethod
    def logits_fn(self, model: TargetModel) -> LogitsFn:
        """Return a classifier, trained unless the target folder has it."""

    @abc.abstractmethod
    def describe(self, model: TargetModel) -> dict[str, Any]:
        """Return every setting that decides what a model becomes, as JSON values."""

    @abc.abstractmethod
    def depends_on(self, entry: Entry) -> dict[str, Any]:
        """Return every setting that decides an entry, but for those of its models."""

    def queries(self, name: str, models: Models) -> int | None:
        """Return how many images an attacker has asked about; None without queries."""
        del name, models
        return None

    def split(self, images: str) -> Split:
        """Return all images of a split, see `Entry.images`."""
        return self.run.dataset.train if images == "train" else self.run.dataset.test

    def clean(self, model: TargetModel, images: str) -> Evaluation:
        """Return what a model makes of all images of a split."""

        def measure() -> Evaluation:
            """Evaluate the clean images."""
            split, size = self.split(images), self.run.config.evaluation.batch_size
            shown = (self.logits_fn(model), split.images, split.labels)
            return evaluate_clean(*shown, batch_size=size)

        return self.once(("clean", model, images), measure)


class GeneratorArtifacts(Artifacts):
    """What the tables of AdvGAN, AI-GAN and the challenge need."""

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

        def describe() -> dict[str, Any]:
            """Describe the training of the model."""
            config = self.config_of(model, model.section)
            return target_models.describe(config)

        return self.once(("description", model), describe)

    def logits_fn(self, model: TargetModel) -> LogitsFn:
        """See `Artifacts`."""
        run = self.run._replace(config=self.config_of(model, model.section))
        return self.once(model, lambda: trained_logits_fn(run))

    def surrogate(self, models: Models) -> LogitsFn:
        """Return what an attacker has: a classifier, or several as one."""
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
        def train() -> tuple[Attack, int | None]:
            """Train the generator."""
            run, logits_fn = self.generator_run(name, models), self.surrogate(models)
            if name in ("dynamic", "static"):
                return blackbox.trained_generator(run, logits_fn)
            if name == "aigan":
                return aigan.trained_generators(run, logits_fn)["stage_two"], None
            return advgan.trained_generator(run, logits_fn), None

        return self.once((name, models), train)

    def generator_run(self, name: str, models: Models) -> Run:
        """Return the run that trains a generator.

        Its folder is named by all models; its configuration names only the first.
        """
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
        def describe() -> list[Any]:
            """Describe the training of the generator."""
            config = self._generator_config(name, models[0])
            described = gans.describe(config, self.training_set(name))
            return [name, described, [self.describe(model) for model in models]]

        return self.once(("settings", name, models), describe)

    def adversarial(self, name: str, models: Models, images: str) -> np.ndarray:
        """Return adversarial images within `config.epsilon`, made once.

        What an attack without a bound moves further is projected.
        """
        config = self.run.config

        def make() -> np.ndarray:
            """Attack the images."""
            test, key = self.images(images), jax.random.key(config.seed + 2)
            shown = (self.attack(name, models), test.images, test.labels)
            batch_size = config.evaluation.batch_size
            found = craft(
                self.surrogate(models), *shown, batch_size=batch_size, key=key
            )
            clean: Any = to_float(test.images)
            moved: Any = found
            return np.asarray(project_linf(moved, clean, config.epsilon, (0.0, 1.0)))

        kind = f"crafted/{name}-{_titles(models)}"
        depends_on = self._images_settings(name, models, images)
        return self.run.store.get(kind, depends_on, make, ARRAY)

    def _images_settings(
        self, attack: str | None, models: Models, images: str
    ) -> dict[str, Any]:
        """Return what decides images: clean ones, or adversarial ones."""
        ours = self.settings
        found = chosen(ours, "dataset", "epsilon", "seed")
        # Each batch has its own draws.
        found["batch_size"] = ours["evaluation"]["batch_size"]
        if images != "challenge":
            found["num_images"] = ours["evaluation"]["num_images"]
        if attack in GENERATORS:
            found["generator"] = self._generator_settings(attack, models)
        elif attack is not None:
            descriptions = [self.describe(model) for model in models]
            found["attack"] = [attack, ours["attacks"][attack], descriptions]
        return found

    def depends_on(self, entry: Entry) -> dict[str, Any]:
        """See `Artifacts`."""
        ours, (attack, through) = self.settings, (entry.attack, entry.through)
        if entry.metric.startswith("success_"):
            found = chosen(ours["generators"], "target_classes", "evaluation")
            config = self.config_of(entry.on, "generators")
            described = gans.describe(config.advgan, self.run.dataset)
            aigan_settings = self._generator_settings("aigan", (entry.on,))
            return found | {"advgan": described, "aigan": aigan_settings}
        if entry.metric == "clean_accuracy":
            return self._images_settings(None, (), "challenge")
        if entry.metric == "seconds":
            timed = {"num_timed": ours["num_timed"]}
            return timed | self._images_settings(attack, through, "challenge")
        return self._images_settings(attack, through, entry.images)

    def compared(self, model: TargetModel) -> list[dict[str, Any]]:
        """Return the rows of one AdvGAN for each class, and of one AI-GAN for all."""

        def compare() -> list[dict[str, Any]]:
            """Compare the generators."""
            config = self.config_of(model, "generators")
            # Table 1 has it too: trained once, as all generators are.
            self.attack("aigan", (model,))
            trained = self.generator_run("aigan", (model,))
            config.aigan_workdir = str(trained.workdir)
            # Everything in it is named by what decides it.
            workdir = self.run.workdir / "generators" / f"compared-{model.title}"
            return compare_generators.run(Run(config, workdir, self.run.dataset))

        return self.once(("compared", model), compare)


def _titles(models: Models) -> str:
    return "+".join(model.title for model in models)
