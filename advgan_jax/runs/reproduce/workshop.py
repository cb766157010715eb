"""What the tables need: nets, generators and adversarial images, each made once."""

import dataclasses
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from advgan_jax import parallel
from advgan_jax.attacks.transfer import average_models
from advgan_jax.data import Dataset, Split, to_float
from advgan_jax.evaluation import craft
from advgan_jax.projections import project_linf
from advgan_jax.reporting import replacing
from advgan_jax.runs import from_config
from advgan_jax.runs.methods import (
    advgan,
    aigan,
    blackbox,
    compare_generators,
    target_model,
)
from advgan_jax.runs.reproduce.identity import (
    GENERATORS,
    images_identity,
    run_identity,
    section_of,
)
from advgan_jax.runs.reproduce.rows import Net
from advgan_jax.runs.run import Run, test_images
from advgan_jax.types import Attack, LogitsFn

# What all runs of the tables share with them; the sections do not have it.
_SHARED = ("dataset", "data_dir", "epsilon", "parallel")


class Workshop:
    """Makes things for the cells of all tables, and keeps them.

    What takes long lies in folders whose names tell what it is made from, and is found
    there again; what was loaded stays in memory.
    """

    def __init__(self, run: Run):
        """Opens the workshop of a run; makes nothing yet."""
        self.run = run
        self.told = from_config.plain(run.config)  # names all that is made
        self._loaded: dict[Hashable, Any] = {}

    def images(self, *, whole: bool = False) -> Split:
        """Test images: all, or as many as `evaluation.num_images` says."""
        return self.run.dataset.test if whole else test_images(self.run)

    def config_of(self, net: Net, section: str) -> ConfigDict:
        """The configuration of a run against a net.

        Args:
          net: which classifier.
          section: of the tables' configuration, itself that of a run.

        Returns:
          A copy that names the net.
        """
        ours = self.run.config
        config = ours[section].copy_and_resolve_references()
        trained = ours.advgan.target_training.copy_and_resolve_references()
        trained.update(
            config.get("target_training", {})
        )  # how many images a black box sees
        trained.update(ours.trainings.get(net.model, {}))  # most nets have no own
        trained.defence = net.defence
        values = {name: ours[name] for name in _SHARED} | {
            "target_model": net.model,
            "target_model_dir": str(
                ours.target_model_dir or self.run.workdir / "target_models"
            ),
            "target_training": trained,
            "seed": ours.seed + net.seed,
        }
        for part in (config, config.get("advgan")):
            if part is not None:
                with part.unlocked():
                    part.update(values)
        if section == "generators":
            with config.unlocked():
                config.aigan = self.config_of(net, "aigan")
        return config

    def description(self, net: Net) -> dict[str, Any]:
        """All that decides what a net becomes, its defence's settings too."""
        config = self.config_of(net, section_of(net))
        return self._once(
            ("description", net), lambda: from_config.target_model_description(config)
        )

    def logits_fn(self, net: Net) -> LogitsFn:
        """A classifier, trained unless the target folder has it already."""
        config = self.config_of(net, section_of(net))
        run = self.run._replace(config=config)
        return self._once(net, lambda: target_model.trained_logits_fn(run))

    def surrogate(self, nets: Sequence[Net]) -> LogitsFn:
        """What an attacker looks at: a classifier, or several as one."""
        return average_models([self.logits_fn(n) for n in nets], "log_probabilities")

    def attack(self, name: str, nets: Sequence[Net]) -> Attack:
        """An attack, its generator trained unless its folder has it already.

        Args:
          name: a key of `GENERATORS`, or a section of `config.attacks`.
          nets: what a generator is trained on, or on whose answers.

        Returns:
          The attack, bound.
        """
        if name not in GENERATORS:
            return from_config.bound_attack(self.run.config, name)
        return self._once(
            (name, tuple(nets)), lambda: self._generator(name, tuple(nets))
        )

    def queries(self, name: str, nets: Sequence[Net]) -> int | None:
        """What a generator asked the net that answered it; None if it asks none.

        Args:
          name: of the attack.
          nets: what it looks at.

        Returns:
          Single images.
        """
        if GENERATORS.get(name) != "blackbox":
            return None
        self.attack(name, nets)  # images on disk do not tell
        return self._loaded["queries", name, tuple(nets)]

    def training_set(self, name: str) -> Dataset:
        """What a generator is trained on: `fitted` on the images that it attacks."""
        dataset = self.run.dataset
        if name != "fitted":
            return dataset
        return dataclasses.replace(dataset, train=self.images(whole=True))

    def _generator(self, name: str, nets: tuple[Net, ...]) -> Attack:
        config = self.config_of(nets[0], GENERATORS[name])
        if GENERATORS[name] == "blackbox":
            config.distillation = name
        run = self.own_run(name, config, nets)
        run = run._replace(dataset=self.training_set(name))
        logits_fn = self.surrogate(nets)
        if name in ("advgan", "fitted"):
            return advgan.trained_generator(run, logits_fn)
        if name == "aigan":
            return aigan.trained_generators(run, logits_fn)["stage_two"]
        attack, queries = blackbox.trained_generator(run, logits_fn)
        self._loaded["queries", name, nets] = queries
        return attack

    def own_run(self, kind: str, config: ConfigDict, nets: tuple[Net, ...]) -> Run:
        """A run in a folder of its own.

        Args:
          kind: what it trains.
          config: of the run.
          nets: what it attacks; its checkpoints tell of the first only.

        Returns:
          The run; its folder is made if missing.
        """
        names = "+".join(net.title for net in nets)
        digits = from_config.fingerprint([run_identity(config), nets])
        folder = f"{kind}-{names}-{digits}"
        workdir = self.run.workdir / "generators" / folder
        workdir.mkdir(parents=True, exist_ok=True)
        return self.run._replace(config=config, workdir=workdir)

    def adversarial(
        self, name: str, nets: Sequence[Net], *, whole: bool = False
    ) -> np.ndarray:
        """Adversarial test images, made unless their file is there already.

        Args:
          name: of the attack.
          nets: what it looks at.
          whole: of all test images.

        Returns:
          float32 `[N, H, W, C]` within `config.epsilon` of the clean ones; what an
          attack without a bound moved further is projected.
        """
        names = "+".join(net.title for net in nets)
        made_on = [self.description(net) for net in nets]
        told = images_identity(self.told, name, whole=whole)
        digits = from_config.fingerprint([told, name, nets, whole, made_on])
        path = self.run.workdir / "crafted" / f"{name}-{names}-{digits}.npy"
        if parallel.agreed(path.exists()):
            return np.load(path)
        found = self._craft(name, nets, self.images(whole=whole))
        with replacing(path) as partial, partial.open("wb") as file:
            np.save(file, found)
        return found  # only the first of several processes has the file already

    def _craft(self, name: str, nets: Sequence[Net], test: Split) -> np.ndarray:
        config = self.run.config
        found = craft(
            self.surrogate(nets),
            self.attack(name, nets),
            test.images,
            test.labels,
            batch_size=config.evaluation.batch_size,
            key=jax.random.key(config.seed + 2),
        )
        clean = to_float(test.images)
        return np.asarray(project_linf(found, clean, config.epsilon, (0.0, 1.0)))

    def compared(self, net: Net) -> list[dict[str, Any]]:
        """AdvGANs for each class and an AI-GAN for all, what `runs.generators` found.

        Args:
          net: what they attack.

        Returns:
          Its rows of `results.json`.
        """

        def compare():
            run = self.own_run("each", self.config_of(net, "generators"), (net,))
            # Table 1 has it too: trained once, as all generators are.
            self.attack("aigan", (net,))
            trained = self.own_run("aigan", self.config_of(net, "aigan"), (net,))
            run.config.aigan_workdir = str(trained.workdir)
            return compare_generators.run(run)

        return self._once(("each", net), compare)

    def _once(self, name: Hashable, make: Callable[[], Any]) -> Any:
        if name not in self._loaded:
            self._loaded[name] = make()
        return self._loaded[name]
