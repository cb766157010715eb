"""Attacks on oracles: the same proposals and counts as on a JAX model, and faults."""

import http_service as local
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from advgan_jax import attacks
from advgan_jax.blackbox import attack_oracle
from advgan_jax.oracles import (
    HttpOracle,
    ImageFiles,
    Ledger,
    Oracle,
    OracleError,
    _requests,
    from_logits_fn,
)

KEY = jax.random.key(2)
IMAGES = np.random.default_rng(0).uniform(0.3, 0.7, (12, 4, 4, 1)).astype(np.float32)
WEIGHTS = np.random.default_rng(1).normal(size=(16, 3)).astype(np.float32)
LABELS = (IMAGES.reshape(12, 16) @ WEIGHTS).argmax(1).astype(np.int32)
SQUARE = attacks.make_attack("square", epsilon=0.12, num_queries=20)


def linear(weights, images):
    return images.reshape(len(images), -1) @ weights


MODEL = Partial(linear, jnp.asarray(WEIGHTS))


def host(images):
    return linear(WEIGHTS, images)


def make_oracle(fn=host, **options):
    usual = {"answers": "logits", "num_classes": 3, "batch_size": 5, "probe": 0}
    return Oracle(fn, **usual | options)


@pytest.fixture(scope="module")
def whole():
    """What an attack that nothing interrupts finds."""
    oracle = make_oracle()
    return oracle, attack_oracle(oracle, SQUARE, IMAGES, LABELS, key=KEY)


def same(found, expected):
    for some, others in zip(found, expected, strict=True):
        np.testing.assert_array_equal(some, others)


def test_proposals_and_counts_are_those_of_the_compiled_loop(whole):
    proposed = set()

    def record(images):
        proposed.update(image.tobytes() for image in np.asarray(images))

    def watched(images):
        jax.debug.callback(record, images)
        return MODEL(images)

    oracle, found = whole
    expected = attacks.square_search(
        watched, IMAGES, LABELS, key=KEY, **SQUARE.hyperparams
    )
    jax.effects_barrier()
    same(found[:3], expected)
    assert found.queries.sum() == oracle.queries == len(oracle.ledger)
    assert {image.tobytes() for image in oracle.ledger.made()[0]} <= proposed
    assert 0 < found.success.sum() < 12
    assert (found.queries[~found.success] == 20).all()
    assert len(set(found.queries.tolist())) >= 3
    assert found.finished.all()
    assert (
        np.argmax(host(found.images), 1) != LABELS
    ).tolist() == found.success.tolist()


def test_a_second_call_compiles_nothing(whole, compiles):
    oracle, (first, *_) = make_oracle(), whole[1]
    same_attack = attacks.make_attack("square", epsilon=0.12, num_queries=20)
    with compiles(0):
        found = attack_oracle(oracle, same_attack, IMAGES, LABELS, key=KEY)
    np.testing.assert_array_equal(found.images, first)


def each(images):
    """Return what does not depend on the other images of a batch."""
    return np.stack([image.ravel() @ WEIGHTS for image in np.asarray(images)])


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(attacks.QUERY_ATTACKS))
def test_every_attack_proposes_the_same_bits_on_an_oracle(name):
    """Both get the oracle's answers, so that only proposals could differ.

    In two attacks the compiled loop multiplies and adds by one instruction where a
    step of its own does not. So pixels differ by one rounding, which later steps of
    Bandits amplify.
    """
    epsilon = 0.6 if name == "hop_skip_jump" else 0.12
    few = 45 if name == "bandits" else 200
    attack = attacks.make_attack(name, epsilon=epsilon, num_queries=few)
    by_class = name in ("rays", "hop_skip_jump")
    kind = "labels" if by_class else "logits"
    answer = (lambda images: each(images).argmax(1)) if by_class else each
    options = {"answers": kind, "batch_size": 64}
    oracle, same_model = (make_oracle(answer, **options) for _ in range(2))

    def logarithms(images):
        return np.log(np.maximum(same_model(images), np.finfo(np.float32).tiny))

    def model(images):
        shape = jax.ShapeDtypeStruct((len(images), 3), jnp.float32)
        return jax.pure_callback(logarithms, shape, images)

    found = attack_oracle(oracle, attack, IMAGES, LABELS, key=KEY)
    search = getattr(attacks, f"{name}_search")
    expected = search(model, IMAGES, LABELS, key=KEY, **attack.hyperparams)
    same(found[1:3], expected[1:])
    if name in ("bandits", "hop_skip_jump"):
        np.testing.assert_allclose(found.images, expected.images, rtol=0, atol=3e-7)
    else:
        same(found[:1], expected[:1])
        ours, theirs = (
            {image.tobytes() for image in one.ledger.made()[0]}
            for one in (oracle, same_model)
        )
        assert ours <= theirs
    assert oracle.queries == found.queries.sum()
    assert 0 < found.success.sum() <= 12


@pytest.mark.slow
def test_a_jax_model_as_an_oracle_and_a_target(whole):
    wanted = (LABELS + 1) % 3
    attack = attacks.make_attack("signhunter", epsilon=0.2, num_queries=30)
    oracle = from_logits_fn(MODEL, num_classes=3, batch_size=7)
    found = attack_oracle(oracle, attack, IMAGES, wanted, targeted=True)
    expected = attacks.signhunter_search(
        MODEL, IMAGES, wanted, targeted=True, **attack.hyperparams
    )
    same(found[:3], expected)
    assert oracle.queries == found.queries.sum()


@pytest.mark.parametrize("name", ["rays", "hop_skip_jump"])
def test_targeted_attacks_by_classes_start_at_images_of_the_wanted_class(name):
    wanted = (LABELS + 1) % 3
    towards = np.sign(WEIGHTS[:, wanted] - WEIGHTS[:, LABELS]).T.reshape(IMAGES.shape)
    starts = np.clip(IMAGES + 0.3 * towards, 0, 1)
    assert (host(starts).argmax(1) == wanted).all()
    norm = {"hop_skip_jump": {"norm": "linf"}}.get(name, {})
    attack = attacks.make_attack(name, epsilon=0.4, num_queries=300, **norm)
    oracle = make_oracle(lambda images: host(images).argmax(1), answers="labels")
    found = attack_oracle(
        *(oracle, attack, IMAGES, wanted), key=KEY, targeted=True, starts=starts
    )
    assert found.success.all()
    assert (host(found.images).argmax(1) == wanted).all()
    assert np.abs(found.images - IMAGES).max() <= 0.4 + 1e-6


@pytest.mark.parametrize("stop", [RuntimeError("down"), KeyboardInterrupt()])
def test_a_run_that_stops_resumes_and_repeats_no_query(stop, whole, tmp_path):
    calls = []

    def failing(images):
        calls.append(len(images))
        if len(calls) == 6:
            raise stop
        return host(images)

    path = tmp_path / "ledger"
    error = OracleError if isinstance(stop, RuntimeError) else KeyboardInterrupt
    first = make_oracle(failing, ledger=Ledger(path))
    with pytest.raises(error):
        attack_oracle(first, SQUARE, IMAGES, LABELS, key=KEY)
    again = make_oracle(failing, ledger=Ledger(path))
    found = attack_oracle(again, SQUARE, IMAGES, LABELS, key=KEY)
    same(found, whole[1])
    # The batch that failed was sent twice, and nothing else was.
    assert again.wasted == calls[5]
    assert again.queries == whole[0].queries == sum(calls) - calls[5]
    assert again.ledger.sent == sum(calls)


def test_a_budget_in_all_ends_the_run_and_a_larger_one_continues(whole, tmp_path):
    path = tmp_path / "ledger"
    oracle = make_oracle(ledger=Ledger(path), budget=33)
    found = attack_oracle(oracle, SQUARE, IMAGES, LABELS, key=KEY)
    assert oracle.queries == found.queries.sum() == 33
    assert not found.finished.all()
    untouched = found.queries == 0
    np.testing.assert_array_equal(found.images[untouched], IMAGES[untouched])
    oracle = make_oracle(ledger=Ledger(path), budget=1000)
    same(attack_oracle(oracle, SQUARE, IMAGES, LABELS, key=KEY), whole[1])
    assert oracle.ledger.sent == oracle.queries == whole[0].queries


def test_a_service_of_png_files_with_faults(monkeypatch, tmp_path):
    """What counts is what the service saw: 8 bits, within epsilon."""
    pytest.importorskip("httpx")
    monkeypatch.setattr(_requests, "_FIRST_WAIT", 0.001)
    images = np.random.default_rng(0).integers(90, 110, (6, 2, 2, 1)) * np.float32(
        1 / 255
    )
    labels = local.probabilities(images).argmax(1)
    attack = attacks.make_attack("square", epsilon=0.2, num_queries=8)
    faults = [local.drop, local.status(503), local.status(429, Retry_After="0.01")]
    options = {"answers": "probabilities", "num_classes": 3, "encode": "png"}
    path = tmp_path / "ledger"
    html = local.status(200, local.HTML, "text/html")
    with local.serve(*faults, *[local.answer] * 3, html) as service:
        for last in (False, True):
            oracle = HttpOracle(service.url, ledger=Ledger(path), probe=0, **options)
            with oracle:
                if not last:
                    with pytest.raises(OracleError, match=r"`decode` cannot read"):
                        attack_oracle(
                            oracle, attack, images, labels, key=KEY, levels=256
                        )
                else:
                    found = attack_oracle(
                        oracle, attack, images, labels, key=KEY, levels=256
                    )
        seen = np.unique(np.stack(service.asked), axis=0)
    assert found.queries.sum() == oracle.queries
    assert oracle.ledger.sent == oracle.queries + oracle.wasted
    recorded = np.unique(oracle.ledger.made()[0], axis=0)
    np.testing.assert_array_equal(recorded, seen)
    assert np.abs(found.images - images).max() <= 0.2 + 1e-6
    predicted = local.probabilities(found.images).argmax(1)
    assert found.success.any()
    np.testing.assert_array_equal(predicted != labels, found.success)


def test_a_budget_that_failed_tries_spend_ends_the_attack(monkeypatch):
    pytest.importorskip("httpx")
    monkeypatch.setattr(_requests, "_FIRST_WAIT", 0.001)
    options = {"answers": "probabilities", "num_classes": 3, "batch_size": 4}
    images = np.random.default_rng(0).uniform(0.3, 0.7, (4, 2, 2, 1))
    labels = local.probabilities(images).argmax(1)
    attack = attacks.make_attack("square", epsilon=1e-3, num_queries=20)
    with local.serve(*[local.answer] * 2, local.status(500)) as service:
        with HttpOracle(service.url, budget=12, **options) as oracle:
            found = attack_oracle(oracle, attack, images, labels, key=KEY)
        assert (oracle.queries, oracle.wasted) == (11, 1)
        assert found.queries.tolist() == [3, 3, 3, 2]
    assert not found.finished.any()


@pytest.mark.slow
def test_an_image_that_the_service_sees_outside_of_the_ball_is_no_success():
    class Blurred(Oracle):
        def seen(self, images):
            return np.clip(images + 0.3, 0, 1)

        def _prepare(self, images):
            return self.seen(images)

    oracle = Blurred(host, answers="logits", num_classes=3)
    with pytest.warns(UserWarning, match="saw 40 of 40 images outside of epsilon"):
        found = attack_oracle(oracle, SQUARE, IMAGES[:2], LABELS[:2], key=KEY)
    assert not found.success.any()
    assert oracle.queries == 40


def test_answers_that_change_cause_a_warning():
    calls = []

    def noisy(images):
        calls.append(len(images))
        return host(images) + 0.01 * len(calls) * np.arange(3, dtype=np.float32)

    # Rounding makes all proposals one image.
    attack = attacks.make_attack("square", epsilon=1e-3, num_queries=30)
    image = np.zeros_like(IMAGES[:1])
    oracle = make_oracle(noisy)
    with pytest.warns(UserWarning, match="repeated queries changed"):
        attack_oracle(oracle, attack, image, np.array([2]), key=KEY, levels=256)
    assert oracle.changed == 29


@pytest.mark.parametrize("name", ["rays", "hop_skip_jump"])
def test_attacks_that_query_far_images_succeed_on_a_service_of_8_bits(name):
    """Only images within epsilon are rounded inward."""
    epsilon = {"rays": 0.3, "hop_skip_jump": 2.0}[name]
    attack = attacks.make_attack(name, epsilon=epsilon, num_queries=300)
    kind = {"answers": "labels", "num_classes": 3}
    encoding = ImageFiles()

    class Files(Oracle):
        levels = 256

        def seen(self, images):
            return encoding.seen(images)

        def _prepare(self, images):
            return self.seen(images)

    clean = encoding.seen(IMAGES)
    labels = host(clean).argmax(1)
    exact, files = (
        attack_oracle(
            make(lambda x: host(x).argmax(1), **kind), attack, clean, labels, key=KEY
        )
        for make in (Oracle, Files)
    )
    assert exact.success.mean() > 0.7
    assert files.success.sum() >= exact.success.sum() - 1
    assert files.queries.sum() < 2 * exact.queries.sum()
    order = {"rays": np.inf, "hop_skip_jump": 2}[name]
    change = (files.images.astype(np.float64) - clean).reshape(len(clean), -1)
    sizes = np.linalg.norm(change, order, axis=1)[files.success]
    assert (sizes <= epsilon * (1 + 1e-6)).all()


def test_bad_input():
    labels_only = make_oracle(lambda x: host(x).argmax(1), answers="labels")
    with pytest.raises(ValueError, match="needs scores, but the oracle"):
        attack_oracle(labels_only, SQUARE, IMAGES, LABELS, key=KEY)
    with pytest.raises(ValueError, match="draws random"):
        attack_oracle(make_oracle(), SQUARE, IMAGES, LABELS)
    with pytest.raises(ValueError, match=r"`labels` must be .* shape \(12,\)"):
        attack_oracle(make_oracle(), SQUARE, IMAGES, LABELS[:3], key=KEY)
