"""Train an AdvGAN against any model: kinds of models and pixels, folders, errors."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import advgan_jax
from advgan_jax import parallel, trainers
from advgan_jax.data import Split
from advgan_jax.evaluation import evaluate
from advgan_jax.reporting import read_metrics
from advgan_jax.reporting.page import write_report
from advgan_jax.trainers import problem

KEY = jax.random.key(3)


@pytest.fixture(scope="module")
def train(model, images, labels, tiny):
    """Train on the small task, but for some arguments."""

    def run(logits_fn=model, images=images, labels=labels, **changes):
        arguments = {"epsilon": 0.2, "key": KEY, **tiny, **changes}
        return advgan_jax.train_advgan(logits_fn, images, labels, **arguments)

    return run


@pytest.fixture(scope="module")
def trained(train):
    return train()


def test_models_are_identified_by_what_they_compute(images, labels):
    """By weights that change no class, and by the logits of a model of the host."""
    weights = np.random.default_rng(0).normal(size=(70, 3)).astype(np.float32)

    def identity(logits_fn):
        made = problem.make_problem(
            logits_fn, images, labels, epsilon=0.2, bounds=(0.0, 1.0)
        )
        return problem.identify(made)["model"]

    def plain(weights):
        return lambda x: x.reshape(len(x), -1) @ jnp.asarray(weights)

    assert identity(plain(weights)) == identity(plain(weights.copy()))
    slightly = weights * (1 + 1e-6)
    assert identity(plain(weights)) != identity(plain(slightly))
    on_host = identity(host_model(weights))
    assert on_host == identity(host_model(weights))
    assert on_host == identity(host_model(slightly))  # rounding of another machine
    assert on_host != identity(host_model(1.1 * weights))


def same(one, two, atol=0.0):
    for a, b in zip(*map(jax.tree.leaves, (one.params, two.params)), strict=True):
        np.testing.assert_allclose(a, b, atol=atol, rtol=0)


@pytest.mark.parametrize("xp", [np, jnp])
def test_numbers_may_be_arrays(model, images, labels, xp):
    numbers = {"epsilon": xp.float32(0.25), "bounds": xp.asarray([0.0, 1.0])}
    made = problem.make_problem(model, images, labels, **numbers)
    assert (made.epsilon, made.bounds) == (0.25, (0.0, 1.0))
    assert type(made.epsilon) is type(made.pixel_epsilon) is float
    assert hash(made.bounds)


class Own(nnx.Module):
    """A user's model, with a part that differs in training."""

    def __init__(self, weights):
        self.weights = nnx.Param(weights)
        self.dropout = nnx.Dropout(0.5, rngs=nnx.Rngs(0))

    def __call__(self, images):
        flat = self.dropout(8 * (images.reshape(len(images), -1) - 0.5))
        return flat @ self.weights[...]


def host_model(weights):
    """A model outside of JAX, with its own gradient."""
    weights = np.asarray(weights)

    def on_host(images, back):
        flat = np.asarray(images).reshape(len(images), -1)
        logits = 8 * (flat - np.float32(0.5)) @ weights
        gradient = (8 * np.asarray(back) @ weights.T).reshape(images.shape)
        return logits.astype(np.float32), gradient.astype(np.float32)

    def call(images, back):
        shapes = (back, jax.ShapeDtypeStruct(images.shape, jnp.float32))
        return jax.pure_callback(on_host, shapes, images, back)

    @jax.custom_vjp
    def logits_fn(images):
        return call(images, jnp.zeros((len(images), weights.shape[1])))[0]

    def backward(images, back):
        return (call(images, back)[1],)

    logits_fn.defvjp(lambda images: (logits_fn(images), images), backward)
    return logits_fn


def test_functions_modules_and_callbacks_are_models(train, trained, model):
    weights = model.args[0]
    own = Own(weights)
    own.eval()
    for logits_fn in (lambda images: model(images), own, host_model(weights)):
        # The same products in another order.
        same(train(logits_fn), trained, atol=1e-5)


def test_pixels_of_other_units_train_the_same_generator(train, trained, model, images):
    def of_bytes(pixels):
        return model(pixels / 255)

    wide = train(of_bytes, 255 * images, bounds=(0, 255), epsilon=51)
    # Pixels are rounded once more.
    same(wide, trained, atol=1e-5)
    assert wide.bounds == (0.0, 255.0)
    assert wide.epsilon == 51.0
    found = wide.perturb(255 * images)
    # A unit in the last place of 255, and the differences above.
    np.testing.assert_allclose(found / 255, trained.perturb(images), atol=1e-5)
    bytes_ = np.round(255 * images).astype(np.uint8)
    same(
        train(of_bytes, bytes_, bounds=(0, 255), epsilon=51),
        train(model, bytes_),
        atol=1e-5,
    )


def test_the_result_knows_its_training_and_attacks(trained, model, images, labels):
    assert trained.image_shape == (5, 7, 2)
    assert (trained.num_classes, trained.epsilon) == (3, 0.2)
    assert trained.target_class is None
    record = trained.trained_on
    assert (record.name, record.seed) == ("Partial", 3)
    assert 0 <= record.success <= 1
    assert record.versions["jax"] == jax.__version__
    assert evaluate(model, trained, images, labels).num_images == 24


def test_predictions_replace_missing_labels(train, trained, images, labels):
    same(train(labels=None), trained)
    same(train(images=Split(images, labels.astype(np.int32)), labels=None), trained)


def test_the_callback_sees_every_logged_step(train):
    seen = []
    found = train(
        callback=lambda step, metrics: seen.append((step, dict(metrics))),
        num_epochs=3,
        target_class=1,
        gan_weight=0.5,
        name="mine",
    )
    assert [step for step, _ in seen] == [3, 6, 9]
    assert found.trained_on.success == seen[-1][1]["success_rate"]
    assert found.trained_on.name == "mine"
    assert found.target_class == 1


def test_a_stopped_training_resumes_to_the_same_bits(
    train, trained, model, images, tmp_path, monkeypatch, stop_before
):
    stop_before(2)
    with pytest.raises(trainers.Stopped, match="step 2 of AdvGAN; saved"):
        train(workdir=tmp_path)
    monkeypatch.undo()
    resumed = train(workdir=str(tmp_path))
    same(resumed, trained)
    module = trained.module
    same(advgan_jax.load_generator(tmp_path, module=module), trained)
    with pytest.raises(ValueError, match="OwnGenerator, which is not of this library"):
        advgan_jax.load_generator(tmp_path)
    assert (tmp_path / "figures" / "curves.png").exists()
    steps = [row["step"] for row in read_metrics(tmp_path)]
    assert steps == [2, 3, 6]
    page = write_report([tmp_path]).read_text(encoding="utf8")
    assert all(
        text in page for text in ("success in training", "OwnGenerator", "at step 6")
    )
    assert "<span>on training batches</span>" in page
    assert "up to step 6; whether it finished is not stored" in page
    assert "The training has not stored its command" in page
    assert "training time" in page
    # A finished training makes no step.
    monkeypatch.setattr(parallel, "compile_steps", None)
    again = train(workdir=tmp_path)
    same(again, trained)
    assert again.trained_on.success == resumed.trained_on.success
    for changes, message in (
        ({"num_epochs": 3}, "num_epochs is 2 there and 3 here"),
        ({"generator_optimizer": optax.sgd(0.2)}, "generator_optimizer is"),
        ({"images": images[::-1]}, "data is"),
        ({"logits_fn": lambda x: -model(x)}, "model is"),
        ({"logits_fn": lambda x: 1.5 * model(x)}, "model is"),  # the same classes
        ({"hinge_weight": 0.0}, "loss.hinge_weight is None there and 0.0 here"),
    ):
        with pytest.raises(ValueError, match=f"belong to other settings.*{message}"):
            train(workdir=tmp_path, **changes)


def test_a_log_of_somebody_else_s_is_kept(train, tmp_path):
    (tmp_path / "metrics.jsonl").write_text("mine\n")
    with pytest.raises(ValueError, match=r"metrics.jsonl but no checkpoints.*another"):
        train(workdir=tmp_path)
    assert (tmp_path / "metrics.jsonl").read_text() == "mine\n"


class Fixed(nn.Module):
    """Networks of wrong shapes, or with more than weights."""

    size: int = 3
    norm: bool = False

    @nn.compact
    def __call__(self, images):
        if self.norm:
            images = nn.BatchNorm(use_running_average=False)(images)
        return nn.Dense(self.size)(images)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"hinge_wieght": 1.0}, TypeError, "Did you mean 'hinge_weight'"),
        ({"epochs": 3}, TypeError, "Did you mean 'num_epochs'.*Known: .*batch_size"),
        ({"key": 0}, TypeError, "`key` must be a typed key"),
        ({"key": None}, ValueError, "`train_advgan` draws random numbers"),
        ({"epsilon": -0.1}, ValueError, "`epsilon` must be a finite number >= 0"),
        ({"epsilon": ".2"}, TypeError, "`epsilon` must be a real number"),
        ({"epsilon": np.full(2, 0.2)}, TypeError, "`epsilon` must be a real number"),
        ({"bounds": ()}, ValueError, "`bounds` must be"),
        ({"target_class": True}, TypeError, "`target_class` must be an integer"),
        ({"bounds": (1, 0)}, ValueError, "`bounds` must be"),
        ({"bounds": (0.0, 0.5)}, ValueError, "`images` must lie within bounds"),
        ({"target_class": 3}, ValueError, r"`target_class` must be in \[0, 3\)"),
        ({"batch_size": 25}, ValueError, "`batch_size` must be from 1 to the 24"),
        ({"batch_size": 0}, ValueError, "`batch_size` must be an integer >= 1"),
        ({"num_epochs": -1}, ValueError, "`num_epochs` must be an integer >= 0"),
        ({"num_epochs": 1.5}, ValueError, "`num_epochs` must be .*, got 1.5"),
        ({"gan_weight": -1}, ValueError, "`gan_weight` must be a finite number"),
        ({"hinge_weight": np.nan}, ValueError, "`hinge_weight` must be .* got nan"),
        ({"steps_per_call": 0}, ValueError, "`steps_per_call` must be an integer"),
        ({"epochs_per_checkpoint": 0}, ValueError, "`epochs_per_checkpoint` must"),
        ({"labels": np.arange(24)}, ValueError, r"must be in \[0, 3\), got 3"),
        ({"labels": np.zeros(23, int)}, ValueError, r"of shape \(24,\)"),
        ({"images": np.zeros((24, 70), np.float32)}, ValueError, r"shape \[B, H, W, C"),
        ({"images": np.zeros((0, 5, 7, 2))}, ValueError, "must hold at least one"),
        ({"images": np.full((24, 5, 7, 2), np.nan)}, ValueError, "from nan to nan"),
        ({"adversarial_loss": "hinge"}, ValueError, "Unknown adversarial loss"),
        ({"gan_loss": "wgan"}, ValueError, "Unknown"),
        ({"parallel": "all"}, ValueError, "Unknown parallel mode 'all'"),
        ({"compute_dtype": "float16"}, ValueError, "Unknown compute_dtype"),
        ({"logits_fn": 3}, TypeError, "`logits_fn` must be a function"),
        (
            {"logits_fn": Own(jnp.ones((70, 3)))},
            ValueError,
            r"'dropout'; call `.ev",
        ),
        ({"logits_fn": lambda x: x}, ValueError, r"logits of shape \(8, K\)"),
        (
            {"logits_fn": lambda x: x.reshape(len(x), -1).astype(int)},
            TypeError,
            "in floating point, got int32",
        ),
        (
            {"logits_fn": lambda x: jnp.log(x.reshape(len(x), -1) - 9)},
            ValueError,
            "must return finite logits",
        ),
        ({"generator": Fixed()}, ValueError, r"`generator` must map images \[2, 5, 7"),
        ({"generator": Fixed(2, norm=True)}, ValueError, "got batch_stats, params"),
        ({"discriminator": Fixed()}, ValueError, "`discriminator` must map"),
        ({"generator": lambda x: x}, TypeError, "must be a Flax Linen module"),
    ],
)
def test_wrong_arguments_write_nothing(train, tmp_path, changes, error, message):
    with pytest.raises(error, match=message):
        train(**changes, workdir=tmp_path / "new")
    assert not (tmp_path / "new").exists()
