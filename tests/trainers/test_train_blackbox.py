"""Train an AdvGAN against a black box: queries, rounds, resumption, errors."""

import jax
import numpy as np
import optax
import pytest

import advgan_jax
from advgan_jax import models
from advgan_jax.oracles import Ledger, Oracle, OracleError
from advgan_jax.reporting import read_metrics
from advgan_jax.reporting.page import write_report
from advgan_jax.trainers import defaults
from advgan_jax.training.blackbox import Schedule

KEY = jax.random.key(3)
SCHEDULE = Schedule(
    num_rounds=2,
    generator_steps=2,
    distilled_steps=3,
    initial_epochs=1,
    clean_queries=12,
    perturbed_queries=8,
    generator_batch_size=8,
    distilled_batch_size=8,
)


@pytest.fixture(scope="module")
def train(model, images, tiny):
    def run(oracle=None, images=images, **changes):
        if oracle is None:
            oracle = make_oracle(model)
        arguments = {name: tiny[name] for name in tiny if "batch" not in name}
        del arguments["num_epochs"]
        arguments |= {"distilled": models.FullyConnected(3)}
        arguments |= {"distilled_optimizer": optax.sgd(0.1), "schedule": SCHEDULE}
        arguments |= {"epsilon": 0.2, "key": KEY}
        return advgan_jax.train_blackbox(oracle, images, **{**arguments, **changes})

    return run


def make_oracle(model, **options):
    asked = options.pop("asked", [])

    def fn(images):
        asked.extend(images)
        return np.asarray(model(images))

    return Oracle(fn, answers="logits", num_classes=3, batch_size=4, **options)


def test_the_callers_metrics_are_logged_after_each_round(train, model, images):
    asked, rounds, seen = [], [], []

    def measure(generator, distilled_fn, number):
        rounds.append(number)
        adversarial = generator.perturb(images)
        return {"positive_rate": float(np.mean(distilled_fn(adversarial) > 0))}

    found = train(
        make_oracle(model, asked=asked),
        measure=measure,
        callback=lambda step, metrics: seen.append((step, metrics)),
    )
    assert rounds == [1, 2]
    logged = [(s, m["queries"]) for s, m in seen if "positive_rate" in m]
    assert logged == [(5, 12), (10, 20)]
    assert len(asked) == 20
    # The first queries are clean images.
    known = {image.tobytes() for image in images}
    assert [image.tobytes() in known for image in asked] == [True] * 12 + [False] * 8
    assert np.abs(found.perturb(images) - images).max() <= 0.2
    assert 0 <= found.trained_on.success <= 1
    assert found.trained_on.name == "oracle"


def test_a_failed_training_resumes_without_repeated_queries(
    train, model, images, tmp_path
):
    whole, asked = train(), []

    def fn(pixels):
        if len(asked) == 16 and not (tmp_path / "repaired").exists():
            raise ConnectionError("line is down")
        asked.extend(pixels)
        return np.asarray(model(pixels))

    def oracle():
        ledger = Ledger(tmp_path / "queries.ledger")
        options = {"answers": "logits", "num_classes": 3, "batch_size": 4}
        return Oracle(fn, ledger=ledger, **options)

    with pytest.raises(OracleError, match="line is down"):
        train(oracle(), workdir=tmp_path)
    (tmp_path / "repaired").touch()
    resumed = train(oracle(), workdir=tmp_path)
    np.testing.assert_array_equal(resumed.perturb(images), whole.perturb(images))
    assert len(asked) == 20 + 3  # three of them again, to know the model
    assert [r["queries"] for r in read_metrics(tmp_path) if "queries" in r] == [12, 20]
    page = write_report([tmp_path]).read_text(encoding="utf8")
    assert "on training batches of the distilled model" in page
    with pytest.raises(ValueError, match=r"distilled.dropout is 0.0 there"):
        train(
            oracle(), workdir=tmp_path, distilled=models.FullyConnected(3, dropout=0.5)
        )


def test_the_default_schedule_has_no_more_queries_than_asked_for():
    for distillation in defaults.DISTILLATIONS:
        for num_queries, num_images in ((20, 10), (437, 437), (20_000, 20_000)):
            made = defaults.schedule(distillation, num_queries, num_images)
            made.check_images(num_images, (8, 8, 1))
            assert 0.9 * min(num_queries, num_images) <= sum(made.query_counts)
            assert sum(made.query_counts) <= num_queries
    full = defaults.schedule("dynamic", 20_000, 20_000)
    assert full.query_counts == [11_000, *[1_000] * 9]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"oracle": lambda x: x}, TypeError, "must be an `oracles.Oracle`"),
        ({"schedule": None, "distillation": "statik"}, ValueError, "dynamic, static"),
        ({"schedule": None, "num_queries": 3}, ValueError, "`num_queries` must be"),
        ({"target_class": 3}, ValueError, "`target_class` must be"),
        ({"images": np.zeros((5, 5, 7, 2), np.float32)}, ValueError, "has 5 images"),
        ({"distilled": models.FullyConnected(4)}, ValueError, "the 3 classes of the"),
        ({"workdir": "here"}, ValueError, "needs an oracle whose ledger is a file"),
    ],
)
def test_wrong_arguments_query_nothing(train, model, changes, error, message):
    asked = []
    arguments = {"oracle": make_oracle(model, asked=asked), **changes}
    with pytest.raises(error, match=message):
        train(**arguments)
    assert not asked
