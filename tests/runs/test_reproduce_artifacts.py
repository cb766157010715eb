"""What the tables need: made once, measured on the attacked model."""

import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from advgan_jax import parallel, runs
from advgan_jax.configs import reproduce as configured
from advgan_jax.data import to_float
from advgan_jax.reporting import formats
from advgan_jax.runs import measure
from advgan_jax.runs.artifacts import GeneratorArtifacts
from advgan_jax.runs.methods import advgan, aigan, blackbox, compare_generators
from advgan_jax.runs.papers import advgan as papers_advgan
from advgan_jax.runs.papers import reproduce
from advgan_jax.runs.papers.rows import Entry, TargetModel
from advgan_jax.runs.run import Run

COUNTS = {"queries": 77, "wasted": 0}
NAMES = ("none", "adv")
LENGTHS = ("num_epochs", "batch_size")


@pytest.fixture
def artifacts(tables, digits, tmp_path):
    return GeneratorArtifacts(Run(tables(), tmp_path, digits))


class TestMeasure:
    """With a model that needs no training in the place of the target models."""

    @pytest.fixture(autouse=True)
    def models(self, monkeypatch, digits_logits_fn):
        monkeypatch.setattr(
            GeneratorArtifacts, "logits_fn", lambda self, model: digits_logits_fn
        )

    @pytest.mark.parametrize("attack", ["fgsm", "opt"])
    def test_images_stay_within_the_bound_and_are_made_once(
        self, artifacts, attack, monkeypatch
    ):
        entry = Entry(
            "success", TargetModel("small", "adv"), attack, (TargetModel("small"),)
        )
        rate, (row,) = measure.measure_entry(artifacts, entry)
        assert rate == row["attack_success_rate"]
        assert row["linf_max"] <= 0.3 + 1e-6
        assert row["threat_model"] == "transfer"
        assert row["target_model"] == "small-adv"
        (file,) = (artifacts.run.workdir / "crafted").iterdir()
        made = np.array(formats.ARRAY.load(file))
        assert len(made) == row["num_images"] == 100
        formats.ARRAY.save(file, to_float(artifacts.images("test").images))
        assert measure.measure_entry(artifacts, entry)[0] == 0
        monkeypatch.setattr(parallel, "agreed", lambda found: False)
        assert measure.measure_entry(artifacts, entry)[0] == rate

    def test_images_made_on_another_defence_are_others(self, tables, digits, tmp_path):
        model = TargetModel("small", "adv")
        for bound in (0.3, 0.2):
            changes = {"advgan.target_training.defences.adv.attack.epsilon": bound}
            artifacts = GeneratorArtifacts(Run(tables(**changes), tmp_path, digits))
            artifacts.adversarial("fgsm", (model,), "test")
        assert len(list((tmp_path / "crafted").iterdir())) == 2

    @pytest.mark.parametrize(
        ("setting", "value", "made"),
        [
            ("epsilon", 0.2, 2),
            ("evaluation.batch_size", 50, 2),
            ("seed", 1, 2),
            ("attacks.pgd.num_steps", 2, 2),
            ("attacks.opt.num_steps", 7, 1),
            ("advgan.loss.gan_weight", 0.5, 1),
            ("num_timed", 7, 1),
        ],
    )
    def test_images_are_made_again_if_a_setting_decides_them(
        self, tables, digits, tmp_path, setting, value, made
    ):
        for changes in ({}, {setting: value}):
            artifacts = GeneratorArtifacts(Run(tables(**changes), tmp_path, digits))
            artifacts.adversarial("pgd", (TargetModel("small"),), "test")
        assert len(list((tmp_path / "crafted").iterdir())) == made

    def test_challenge_refuses_images_that_break_a_rule(self, artifacts, digits):
        entry = Entry(
            "robust_accuracy",
            TargetModel("small"),
            "fgsm",
            (TargetModel("small"),),
            images="challenge",
        )
        accuracy, (row,) = measure.measure_entry(artifacts, entry)
        assert row["num_images"] == len(digits.test)
        assert accuracy == row["robust_accuracy"] < row["clean_accuracy"]
        (file,) = (artifacts.run.workdir / "crafted").iterdir()
        moved = np.array(formats.ARRAY.load(file))
        moved[3] = 1 - moved[3]
        formats.ARRAY.save(file, moved)
        with pytest.raises(ValueError, match=r"by at most 0\.3, image 3"):
            measure.measure_entry(artifacts, entry)

    def test_seconds_are_for_1000_images(self, artifacts):
        model = TargetModel("small")
        seconds, (row,) = measure.measure_entry(
            artifacts, Entry("seconds", model, "fgsm", (model,))
        )
        assert seconds == pytest.approx(1000 / row["images_per_second"])
        assert (row["epsilon"], row["norm"]) == (0.3, "linf")
        (row,) = measure.measure_entry(
            artifacts, Entry("seconds", model, "opt", (model,))
        )[1]
        assert (row["epsilon"], row["norm"]) == (None, None)

    def test_transferred_images_are_shown_to_the_attacked_net(
        self, artifacts, monkeypatch, digits_logits_fn
    ):
        """One that errs on all of them, so that its numbers are not the other's."""
        on, other = TargetModel("small"), TargetModel("small", seed=1)

        def wrong(images):
            return jnp.roll(digits_logits_fn(images), 1, axis=-1)

        models = {on: wrong, other: digits_logits_fn}
        monkeypatch.setattr(
            GeneratorArtifacts, "logits_fn", lambda self, model: models[model]
        )
        seconds, (row,) = measure.measure_entry(
            artifacts, Entry("seconds", on, "transfer", (other,))
        )
        assert row["clean_accuracy"] < 0.1
        assert row["target_model"] == "small"
        assert row["threat_model"] == "transfer"
        assert seconds == pytest.approx(1000 / row["images_per_second"])

    def test_a_net_that_was_not_asked_is_attacked_by_transfer(
        self, artifacts, monkeypatch, digits_logits_fn
    ):
        """Of table 4: a generator on answers of the undefended model, or its own."""
        monkeypatch.setattr(
            blackbox,
            "trained_generator",
            lambda *_: (lambda _, images, *__, **___: images, COUNTS),
        )
        asked, defended = (
            TargetModel("small", name, section="blackbox") for name in NAMES
        )
        found = [
            measure.measure_entry(
                artifacts, Entry("success", defended, "dynamic", (through,))
            )
            for through in (asked, defended)
        ]
        rows = [row for _, (row,) in found]
        models = [row["threat_model"] for row in rows]
        assert models == ["transfer", "black-box-dynamic"]
        assert [row["queries"] for row in rows] == [77, 77]
        entry = Entry("success", defended, "dynamic", (asked,))
        # Its images are on disk by now, and do not contain the queries.
        (again,) = measure.measure_entry(GeneratorArtifacts(artifacts.run), entry)[1]
        assert again == rows[0]

    def test_rows_call_an_attack_by_its_section(self, artifacts):
        """Two of the same kind would else be one line of `results.json`."""
        model = TargetModel("small")
        entry = Entry("robust_accuracy", model, "pgd100", (model,))
        (row,) = measure.measure_entry(artifacts, entry)[1]
        assert row["attack"] == "pgd100"

    def test_generators_compared_leave_their_rows(self, artifacts, monkeypatch):
        rates = {"advgan": (0.2, 0.6), "aigan": (0.1, 0.9)}
        rows = [
            {
                "experiment": "generators",
                "attack": attack,
                "target_class": wanted,
                "attack_success_rate": rate,
            }
            for attack, (one, two) in rates.items()
            for wanted, rate in ((0, one), (3, two), (4, None), (None, 0.55))
        ]
        monkeypatch.setattr(GeneratorArtifacts, "compared", lambda self, model: rows)
        mean, behind = measure.measure_entry(
            artifacts, Entry("success_mean", TargetModel("small"), "advgan")
        )
        assert mean == pytest.approx(0.4)
        assert [row["attack"] for row in behind] == ["advgan"] * 4
        assert {row["experiment"] for row in behind} == {"reproduce"}
        best, _ = measure.measure_entry(
            artifacts, Entry("success_best", TargetModel("small"), "aigan")
        )
        assert best == 0.9


@pytest.fixture
def compared(monkeypatch, digits_logits_fn):
    """Runs that compared generators, without training; where AI-GANs were trained."""
    runs_made, trained = [], []

    def stages(run, logits_fn):
        trained.append(str(run.workdir))
        return {"stage_two": None}

    rows = [{"attack": "advgan"}]
    monkeypatch.setattr(
        compare_generators, "run", lambda run: runs_made.append(run) or rows
    )
    monkeypatch.setattr(aigan, "trained_generators", stages)
    monkeypatch.setattr(
        GeneratorArtifacts, "logits_fn", lambda self, model: digits_logits_fn
    )
    return runs_made, trained, rows


def test_what_was_compared_is_returned_and_not_read(artifacts, compared):
    """Of several processes the first alone writes a file."""
    assert artifacts.compared(TargetModel("small")) == compared[2]


def test_table_1_and_the_comparison_share_an_aigan(artifacts, compared):
    runs_made, trained, _ = compared
    (table,) = papers_advgan.speed(artifacts.run.config)
    (row,) = (row for row in table.rows if row.name == "AI-GAN")
    model = row.entries["seconds"].on
    artifacts.attack("aigan", (model,))
    artifacts.compared(model)
    (run,) = runs_made
    assert trained == [run.config.aigan_workdir]
    own = artifacts.config_of(model, "aigan")
    assert run.config.aigan.to_dict() == own.to_dict()


def test_models_of_aigans_comparison_train_longer(digits, tmp_path):
    artifacts = GeneratorArtifacts(
        Run(configured.get_config("mnist"), tmp_path, digits)
    )
    lengths = [
        tuple(artifacts.describe(TargetModel(*model))["training"][n] for n in LENGTHS)
        for model in (("C",), ("C", "none", 0, "aigan"), ("A", "none", 0, "aigan"))
    ]
    assert lengths == [(6, 64), (12, 32), (3, 32)]


class TestSharedSettings:
    """One value for all sections: nothing of another data set or bound is mixed in."""

    @pytest.mark.parametrize("section", ["advgan", "blackbox", "aigan", "generators"])
    def test_data_set_bound_and_training_reach_every_section(
        self, tables, digits, tmp_path, section
    ):
        config = tables(
            dataset="mnist",
            epsilon=0.2,
            seed=5,
            **{"advgan.target_training.num_epochs": 7},
        )
        artifacts = GeneratorArtifacts(Run(config, tmp_path, digits))
        trained = "blackbox" if section == "blackbox" else "advgan"
        model = TargetModel("small", "adv", seed=1, section=trained)
        own = artifacts.config_of(model, section)
        for part in (own, own.get("advgan"), own.get("aigan")):
            if part is None:
                continue
            assert (part.dataset, part.epsilon, part.seed) == ("mnist", 0.2, 6)
            assert part.target_training.num_epochs == 7
            assert part.target_training.defences.adv.attack.epsilon == 0.2
        seen = own.target_training.num_images
        assert seen == (1000 if section == "blackbox" else None)

    def test_a_net_may_be_trained_otherwise(self, tables, digits, tmp_path):
        """The named one alone, also where an attacker is answered by it."""
        defences = {"adv": {"training": {"num_epochs": 2}}}
        own = ConfigDict({"small": {"num_epochs": 3, "defences": defences}})
        artifacts = GeneratorArtifacts(Run(tables(trainings=own), tmp_path, digits))

        def epochs(name, section):
            target = artifacts.config_of(
                TargetModel(name, "adv"), section
            ).target_training
            return target.num_epochs, target.defences.adv.training.num_epochs

        assert epochs("small", "advgan") == epochs("small", "blackbox") == (3, 2)
        assert epochs("fc100_100_10", "advgan") == (6, 5)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("advgan.target_training.defence", "adv"),
            ("blackbox.distillation", "static"),
            ("fitted.target_class", 3),
            ("blackbox.queries.budget", 60),
            ("generators.advgan_workdirs", "runs/advgan-{}"),
        ],
    )
    def test_what_tables_choose_is_refused(self, tables, tmp_path, name, value):
        with pytest.raises(ValueError, match=rf"`{name}` is set by the tables"):
            runs.train(tables(**{name: value}), tmp_path / "run")
        assert not (tmp_path / "run").exists()

    def test_training_of_an_unknown_net_is_refused(self, tables, tmp_path):
        config = tables(table="3", trainings=ConfigDict({"smal": {"num_epochs": 3}}))
        with pytest.raises(ValueError, match=r"`trainings` 'smal'.*small"):
            runs.train(config, tmp_path / "run")
        assert not (tmp_path / "run").exists()

    def test_attacks_follow_the_bound(self, tables):
        config = tables(epsilon=0.2)
        sizes = {name: s.get("epsilon") for name, s in config.attacks.items()}
        assert sizes == {
            "fgsm": 0.2,
            "opt": None,
            "lbfgs": None,
            "transfer": 0.2,
            "pgd": 0.2,
            "pgd100": 0.2,
        }

    def test_an_attack_with_another_bound_is_refused(self, tables, tmp_path):
        config = tables(table="3", **{"attacks.fgsm.epsilon": 0.1})
        assert config.epsilon == 0.3
        with pytest.raises(
            ValueError, match=r"`attacks.fgsm.epsilon` .*0\.3, got 0\.1"
        ):
            runs.train(config, tmp_path / "run")
        assert not (tmp_path / "run").exists()

    @pytest.mark.parametrize(
        "name", ["advgan.epsilon", "aigan.target_training.num_epochs", "target_class"]
    )
    def test_what_the_tables_set_can_be_set_nowhere_else(self, tables, name):
        """Set in vain it would be wrong in silence."""
        config = tables()
        with pytest.raises((AttributeError, KeyError)):
            config.update_from_flattened_dict({name: 1})


def test_how_a_generator_is_measured_makes_no_other_one(tables, digits, tmp_path):
    def folder(config):
        artifacts = GeneratorArtifacts(Run(config, tmp_path, digits))
        return artifacts.generator_run("advgan", (TargetModel("small"),)).workdir

    ours = folder(tables())
    assert folder(tables(**{"advgan.evaluation.num_images": 50})) == ours
    assert folder(tables(**{"advgan.training.epochs_per_checkpoint": 7})) == ours
    assert folder(tables(**{"evaluation.num_images": 50})) == ours
    assert folder(tables(**{"aigan.stage_two.num_epochs": 7})) == ours
    assert folder(tables(**{"advgan.loss.gan_weight": 0.5})) != ours


def test_how_fast_a_black_box_is_asked_makes_no_other_generator(
    tables, digits, tmp_path
):
    def folder(**queries):
        config = tables(**{f"blackbox.queries.{k}": v for k, v in queries.items()})
        artifacts = GeneratorArtifacts(Run(config, tmp_path, digits))
        model = TargetModel("small", section="blackbox")
        return artifacts.generator_run("dynamic", (model,)).workdir

    assert folder() == folder(batch_size=7)
    assert folder() != folder(perturbed_per_round=31)


@pytest.mark.parametrize("name", ["advgan", "fitted"])
def test_only_a_fitted_generator_is_trained_on_what_it_attacks(
    artifacts, monkeypatch, digits, digits_logits_fn, name
):
    monkeypatch.setattr(
        GeneratorArtifacts, "logits_fn", lambda self, model: digits_logits_fn
    )
    trained = []
    monkeypatch.setattr(advgan, "trained_generator", lambda run, _: trained.append(run))
    artifacts.attack(name, (TargetModel("small"),))
    (run,) = trained
    wanted = digits.test if name == "fitted" else digits.train
    np.testing.assert_array_equal(run.dataset.train.images, wanted.images)
    np.testing.assert_array_equal(run.dataset.train.labels, wanted.labels)
    assert run.workdir.name.startswith(f"{name}-small-")


@pytest.mark.slow
def test_a_fitted_generator_is_measured_on_all_images_of_the_challenge(
    tables, digits, tmp_path, monkeypatch, digits_logits_fn
):
    monkeypatch.setattr(
        GeneratorArtifacts, "logits_fn", lambda self, model: digits_logits_fn
    )
    longer = {"training.num_epochs": 30, "training.batch_size": 32}
    config = tables(**{f"fitted.{name}": value for name, value in longer.items()})
    artifacts = GeneratorArtifacts(Run(config, tmp_path, digits))
    model = TargetModel("small")
    entry = Entry("robust_accuracy", model, "fitted", (model,), images="challenge")
    accuracy, (row,) = measure.measure_entry(artifacts, entry)
    # Almost all images that an undefended model classifies correctly; before
    # training, accuracy was over 0.5.
    assert accuracy < 0.1
    assert row["num_images"] == len(artifacts.run.dataset.test)
    assert (row["attack"], row["threat_model"]) == ("advgan-fitted", "white-box")


def test_a_target_may_be_trained_on_more_images_than_are_attacked(tables, digits):
    """720 images are less than the training split, and more than the test split."""
    config = tables(table="challenge", **{"advgan.target_training.num_images": 720})
    reproduce.check(config, digits)
    too_large = tables(table="challenge", **{"fitted.training.batch_size": 720})
    with pytest.raises(ValueError, match="`batch_size` must be from 1 to the 360"):
        reproduce.check(too_large, digits)
