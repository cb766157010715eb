"""Attacks by name, bound, passed on to a surrogate, and combined."""

import copy
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from advgan_jax import attacks, losses
from advgan_jax.attacks.transfer import average_models
from advgan_jax.evaluation import takes_epsilon

pytestmark = pytest.mark.usefixtures("quick_compile")

KEY = jax.random.key(0)


def test_bound_equals_direct(net, images, labels):
    bound = attacks.make_attack("bim", epsilon=0.1, num_steps=3)
    expected = attacks.bim(net, images, labels, epsilon=0.1, num_steps=3)
    np.testing.assert_array_equal(bound(net, images, labels), expected)
    assert bound.name == "bim"
    assert {"epsilon", "key", "targeted"} <= bound.known


def test_a_call_takes_precedence(net, images, labels):
    bound = attacks.make_attack("fgsm", epsilon=0.1)
    expected = attacks.fgsm(net, images, labels, epsilon=0.2)
    result = bound(net, images, labels, epsilon=0.2)
    np.testing.assert_array_equal(result, expected)


def test_unknown_names():
    with pytest.raises(ValueError, match=r"Unknown attack 'pdg'.*Did you mean 'pgd'"):
        attacks.make_attack("pdg")
    with pytest.raises(ValueError, match=r"Unknown attack 'PGD'.*Did you mean 'pgd'"):
        attacks.make_attack("PGD")
    with pytest.raises(TypeError, match=r"argument of pgd 'steps'.*num_steps"):
        attacks.make_attack("pgd", steps=3)
    with pytest.raises(TypeError, match="`transfer` needs the argument `surrogate_"):
        attacks.make_attack("transfer")
    with pytest.raises(TypeError, match=r"argument of transfer 'eps'.*epsilon"):
        attacks.make_attack("transfer", surrogate_fn=abs, eps=3)
    fgsm = attacks.make_attack("fgsm")
    with pytest.raises(TypeError, match="argument of transfer 'num_steps'"):
        attacks.make_attack("transfer", surrogate_fn=abs, attack=fgsm, num_steps=3)


def caller_s(logits_fn, images, labels, *, key, targeted, bounds, norm="l7"):
    """An attack of the caller's, which knows a norm of its own."""
    return images


def through(attack):
    return {"surrogate_fn": abs, "attack": attack}


def test_unknown_choices_are_rejected_when_an_attack_is_bound():
    for name, choice, near in (
        ("pgd", {"norm": "Linf"}, "linf"),
        ("pgd", {"loss": "ce"}, "cross_entropy"),
        ("lbfgs", {"solver": "project"}, "projected"),
        ("ead", {"decision": "l2"}, "l1"),
        ("transfer", {"surrogate_fn": abs, "average": "logit"}, "logits"),
        ("transfer", {**through(attacks.pgd), "norm": "Linf"}, "linf"),
        ("transfer", {**through(attacks.make_attack("pgd")), "norm": "Linf"}, "linf"),
        ("transfer", {**through(caller_s), "average": "logit"}, "logits"),
    ):
        (argument, wrong) = list(choice.items())[-1]
        known = f"Unknown {argument} '{wrong}'.*Known: .*{near}"
        with pytest.raises(ValueError, match=known):
            attacks.make_attack(name, **choice)
    attacks.make_attack("square", epsilon=0.1, loss=None)


def test_an_attack_of_the_caller_s_may_have_other_choices():
    attacks.make_attack("transfer", **through(caller_s), norm="l8")


@pytest.fixture
def other(net):
    """A second model, not the first with other weights only."""
    return Partial(lambda fn, x: jnp.tanh(fn(x[:, ::-1]) / 3), net)


def test_transfer_is_the_attack_on_the_surrogate(net, other, images, labels):
    hyper = {"epsilon": 0.1, "num_steps": 5}
    bound = attacks.make_attack(
        "transfer", surrogate_fn=other, attack=attacks.bim, **hyper
    )
    expected = attacks.bim(other, images, labels, **hyper)
    np.testing.assert_array_equal(bound(net, images, labels), expected)
    # None means the prediction of the attacked model, not of the surrogate.
    np.testing.assert_array_equal(bound(net, images, None), expected)


def test_surrogates_are_averaged(net, other, images):
    both = average_models([net, other])
    np.testing.assert_allclose(
        both(images), (net(images) + other(images)) / 2, rtol=1e-6
    )
    logs = average_models([net, other], "log_probabilities")
    labels = jnp.arange(3)
    expected = (
        losses.cross_entropy(net(images), labels)
        + losses.cross_entropy(other(images), labels)
    ) / 2
    at_labels = logs(images)[jnp.arange(3), labels]
    np.testing.assert_allclose(at_labels, expected, rtol=1e-5)
    with pytest.raises(ValueError, match=r"Unknown average 'mean'.*logits"):
        average_models([net, other], "mean")
    with pytest.raises(ValueError, match="at least one model"):
        average_models([])


def test_an_ensemble_of_surrogates(net, other, images, labels):
    hyper = {"attack": attacks.fgsm, "epsilon": 0.1}
    pair = attacks.transfer(net, images, labels, surrogate_fn=[net, other], **hyper)
    expected = attacks.fgsm(average_models([net, other]), images, labels, epsilon=0.1)
    np.testing.assert_array_equal(pair, expected)


def test_surrogates_must_have_the_same_classes(net, images, labels):
    with pytest.raises(ValueError, match="5 classes of `logits_fn`, got 4"):
        attacks.transfer(
            net, images, labels, surrogate_fn=lambda x: net(x)[:, :4], epsilon=0.3
        )


def test_worst_case_keeps_what_succeeds(net, images, labels):
    weak = attacks.make_attack("fgsm", epsilon=1e-4)
    strong = attacks.make_attack("bim", epsilon=0.3)
    worst = attacks.worst_case([weak, strong])(net, images, labels)
    np.testing.assert_array_equal(worst, strong(net, images, labels))
    # The first that succeeds stays, however strong the next one is.
    first = attacks.make_attack("bim", epsilon=0.25)
    worst = attacks.worst_case([first, strong])(net, images, labels)
    np.testing.assert_array_equal(worst, first(net, images, labels))


def test_worst_case_is_per_image(net, images, labels):
    """Two attacks that each break other images: together they break all."""

    def only(chosen):
        def attack(logits_fn, images, labels, **_):
            broken = attacks.bim(logits_fn, images, labels, epsilon=0.3)
            return jnp.where(chosen[:, None, None, None], broken, images)

        return attack

    chosen = jnp.array([True, False, True])
    worst = attacks.worst_case([only(chosen), only(~chosen)])
    assert attacks.succeeded(net(worst(net, images, labels)), labels).all()
    assert attacks.succeeded(net(worst(net, images, None)), labels).all()


def test_worst_case_keeps_the_least_margin_when_none_succeeds(net, images, labels):
    small, larger = (attacks.make_attack("fgsm", epsilon=e) for e in (1e-4, 1e-3))
    worst = attacks.worst_case([small, larger, small])
    jitted = jax.jit(lambda x: worst(net, x, labels))
    np.testing.assert_allclose(jitted(images), larger(net, images, labels), atol=1e-6)


def test_worst_case_gives_each_attack_its_own_key(net, images, labels):
    keys = []

    def attack(logits_fn, images, labels, *, key, **_):
        keys.append(jax.random.key_data(key).tolist())
        return images

    attacks.worst_case([attack, attack])(net, images, labels, key=KEY)
    assert keys[0] != keys[1]
    with pytest.raises(ValueError, match="at least one attack"):
        attacks.worst_case([])


@pytest.mark.parametrize(
    ("logits", "label"),
    [([jnp.nan, 0.0], 1), ([jnp.inf, 0.0], 1), ([-1.0, -2.0], 0)],
)
def test_what_does_not_count_as_success(logits, label):
    assert not attacks.succeeded(jnp.array([logits]), jnp.array([label])).any()


def strong(**options):
    return attacks.make_attack("bim", epsilon=0.1, num_steps=3, **options)


@pytest.mark.parametrize(
    "attack",
    [
        strong(),
        strong(bounds=(jnp.float32(0), np.array(1))),
        attacks.make_attack("transfer", surrogate_fn=abs, attack=strong()),
        attacks.worst_case([strong(), attacks.make_attack("fgsm", epsilon=0.1)]),
    ],
)
def test_bound_attacks_are_copied_pickled_and_hashed(attack):
    copies = [copy.copy(attack), copy.deepcopy(attack)]
    copies.append(pickle.loads(pickle.dumps(attack)))
    assert copies == [attack] * 3
    assert {attack, *copies} == {attack}


def test_copies_attack_alike(net, images, labels):
    several = attacks.worst_case([strong(), attacks.make_attack("fgsm", epsilon=0.1)])
    for attack in (strong(), several):
        again = pickle.loads(pickle.dumps(attack))
        expected = attack(net, images, labels)
        np.testing.assert_array_equal(again(net, images, labels), expected)
    assert takes_epsilon(strong())
    assert not takes_epsilon(several)
    assert strong() != strong(loss="margin")
