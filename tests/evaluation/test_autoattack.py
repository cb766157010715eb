"""AutoAttack on models whose robust images are known."""

import json
import re
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.tree_util import Partial

from advgan_jax.evaluation import _sequence, autoattack, make_row

KEY = jax.random.key(0)
NUM_IMAGES, NUM_PIXELS = 23, 6
ORDERS = {"linf": (np.inf, 1), "l2": (2, 2), "l1": (1, np.inf)}


def linear(weights, images):
    return images.reshape(len(images), -1) @ weights


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Few steps and queries, which suffice on linear models."""
    monkeypatch.setattr(_sequence, "_NUM_STEPS", 20)
    monkeypatch.setattr(_sequence, "_NUM_QUERIES", 20)


@pytest.fixture(scope="module")
def problem():
    """A linear model, images in the middle of the box, and four wrong labels."""
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(NUM_PIXELS, 4)).astype(np.float32)
    images = rng.uniform(0.4, 0.6, (NUM_IMAGES, 3, 2, 1)).astype(np.float32)
    model = Partial(linear, jnp.asarray(weights))
    labels = np.array(jnp.argmax(model(images), axis=-1))
    labels[::6] = (labels[::6] + 1) % 4
    return model, images, labels


def distances(problem, norm):
    """The least distance to another class; 0 where the label is wrong."""
    model, images, labels = problem
    weights = np.asarray(model.args[0], np.float64)
    scores = images.reshape(NUM_IMAGES, -1) @ weights
    found = []
    for row, label in zip(scores, labels, strict=True):
        gaps = row[label] - np.delete(row, label)
        normals = weights[:, [label]] - np.delete(weights, label, axis=1)
        sizes = np.linalg.norm(normals, ORDERS[norm][1], axis=0)
        found.append(max((gaps / sizes).min(), 0))
    return np.array(found)


@pytest.mark.parametrize(
    "norm", ["linf", *(pytest.param(n, marks=pytest.mark.slow) for n in ("l2", "l1"))]
)
def test_it_breaks_exactly_what_can_be_broken(norm, problem):
    model, images, labels = problem
    least = np.sort(distances(problem, norm))
    # Between two distances, so that rounding decides nothing.
    gaps = np.diff(least[8:16])
    middle = 8 + int(np.argmax(gaps))
    epsilon = float(least[middle : middle + 2].mean())
    result = autoattack(
        *(model, images, labels), norm=norm, epsilon=epsilon, key=KEY, batch_size=8
    )
    broken = distances(problem, norm) < epsilon
    np.testing.assert_array_equal(result.broken_by != "", broken)
    np.testing.assert_array_equal(~result.evaluation.succeeded, ~broken)
    assert result.robust_accuracy == 1 - broken.mean()
    assert result.clean_accuracy == 1 - 4 / NUM_IMAGES
    change = (result.adversarial - images).reshape(NUM_IMAGES, -1)
    assert np.linalg.norm(change, ORDERS[norm][0], axis=1).max() <= epsilon + 1e-6
    assert (change[~broken] == 0).all()
    first = next(iter(result.components.values()))
    assert first.attacked == NUM_IMAGES - 4
    assert sum(c.fooled for c in result.components.values()) == broken.sum() - 4
    assert [*result.components] == [*_sequence.VERSIONS["standard"]]
    assert result.version == "standard"
    after = result.after()
    for name, component in result.components.items():
        assert after[name].robust_accuracy == component.robust_accuracy
    np.testing.assert_array_equal(after["square"].l2, result.evaluation.l2)
    assert (after["apgd-ce"].l2[result.broken_by == "square"] == 0).all()


def rounded(model):
    """A defence with the same logits at the clean images, which are rounded already."""
    known = model.args[0]
    return lambda x: linear(known, jnp.where(jnp.abs(x - 0.5) < 0.11, x, 0.5))


def straight_through(model):
    """The same logits everywhere, with another gradient."""

    def gradient_of_another(x):
        other = 2 * model(x)
        return lax.stop_gradient(model(x) - other) + other

    return gradient_of_another


def test_a_resumed_run_has_the_same_bits(problem, tmp_path, monkeypatch):
    model, images, labels = problem
    hyper = {"epsilon": 0.05, "key": KEY, "batch_size": 8}
    hyper |= {"only": ["apgd-ce", "square", "fab-t"]}
    whole = autoattack(model, images, labels, **hyper)
    path, real, calls = tmp_path / "state.npz", _sequence.TimedAttack, []

    class Killed(real):
        def __call__(self, *arguments):
            calls.append(arguments)
            if len(calls) in (2, 6):  # in the first attack, and in a later one
                raise KeyboardInterrupt
            return super().__call__(*arguments)

    monkeypatch.setattr(_sequence, "TimedAttack", Killed)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            autoattack(model, images, labels, state_path=path, **hyper)
    resumed = autoattack(model, images, labels, state_path=path, **hyper)
    np.testing.assert_array_equal(resumed.adversarial, whole.adversarial)
    np.testing.assert_array_equal(resumed.broken_by, whole.broken_by)
    for name, component in whole.components.items():
        assert resumed.components[name][:3] == component[:3]
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    count = len(calls)
    again = autoattack(model, images, labels, state_path=path, **hyper)
    assert len(calls) == count
    np.testing.assert_array_equal(again.adversarial, whole.adversarial)
    for other in ({"key": jax.random.key(1)}, {"epsilon": 0.06}, {"version": "plus"}):
        with pytest.raises(ValueError, match="state of this evaluation"):
            autoattack(model, images, labels, state_path=path, **{**hyper, **other})
    monkeypatch.setattr(_sequence, "_NUM_STEPS", 7)
    with pytest.raises(ValueError, match="state of this evaluation"):
        autoattack(model, images, labels, state_path=path, **hyper)
    monkeypatch.undo()
    doubled = Partial(linear, 2 * model.args[0])
    with pytest.raises(ValueError, match="another model"):
        autoattack(doubled, images, labels, state_path=path, **hyper)
    for other in (rounded(model), straight_through(model)):
        with pytest.raises(ValueError, match="another model"):
            autoattack(other, images, labels, state_path=path, **hyper)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"a state of `autoattack`.*delete it"):
        autoattack(model, images, labels, state_path=path, **hyper)


def test_few_images_make_small_batches(problem, monkeypatch):
    model, images, labels = problem
    real, sizes = _sequence.TimedAttack, []

    class Watched(real):
        def __call__(self, task, epsilon, i, batch):
            sizes.append((len(batch.images), int(batch.mask.sum())))
            return super().__call__(task, epsilon, i, batch)

    monkeypatch.setattr(_sequence, "TimedAttack", Watched)
    epsilon = float(np.sort(distances(problem, "linf"))[-5:-3].mean())
    hyper = {"epsilon": epsilon, "key": KEY, "only": ["apgd-ce", "fab-t"]}
    left = autoattack(model, images, labels, **hyper).components["fab-t"].attacked
    assert 0 < left < NUM_IMAGES - 4
    assert sizes[0] == (20, NUM_IMAGES - 4)
    assert sizes[1][1] == left <= sizes[1][0] < 1.25 * left


@pytest.mark.parametrize(
    ("num_images", "size"), [(1, 1), (7, 7), (9, 10), (33, 40), (449, 500), (900, 500)]
)
def test_sizes_of_batches(num_images, size):
    assert _sequence._batch_size(num_images, 500) == size


def test_nothing_to_attack(problem):
    model, images, _ = problem
    wrong = (np.array(jnp.argmax(model(images), axis=-1)) + 1) % 4
    result = autoattack(model, images, wrong, epsilon=0.1, key=KEY)
    assert result.robust_accuracy == result.clean_accuracy == 0
    assert all(c[:3] == (0, 0, 0.0) for c in result.components.values())
    np.testing.assert_array_equal(result.adversarial, images)
    assert set(result.broken_by) == {"clean"}


def test_the_sequence_follows_the_released_code():
    own = _sequence.make_sequence("plus", _sequence.VERSIONS["plus"], "l2", 0.5, 10)
    known = {name: attack.arguments for name, attack in own.items()}
    for name in ("apgd-ce", "apgd-dlr", "square"):
        assert known[name]["as_in_autoattack"] is True
    assert [known[n]["sufficient_distance"] for n in ("fab", "fab-t")] == [0.5, 0.5]
    assert known["fab"]["num_restarts"] == 5
    (fab,) = _sequence.make_sequence("standard", ["fab"], "l2", 0.5, 10).values()
    assert fab.arguments["num_restarts"] == 1
    own = _sequence.make_sequence("standard", [*known], "l1", 12.0, 10)
    starts = {
        name: attack.arguments.get("num_restarts") for name, attack in own.items()
    }
    assert starts["apgd-ce"] == starts["apgd-dlr"] == 5
    assert starts["fab"] == starts["apgd-t"] == 1


@pytest.mark.slow
def test_the_longer_version_runs(problem):
    model, images, labels = problem
    hyper = {"epsilon": 0.05, "key": KEY, "version": "plus", "batch_size": 8}
    result = autoattack(model, images, labels, **hyper)
    assert [*result.components] == [*_sequence.VERSIONS["plus"]]
    broken = distances(problem, "linf") < 0.05
    np.testing.assert_array_equal(result.broken_by != "", broken)
    # From the last attack on, each finds what remains alone.
    for name in ("fab", "apgd-t", "apgd-dlr"):
        one = autoattack(model, images, labels, **hyper, only=[name])
        np.testing.assert_array_equal(one.broken_by != "", broken)


def test_epsilon_of_zero(problem):
    model, images, labels = problem
    hyper = {"epsilon": 0.0, "key": KEY, "only": ["apgd-ce", "fab-t", "square"]}
    result = autoattack(model, images, labels, **hyper)
    assert result.robust_accuracy == result.clean_accuracy
    np.testing.assert_array_equal(result.adversarial, images)


def test_rows_and_entries(problem):
    model, images, labels = problem
    hyper = {"epsilon": 0.05, "key": KEY, "only": ["apgd-ce"], "keep": 2}
    result = autoattack(model, images, labels, **hyper)
    assert result.evaluation.examples.shape == (2, 3, 2, 1)
    fields = {"experiment": "e", "dataset": "d", "target_model": "m", "seed": 0}
    fields |= {"threat_model": "white-box", "epsilon": 0.05, "norm": "linf"}
    row = make_row(result.evaluation, attack="autoattack", **fields)
    assert row["robust_accuracy"] == result.robust_accuracy
    assert row["attack_success_rate"] == result.evaluation.success().rate
    entry = json.loads(json.dumps(result.entry(name="linear", dataset="none")))
    assert entry["autoattack_acc"] == round(100 * result.robust_accuracy, 2)
    assert (entry["name"], entry["eps"], entry["threat_model"]) == (
        *("linear", 0.05, "linf"),
    )
    assert entry["version"] == "custom"  # one attack of the four
    every = _sequence.VERSIONS["rand"]
    hyper |= {"only": list(reversed(every))}
    assert autoattack(model, images, labels, **hyper).version == "custom"
    assert "robust" in repr(result)
    assert len(repr(result)) < 100


@pytest.mark.slow
@pytest.mark.parametrize("noise", [1e-6, 1.0])
def test_a_randomised_model(noise, problem):
    """The first verdict on an image stands, though another draw might differ."""
    model, images, labels = problem

    def noisy(x, key):
        return model(x) + noise * jax.random.normal(key, (len(x), 4))

    hyper = {"epsilon": 0.05, "key": KEY, "version": "rand"}
    result = autoattack(noisy, images, labels, **hyper)
    assert [*result.components] == ["apgd-ce", "apgd-dlr"]
    assert result.robust_accuracy == result.components["apgd-dlr"].robust_accuracy
    assert result.robust_accuracy == (result.broken_by == "").mean()
    first = result.after()["apgd-ce"].robust_accuracy
    assert first == result.components["apgd-ce"].robust_accuracy
    if noise < 1e-3:  # far less than the margins
        one = {"epsilon": 0.05, "key": KEY, "only": ["apgd-ce"]}
        exact = autoattack(model, images, labels, **one).robust_accuracy
        assert result.robust_accuracy == pytest.approx(exact, abs=0.05)


def test_answers_that_change(problem):
    _, images, labels = problem
    calls = []

    def host(x):
        calls.append(1)
        scores = np.zeros((len(x), 4), np.float32)
        scores[:, 0] = 1
        return scores + np.float32(1e-3 * len(calls))

    @jax.custom_jvp
    def model(x):
        shape = jax.ShapeDtypeStruct((len(x), 4), jnp.float32)
        return jax.pure_callback(host, shape, x)

    @model.defjvp
    def _(primals, tangents):
        (x,), (slope,) = primals, tangents
        return model(x), jnp.stack([slope.reshape(len(x), -1).sum(axis=1)] * 4, axis=1)

    draw = np.random.default_rng(0)

    def draws_while_traced(x):
        return jnp.ones((len(x), 1)) * draw.uniform(size=4).astype(np.float32)

    wrong = np.full_like(labels, 9 % 4)
    for changing in (model, draws_while_traced):
        with pytest.warns(UserWarning, match=r"answers .* change.*version=\"rand\""):
            autoattack(changing, images, wrong, epsilon=0.05, key=KEY, only=["square"])


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda z: jax.nn.softmax(z), "look like probabilities"),
        (lambda z: jnp.round(8 * z), "gradient of the margin vanishes"),
        (lambda z: z[:, :3], "3 classes, fewer than the DLR losses need"),
    ],
)
def test_warnings_of_models(change, match, problem):
    model, images, _ = problem
    wrong = (np.array(jnp.argmax(model(images)[:, :3], axis=-1)) + 1) % 3
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        hyper = {"epsilon": 0.1, "key": KEY, "only": ["apgd-t"]}
        autoattack(lambda x: change(model(x)), images, wrong, **hyper)
    assert any(re.search(match, str(warning.message)) for warning in found)


def test_logits_that_are_not_finite_near_an_image(problem):
    """Attacks avoid such images, and would count the model as robust."""
    model, images, labels = problem

    def fragile(x):
        moved = jnp.abs(x - images.mean()).max(axis=(1, 2, 3)) > 0.13
        return jnp.where(moved[:, None], jnp.nan, model(x))

    hyper = {"epsilon": 0.05, "key": KEY, "only": ["square"]}
    with pytest.raises(ValueError, match=r"finite.* for noisy image"):
        autoattack(fragile, images, labels, **hyper)


def test_warning_of_what_only_square_finds(problem):
    """The model has no gradient; without earlier attacks that is no surprise."""
    model, images, labels = problem

    def flat(x):
        return jax.lax.stop_gradient(model(x))

    def run(*names):
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            result = autoattack(flat, images, labels, epsilon=0.3, key=KEY, only=names)
        return result, " ".join(str(warning.message) for warning in found)

    alone, message = run("square")
    assert alone.components["square"].fooled > 0
    assert "`square`, which needs no gradients" not in message
    assert "gradient of the margin" not in message
    assert "`square`, which needs no gradients" not in run("square", "apgd-ce")[1]
    assert (
        "`square`, which needs no gradients" not in run("apgd-ce", "square", "fab-t")[1]
    )
    message = run("fab-t", "square")[1]
    assert "`square`, which needs no gradients" in message
    assert "gradient of the margin vanishes" in message


def test_bad_arguments(problem):
    model, images, labels = problem
    hyper = {"epsilon": 0.1, "key": KEY}
    for change, error, match in (
        ({"version": "fast"}, ValueError, "version 'fast'.*plus, rand, standard"),
        ({"norm": "l0"}, ValueError, "norm 'l0'"),
        ({"epsilon": -1}, ValueError, "epsilon"),
        ({"key": None}, ValueError, "needs a key"),
        ({"only": ["pgd"]}, ValueError, "attack of AutoAttack 'pgd'.*apgd-ce"),
        ({"batch_size": 0}, ValueError, "batch_size"),
        ({"only": []}, ValueError, "at least one attack, each once"),
        ({"only": ["square", "square"]}, ValueError, "each once, got"),
    ):
        with pytest.raises(error, match=match):
            autoattack(model, images, labels, **{**hyper, **change})
    with pytest.raises(TypeError, match="sequence of names, got 'square'"):
        autoattack(model, images, labels, only="square", **hyper)
    with pytest.raises(TypeError, match=r"function of images and key, .* version='ra"):
        autoattack(model, images, labels, version="rand", **hyper)
    with pytest.raises(TypeError, match=r"function of images, got .* version='rand'"):
        autoattack(lambda x, key: model(x), images, labels, **hyper)
