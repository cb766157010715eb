"""Bad inputs of functions, configurations and commands.

Each must be rejected by one clear line that names what is wrong. Silence and tracebacks
are failures.
"""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from advgan_jax import (
    analysis,
    attacks,
    data,
    evaluation,
    load_generator,
    models,
    oracles,
    parallel,
    runs,
)
from advgan_jax.checkpointing import Checkpoints
from advgan_jax.cli.faults import FAULTS
from advgan_jax.reporting import logs
from advgan_jax.runs.methods import challenge
from advgan_jax.training import adversarial, blackbox, classifier, fit

X = np.full((3, 2, 2, 1), 0.5, np.float32)
Y = np.array([0, 1, 0])
KEY = jax.random.key(0)


def model(images):
    return 10 * images.reshape(len(images), -1)[:, :2]


def split(images=X, labels=Y, classes=2):
    return lambda: data.check_split(images, labels, classes, where="train")


def attack(name, x=X, y=Y, f=model, **arguments):
    return lambda: attacks.make_attack(name, **arguments)(f, x, y)


def measured(x=X, y=Y, f=model, attack=None, **arguments):
    attack = attack or attacks.make_attack("fgsm", epsilon=0.1)
    return lambda: evaluation.evaluate(f, attack, x, y, **arguments)


def npz(tmp_path, **changes):
    arrays = {"train_images": X, "train_labels": Y, "test_images": X, "test_labels": Y}
    np.savez(tmp_path / "d.npz", **(arrays | changes))
    return data.load_npz(tmp_path / "d.npz")


def row(**changes):
    found = evaluation.evaluate_clean(model, X, Y)
    given = {"experiment": "a", "dataset": "b", "target_model": "c", "attack": "fgsm"}
    given |= {"threat_model": "white-box", "epsilon": 0.1, "norm": "linf", "seed": 0}
    return evaluation.make_row(found, **(given | changes))


FUNCTIONS = {
    # Names and arguments of attacks.
    "attack-name": (attack("pdg"), "Unknown attack 'pdg'. Did you mean 'pgd'"),
    "attack-initials": (attack("CW"), "Did you mean 'carlini_wagner_l2'"),
    "attack-symbol": (attack("c&w"), "Did you mean 'carlini_wagner_l2'"),
    "attack-steps": (attack("pgd", steps=3), "Did you mean 'num_steps'"),
    "model-unbound": (
        attack("fgsm", f=nn.Dense(3), epsilon=0.1),
        "Dense without its weights.*interop.from_linen",
    ),
    "submission-folder": (
        lambda: evaluation.load_submission("."),
        r"\. must be a complete .npy file.*directory.*numpy.save",
    ),
    "submission-missing": (
        lambda: evaluation.load_submission("none.npy"),
        "none.npy must be a complete .npy file.*No such file.*numpy.save",
    ),
    "attack-argument": (attack("pgd", epsilom=1), "epsilom.*epsilon"),
    "attack-missing": (attack("fgsm"), "needs the argument `epsilon`"),
    "epsilon-negative": (attack("fgsm", epsilon=-0.1), "`epsilon` must be"),
    "epsilon-nan": (attack("fgsm", epsilon=np.nan), "`epsilon` must be"),
    "epsilon-infinite": (attack("bim", epsilon=np.inf), "`epsilon` must be"),
    "epsilon-text": (attack("fgsm", epsilon="8/255"), "`epsilon` must be"),
    "epsilon-none": (attack("fgsm", epsilon=None), "`epsilon` must be"),
    "epsilon-bool": (attack("fgsm", epsilon=True), "`epsilon` must be"),
    "step-size": (attack("bim", epsilon=0.1, step_size=0.2), "`step_size` must not"),
    "step-size-zero": (attack("bim", epsilon=0.1, step_size=0.0), "`step_size`"),
    "num-steps": (attack("bim", epsilon=0.1, num_steps=-1), "`num_steps`"),
    "num-steps-float": (attack("bim", epsilon=0.1, num_steps=5.0), "`num_steps`"),
    "num-steps-text": (attack("bim", epsilon=0.1, num_steps="5"), "`num_steps`"),
    "num-restarts": (attack("pgd", epsilon=0.1, num_restarts=0), "`num_restarts`"),
    "key-missing": (attack("pgd", epsilon=0.1), "key=jax.random.key"),
    "key-number": (attack("pgd", epsilon=0.1, key=3), "`key` must be a typed key"),
    "key-old": (
        attack("pgd", epsilon=0.1, key=np.zeros(2, np.uint32)),
        "`key` must be a typed key",
    ),
    "keys": (
        attack("pgd", epsilon=0.1, key=jax.random.split(KEY)),
        "`key` must be one key",
    ),
    "loss": (attack("fgsm", epsilon=0.1, loss="ce"), "Unknown loss 'ce'"),
    "loss-classes": (attack("fgsm", epsilon=0.1, loss="dlr"), "at least 3 classes"),
    "norm": (attack("fgsm", epsilon=0.1, norm="l3"), "Unknown norm.*l3"),
    "targeted": (
        lambda: attacks.fgsm(model, X, epsilon=0.1, targeted=True),
        "needs `labels`",
    ),
    "targeted-text": (attack("fgsm", epsilon=0.1, targeted="yes"), "`targeted` must"),
    "bounds": (attack("fgsm", epsilon=0.1, bounds=(1, 0)), "`bounds` must be"),
    "bounds-nan": (attack("fgsm", epsilon=0.1, bounds=(0, np.nan)), "`bounds`"),
    "solver": (attack("lbfgs", solver="newton"), "Unknown solver 'newton'"),
    "memory": (attack("lbfgs", memory=0), "`memory` must be"),
    "lbfgs-steps": (attack("lbfgs", num_steps=0), "`num_steps` must be"),
    "overshoot": (attack("deepfool", overshoot=-1.0), "`overshoot` must be"),
    "confidence": (attack("carlini_wagner_l2", confidence=np.nan), "`confidence`"),
    "learning-rate": (
        attack("carlini_wagner_l2", learning_rate=0.0),
        "`learning_rate` must be",
    ),
    "tau-factor": (attack("carlini_wagner_linf", tau_factor=1.0), "`tau_factor`"),
    "no-attacks": (lambda: attacks.worst_case([]), "`attacks` must hold"),
    "no-surrogate": (lambda: attacks.average_models([]), "`surrogate_fn` must name"),
    # Images, labels and models.
    "images-outside": (attack("fgsm", x=X * 4, epsilon=0.1), "within bounds"),
    "images-255": (attack("fgsm", x=X * 255, epsilon=0.1), "Divide by 255"),
    "images-nan": (attack("fgsm", x=X * np.nan, epsilon=0.1), "`images` must"),
    "labels-float": (attack("fgsm", y=Y * 1.0, epsilon=0.1), "`labels` must be int"),
    "labels-float-cure": (attack("fgsm", y=Y * 1.0, epsilon=0.1), "astype.int"),
    "labels-text": (attack("fgsm", y=np.array([*"aba"]), epsilon=0.1), "np.unique"),
    "labels-few-cure": (
        attack("fgsm", y=Y[:2], epsilon=0.1),
        "one label for each of the 3 images",
    ),
    "labels-one-hot": (attack("fgsm", y=np.eye(3), epsilon=0.1), "one-hot"),
    "labels-few": (attack("fgsm", y=Y[:2], epsilon=0.1), "`labels` must be"),
    "labels-negative": (attack("fgsm", y=Y - 1, epsilon=0.1), "must be in .0, 2.*-1"),
    "labels-large": (attack("fgsm", y=Y + 1, epsilon=0.1), "must be in .0, 2.*got 2"),
    "model-none": (attack("fgsm", f=None, epsilon=0.1), "`logits_fn`"),
    "model-shape": (attack("fgsm", f=jnp.sum, epsilon=0.1), "`logits_fn`"),
    "classifier": (lambda: models.make_classifier("D", 10), "Unknown target model 'D'"),
    "small-images": (
        lambda: models.make_classifier("C", 10).init(KEY, X),
        "at least 16 by 16",
    ),
    # Evaluations.
    "batch-size": (measured(batch_size=0), "`batch_size` must be"),
    "no-images": (measured(x=X[:0], y=Y[:0]), "image"),
    "evaluate-labels": (measured(y=Y[:2]), "`labels` must be"),
    "evaluate-targets": (measured(target_labels=Y + 5), "`target_labels` must be"),
    "evaluate-attack": (measured(attack=3), "attack"),
    "evaluate-logits": (measured(f=lambda x: model(x) * np.nan), "finite"),
    "attack-output": (measured(attack=lambda f, x, y, **_: x + 9), "bounds|within"),
    "sizes": (
        lambda: evaluation.evaluate_many(
            model, {"a": attacks.make_attack("fgsm")}, X, Y, epsilons=(0.1, -1.0)
        ),
        "`epsilon` must be",
    ),
    **{
        f"sizes-{value!r}": (
            lambda value=value: evaluation.evaluate_many(
                model, {"a": attacks.make_attack("fgsm")}, X, Y, epsilons=value
            ),
            message,
        )
        for value, message in {
            ("a",): "`epsilon` must be a real number >= 0, got 'a'",
            (None,): "`epsilon` must be a real number >= 0, got None",
            (1j,): "`epsilon` must be a real number >= 0, got 1j",
            (True,): "`epsilon` must be a real number >= 0, got True",
            "0.1": "`epsilons` must be several numbers.*got '0.1'",
            0.1: "`epsilons` must be several numbers.*got 0.1",
        }.items()
    },
    "within-text": (
        lambda: evaluation.within(evaluation.evaluate_clean(model, X, Y), "a", "linf"),
        "`epsilon` must be a real number >= 0, got 'a'",
    ),
    "within-several": (
        lambda: evaluation.within(evaluation.evaluate_clean(model, X, Y), [0.1], "l2"),
        "`epsilon` must be a real number >= 0, got .0.1.; pass one value",
    ),
    "pool": (lambda: evaluation.pool([]), "at least one"),
    "worst": (lambda: evaluation.worst_case_evaluation([]), "at least one"),
    "interval": (lambda: evaluation.wilson_interval(3, 2), "3"),
    "noise": (lambda: evaluation.add_noise(X, -1.0, seed=0), "`rms_distortion`"),
    "noise-seed": (lambda: evaluation.add_noise(X, 0.1, seed=2**32), "`seed` must be"),
    "noise-seed-float": (lambda: evaluation.add_noise(X, 0.1, seed=1.5), "`seed` must"),
    "row-norm": (lambda: row(norm="l3"), "Unknown norm 'l3'"),
    "row-threat": (lambda: row(threat_model="white"), "Unknown threat model 'white'"),
    "row-epsilon": (lambda: row(epsilon=-1.0), "`epsilon` must be"),
    "rows": (lambda: logs.write_results("nowhere", [{"a": 1}], {}), "ROW_KEYS"),
    "submission": (
        lambda: evaluation.check_submission(X + 1, X, epsilon=0.3),
        "image 0",
    ),
    # Data.
    "dataset": (lambda: data.load_dataset("digit"), "digits"),
    "npz-missing": (lambda: data.load_dataset("npz:none.npz"), "found none at"),
    "npz-folder": (lambda: data.load_dataset("npz:."), "found none at"),
    "split-classes": (split(classes=1), "`num_classes` must be at least 2"),
    "split-shape": (split(X.reshape(3, 4)), "must have shape"),
    "split-channels-first": (split(X.reshape(3, 1, 2, 2)), "channels last"),
    "split-range": (split(X * 255), "Divide by"),
    "split-negative": (split(X - 1), "normalisation"),
    "split-nan": (split(X * np.nan), "NaN"),
    "split-integers": (split(np.int64(X)), "uint8"),
    "split-labels": (split(labels=Y + 2), "labels.*must be in"),
    "split-empty": (split(X[:0], Y[:0]), "no images"),
    "fraction": (
        lambda: data.split_for_distillation(split()(), 1.0, seed=0),
        "`fraction` must be",
    ),
    "split-seed": (
        lambda: data.split_for_distillation(split()(), 0.4, seed=-1),
        "`seed` must be",
    ),
    "one-class": (
        lambda: data.check_trainable(split(labels=Y * 0)(), 2),
        "at least two classes, got only class 0",
    ),
    "too-many-classes": (
        lambda: data.check_trainable(split()(), 10**9),
        "1000000000 classes",
    ),
    "sparse-classes": (
        lambda: data.check_trainable(split(X[[0] * 9], np.arange(9) % 2)(), 5),
        "at least half of the 5 classes, got images of 2; .*the greatest is 1",
    ),
    # Training.
    "smoothing": (
        lambda: classifier.make_train_step(
            models.SmallNet(2), optax.sgd(1.0), label_smoothing=2.0
        ),
        "`label_smoothing` must be in",
    ),
    "smoothing-negative": (
        lambda: adversarial.make_trades_step(
            models.SmallNet(2),
            optax.sgd(1.0),
            adversarial.Crafting(attacks.make_attack("pgd")),
            label_smoothing=-1.0,
        ),
        "`label_smoothing` must be in",
    ),
    "shift": (
        lambda: classifier.augment(jnp.asarray(X), KEY, max_shift=100, flip=False),
        "`max_shift` must be from 0 to 1",
    ),
    "plan": (lambda: fit.Plan(100, batch_size=101, num_epochs=1), "`batch_size`"),
    "epochs": (lambda: fit.Plan(100, batch_size=10, num_epochs=-1), "`num_epochs`"),
    "rounds": (lambda: blackbox.Schedule(0, 1, 1, 1, 1, 1), "`num_rounds` must be"),
    # Oracles.
    "oracle-kind": (
        lambda: oracles.Oracle(model, answers="prob", num_classes=2),
        "Unknown kind of answers 'prob'",
    ),
    "oracle-function": (
        lambda: oracles.Oracle(3, answers="labels", num_classes=2),
        "`fn` must be",
    ),
    "oracle-classes": (
        lambda: oracles.Oracle(model, answers="labels", num_classes=1),
        "`num_classes` must be",
    ),
    "oracle-budget": (
        lambda: oracles.Oracle(model, answers="labels", num_classes=2, budget=0),
        "`budget` must be",
    ),
    "oracle-timeout": (
        lambda: oracles.Oracle(model, answers="labels", num_classes=2, timeout=-1),
        "`timeout` must be",
    ),
    # Folders, analysis, processes.
    "generator": (lambda: load_generator("nowhere"), "nowhere"),
    "layer": (
        lambda: analysis.hidden_features(
            models.SmallNet(2), models.SmallNet(2).init(KEY, X), X, "Dense_9"
        ),
        "Unknown layer 'Dense_9'",
    ),
    "directions-seed": (
        lambda: analysis.compare_directions(
            np.eye(3), Y, num_classes=2, seed=2**40, num_images=1
        ),
        "`seed` must be from 0",
    ),
    "directions": (
        lambda: analysis.compare_directions(np.eye(3), Y, num_classes=2, seed=0),
        "`num_images` must be",
    ),
    "mode": (lambda: parallel.choose_mode("tpu"), "Unknown parallel mode 'tpu'"),
    "coordinator": (lambda: parallel.start("nohost", 2, 0), "must be `host:port`"),
    "coordinator-port": (lambda: parallel.start("a:99999", 2, 0), "must be `host:por"),
    "coordinator-host": (
        lambda: parallel.start("no.such.host.invalid:1234", 2, 0),
        "'no.such.host.invalid' is unknown",
    ),
    "process-id": (lambda: parallel.start("a:1", 2, 2), "`process_id` must be in"),
    "processes": (lambda: parallel.start("a:1", 2), "belong together"),
}


def one_clear_line(call, message):
    with pytest.raises((*FAULTS, FileNotFoundError), match=message) as raised:
        call()
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) > 30


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_rejects(name):
    one_clear_line(*FUNCTIONS[name])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_labels": np.array([0, 1, 10**9])}, r"would make 10+1 classes"),
        ({"train_labels": Y * 1.0}, "integer class ids"),
        ({"train_labels": Y[:2]}, "integer class ids of shape .3,"),
        ({"train_images": X * 255}, "Divide by"),
        ({"train_images": np.array([{}, {}, {}])}, "plain arrays"),
        ({"test_images": X[:0], "test_labels": Y[:0]}, "no images"),
        ({"num_classes": np.array(2.5)}, "`num_classes` must be one integer"),
        ({"num_classes": np.array(1)}, "`num_classes` must be at least 2"),
    ],
)
def test_a_file_of_arrays_is_rejected(tmp_path, changes, message):
    one_clear_line(lambda: npz(tmp_path, **changes), message)


def test_a_rare_class_may_be_missing():
    some = split(X[[0] * 9], np.array([*range(8), 1]), 9)()
    with pytest.warns(UserWarning, match="1 of 9 classes have no .* is class 8"):
        data.check_trainable(some, 9)


def test_images_with_channels_first_are_noticed_everywhere():
    images = np.zeros((2, 3, 8, 8), np.float32)
    with pytest.warns(UserWarning, match="look like .B, C, H, W."):
        jax.jit(lambda x: attacks.fgsm(model, x, epsilon=0.1))(images)
    oracle = oracles.Oracle(lambda x: Y[:2], answers="labels", num_classes=2)
    with pytest.warns(UserWarning, match="look like .B, C, H, W."):
        oracle(images)


def test_checkpoints_of_an_empty_folder(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        one_clear_line(checkpoints.restore, "No checkpoint in")


# Name of the configuration, changes, and what the error names.
CONFIGURATIONS = [
    *(
        ("advgan", {name: wrong}, f"`{name}` must be")
        for name, values in {
            "seed": (2**32, -1, 2**63),
            "epsilon": (8.0, -0.1, np.nan),
            "target_training.learning_rate": (-1.0, 0.0, 1e30, np.inf),
            "target_training.label_smoothing": (2.0, -1.0, 1.0),
            "target_training.weight_decay": (-1.0, np.nan),
            "target_training.max_shift": (-1,),
            "target_training.num_epochs": (-1,),
            "target_training.batch_size": (0,),
            "target_training.defences.trades.divergence_weight": (-1.0,),
            "generator.widths": ((8, 0, 8), (8, 8), (8, 8, -8), ("a", 8, 8)),
            "generator.learning_rate": (-1e-3,),
            "discriminator.widths": ((), (0,)),
            "loss.gan_weight": (np.nan, -1.0),
            "loss.hinge_bound": (np.inf,),
            "training.steps_per_call": (0,),
            "evaluation.batch_size": (0,),
            "evaluation.num_images": (0,),
            "data_dir": ("",),
        }.items()
        for wrong in values
    ),
    ("advgan", {"target_training.max_shift": 100}, "`max_shift` must be from 0 to 7"),
    ("advgan", {"target_training.num_images": 9}, "got 10 classes"),
    ("attacks", {"epsilons": ("a",)}, "`epsilons` must be a tuple"),
    ("attacks", {"epsilons_l2": (np.nan,)}, "`epsilons_l2` must be a tuple"),
    ("attacks", {"attacks.pgd.num_steps": -1}, "`attacks.pgd.num_steps` must be"),
    ("attacks", {"attacks.pgd.num_restarts": 0}, "`attacks.pgd.num_restarts` must"),
    ("attacks", {"attacks.pgd.loss": "foo"}, "Unknown attacks.pgd.loss 'foo'"),
    ("attacks", {"attacks.pgd_l2.norm": "foo"}, "Unknown attacks.pgd_l2.norm 'foo'"),
    ("attacks", {"attacks.lbfgs.solver": "foo"}, "Unknown attacks.lbfgs.solver"),
    ("attacks", {"attacks.mi_fgsm.decay": np.nan}, "`attacks.mi_fgsm.decay` must"),
    ("attacks", {"attacks.apgd.num_steps": -3}, "`attacks.apgd.num_steps` must"),
    ("attacks", {"surrogate.seed": 2**32}, "`surrogate.seed` must be"),
    ("attacks", {"target_class": 10}, "`target_class` must be in"),
    ("defence", {"attacks.pgd.step_size": 0.5}, "`step_size` must not exceed"),
    ("defence", {"names": ()}, "`names` must be"),
    ("advgan_blackbox", {"queries.clean": 0}, "`queries.clean` must be"),
    ("advgan_blackbox", {"queries.budget": 0}, "`queries.budget` must be"),
    ("advgan_blackbox", {"answers": "prob"}, "Unknown answers 'prob'"),
    ("aigan", {"attacker.num_steps": -1}, "`attacker.num_steps` must be"),
    ("aigan", {"attacker.step_size": np.nan}, "`attacker.step_size` must be"),
    ("generators", {"target_classes": (0, 0)}, "`target_classes` must be"),
    ("reproduce", {"seed": 2**32}, "`seed` must be"),
    ("reproduce", {"attacks.opt.num_search_steps": 0}, "num_search_steps` must be"),
    ("reproduce", {"attacks.opt.confidence": np.nan}, "`attacks.opt.confidence` must"),
    ("reproduce", {"attacks.pgd100.num_restarts": 0}, "num_restarts` must be"),
    ("reproduce", {"fitted.loss.confidence": -1.0}, "`fitted.loss.confidence` must"),
    ("reproduce", {"aigan.attacker.loss": "foo"}, "Unknown aigan.attacker.loss"),
    ("reproduce", {"blackbox.distilled.learning_rate": -1.0}, "learning_rate` must"),
    ("reproduce", {"speed_model": "D"}, "Unknown speed_model 'D'"),
    ("reproduce", {"models": ()}, "`models` must be"),
    ("szegedy", {"noise": (np.nan,)}, "`noise` must be"),
    ("szegedy", {"attacks.lbfgs.num_steps": 0}, "`num_steps` must be"),
    ("szegedy", {"layerwise.attack.num_search_steps": 0}, "num_search_steps` must"),
    ("szegedy", {"networks.fc10_1.weight_decay": (-1.0,)}, "weight_decay` must be"),
    ("szegedy", {"layerwise.dropout": 1.0}, "`layerwise.dropout` must be"),
    ("target_model", {"max_resident_bytes": -1}, "`max_resident_bytes` must be"),
]


@pytest.mark.parametrize(("name", "changes", "message"), CONFIGURATIONS)
def test_a_configuration_is_rejected_and_nothing_written(
    get_config, tmp_path, name, changes, message
):
    config = get_config(name, **changes)
    one_clear_line(lambda: runs.train(config, tmp_path / "run"), message)
    assert not list(tmp_path.iterdir())


def test_a_mistyped_setting_of_a_configuration_file(get_config, tmp_path):
    config = get_config().copy_and_resolve_references().unlock()
    config.target_training.label_smothing = 0.1
    one_clear_line(
        lambda: runs.train(config, tmp_path / "run"),
        "Unknown setting 'label_smothing'. Did you mean 'label_smoothing'",
    )


def test_a_missing_setting_of_a_configuration_file(get_config, tmp_path):
    config = get_config().copy_and_resolve_references().unlock()
    del config.target_training.max_shift
    one_clear_line(lambda: runs.train(config, tmp_path / "run"), "max_shift")


def test_a_challenge_checks_its_configuration(get_config, tmp_path):
    config = get_config("defence", seed=2**32, target_model_dir=str(tmp_path / "none"))
    one_clear_line(lambda: challenge.measure_file(config, "none.npy"), "`seed` must be")


@pytest.fixture(scope="module")
def commands(fork_commands, tmp_path_factory):
    """The exit status and the output of every bad command, from one process."""
    folder = tmp_path_factory.mktemp("commands")
    (folder / "broken.py").write_text("def get_config(:\n")
    (folder / "raising.py").write_text("def get_config():\n    return undefined\n")
    (folder / "empty.py").write_text("")
    endings = fork_commands([arguments for arguments, _ in COMMANDS], folder)
    made = {path.name for path in folder.iterdir()}
    assert made - {"__pycache__"} == {"broken.py", "raising.py", "empty.py"}
    return endings


TRAIN = ["train.py", "--config=configs/advgan.py"]
CHALLENGE = ["challenge.py", "--config=configs/defence.py"]
# The arguments of a command, and what its one line contains.
COMMANDS = [
    (
        [*TRAIN, "--config.epsilom=0.1"],
        "Unknown setting 'epsilom'. Did you mean.*epsilon",
    ),
    ([*TRAIN, "--config.epsilon=much"], "epsilon"),
    ([*TRAIN, "--config.epsilon=8"], "`epsilon` must be.*divide by 255"),
    ([*TRAIN, "--config.epsilon=nan"], "`epsilon` must be"),
    ([*TRAIN, "--config.seed=4294967296"], "`seed` must be an integer from 0"),
    ([*TRAIN, "--config.seed=-1"], "`seed` must be an integer from 0"),
    ([*TRAIN, "--config.seed=1.5"], "seed"),
    ([*TRAIN, "--config.generator.widths=(8,0,8)"], "`generator.widths` must be"),
    ([*TRAIN, "--config.training.batch_size=0"], "`training.batch_size` must be"),
    ([*TRAIN, "--config.dataset=digit"], "digits"),
    ([*TRAIN, "--config.method=gan"], "Unknown method 'gan'"),
    ([*TRAIN, "--config.training=3"], "training"),
    ([*TRAIN, "--resume"], "holds no run to resume"),
    ([*TRAIN, "--resume", "--overwrite"], "give one of them"),
    ([*TRAIN, "--cpu_devices=0"], "`--cpu_devices` must be from 1"),
    ([*TRAIN, "--cpu_devices=1000"], "`--cpu_devices` must be from 1"),
    ([*TRAIN, "--resumee"], "resumee.*resume"),
    ([*TRAIN, "epsilon=0.1"], "Unexpected arguments: epsilon=0.1"),
    ([*TRAIN, "--num_processes=2"], "need --distributed"),
    ([*TRAIN, "--coordinator=nohost"], "need --distributed"),
    (
        [*TRAIN, "--distributed", "--coordinator=nohost"],
        "got no num_processes and no process_id",
    ),
    (
        [
            *(*TRAIN, "--distributed", "--coordinator=nohost"),
            *("--num_processes=2", "--process_id=0"),
        ],
        "`coordinator` must be `host:port`.*'nohost'",
    ),
    ([*TRAIN, "--distributed", "--heartbeat=0"], "`heartbeat` must be"),
    ([*TRAIN, "--compilation_cache=broken.py/cache"], "broken.py"),
    ([*TRAIN, "--workdir=broken.py"], "broken.py"),
    (["train.py"], "--config"),
    (["train.py", "--config=configs/none.py"], "none.py"),
    (["train.py", "--config=configs/advgan.py:imagenet"], "Unknown variant 'imagenet'"),
    (["train.py", "--config=broken.py"], "SyntaxError.*broken.py"),
    (["train.py", "--config=raising.py"], "NameError.*undefined.*raising.py, line 2"),
    (["train.py", "--config=empty.py"], "get_config"),
    ([*TRAIN, TRAIN[1]], "Give --config once"),
    (
        ["attack.py", "--config=configs/attacks.py", "--config.epsilons=('a',)"],
        r"`epsilons` must be a tuple .*'a'",
    ),
    (
        ["attack.py", "--config=configs/attacks.py", "--config.names=('pgdd',)"],
        "Unknown attack 'pgdd'",
    ),
    (
        [
            *("attack.py", "--config=configs/attacks.py"),
            "--config.attacks.pgd.num_steps=-1",
        ],
        "`attacks.pgd.num_steps` must be",
    ),
    (
        ["attack.py", "--config=configs/attacks.py", "--config.attacks.pgd.num_step=3"],
        "Unknown setting 'num_step'.*num_steps",
    ),
    *(
        (
            ["attack.py", "--config=configs/attacks.py", f"--config.attacks.{name}"],
            r"Unknown setting '(\w+)'\. .*`get_config` sets `config\.attacks\.\w+\.\1`",
        )
        for name in ("pgd.step_size=nan", "carlini_wagner_linf.tau_factor=1.5")
    ),
    (["reproduce.py", "--scale=large"], "Unknown scale 'large'.*smoke"),
    (["reproduce.py", "--scale"], "scale"),
    (["reproduce.py", "--table=5", "--scale=smoke"], "Unknown table '5'"),
    (
        ["reproduce.py", "--config=configs/reproduce.py", "--scale=smoke"],
        "omit it with --config",
    ),
    (["szegedy.py", "--study=unit", "--scale=smoke"], "Unknown study 'unit'"),
    (
        ["szegedy.py", "--scale=smoke", "--config.attack=pgdd"],
        "Unknown attack 'pgdd'",
    ),
    (CHALLENGE, "--file"),
    ([*CHALLENGE, "--file=none.npy"], "`target_model_dir` must be"),
    (
        [*CHALLENGE, "--file=none.npy", "--config.target_model_dir=models"],
        "none.npy",
    ),
    (
        [*CHALLENGE, "--file=broken.py", "--config.target_model_dir=models"],
        "broken.py",
    ),
    ([*CHALLENGE, "--file=a.npy", "--config.seed=-1"], "`seed` must be"),
    (["advgan-jax", "trian"], "Unknown command 'trian'. Did you mean 'train'"),
    (["advgan-jax", "train"], "--config is missing.*train --config=advgan"),
    (
        ["advgan-jax", "train", "--config=advgn"],
        "Unknown configuration 'advgn'. Did you mean 'advgan'",
    ),
    (
        ["advgan-jax", "train", "--config=advgan:imagenet"],
        "Unknown variant 'imagenet'",
    ),
    (
        ["advgan-jax", "train", "--config=attacks:mnist"],
        "does not take.*use `advgan-jax attack --config=attacks:mnist`",
    ),
    (["advgan-jax", "train", "--config", "advgan", "--resumee"], "resumee.*resume"),
    (["advgan-jax", "export", "."], "required: --format, --out"),
    (
        ["advgan-jax", "export", ".", "--format=onxx", "--out=a"],
        "invalid choice: 'onxx'",
    ),
    (
        ["advgan-jax", "export", ".", "--format=folder", "--out=a"],
        "No checkpoints in checkpoints.*or the folder of a saved generator",
    ),
    (["advgan-jax", "evaluate"], "FOLDER comes first"),
    (["advgan-jax", "evaluate", "none"], "none is not the workdir of a run.*--config="),
    (
        ["advgan-jax", "evaluate", ".", "--config=evaluate", "--levels=1"],
        "`evaluation.levels` must be",
    ),
    (
        ["advgan-jax", "evaluate", "none", "--config=evaluate"],
        "No checkpoints in none/checkpoints",
    ),
    (
        [*TRAIN, "--config.target_model=none:make"],
        "No module named 'none', which 'none:make' names",
    ),
    (
        [*TRAIN, "--config.target_model=mine"],
        "Unknown target model 'mine'.*A model of your own is `package.module:function`",
    ),
    ([*TRAIN, "--config.target_model=onnx:none.onnx"], "none.onnx does not exist"),
    ([*TRAIN, "--config.target_weights=broken.py"], "`target_weights` belong to a"),
    (["render_results.py", "page"], "Unexpected arguments: page"),
]


@pytest.mark.parametrize("number", range(len(COMMANDS)))
def test_a_command_ends_with_one_line_and_status_2(commands, number):
    arguments, message = COMMANDS[number]
    status, output = commands[number]
    assert status == 2, (arguments, output)
    (line,) = output.splitlines()
    assert line.startswith("error: ")

    assert re.search(message, line), line
