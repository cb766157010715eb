"""Agreement with Foolbox, where it is installed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advgan_jax import attacks

foolbox = pytest.importorskip("foolbox", reason="compares with Foolbox")


@pytest.fixture
def run(net, images, labels):
    def against(attack, criterion=None):
        model = foolbox.JAXModel(net, bounds=(0, 1))
        raw, clipped, _ = attack(model, images, criterion or labels, epsilons=0.1)
        del raw
        return clipped

    return against


def pairs():
    from foolbox import attacks as theirs

    steps = {"num_steps": 7, "epsilon": 0.1, "step_size": 0.02}
    their_steps = {"steps": 7, "abs_stepsize": 0.02, "random_start": False}
    return [
        (theirs.LinfFastGradientAttack(), attacks.fgsm, {"epsilon": 0.1}),
        (theirs.L2FastGradientAttack(), attacks.fgsm, {"epsilon": 0.1, "norm": "l2"}),
        (theirs.LinfBasicIterativeAttack(**their_steps), attacks.bim, steps),
        (
            theirs.LinfProjectedGradientDescentAttack(**their_steps),
            attacks.pgd,
            {**steps, "random_start": False},
        ),
        (
            theirs.L2ProjectedGradientDescentAttack(**their_steps),
            attacks.pgd,
            {**steps, "random_start": False, "norm": "l2"},
        ),
    ]


@pytest.mark.parametrize("index", range(5))
def test_same_images(index, run, net, images, labels):
    theirs, ours, hyper = pairs()[index]
    np.testing.assert_allclose(
        ours(net, images, labels, **hyper), run(theirs), atol=1e-4
    )


def test_same_targeted_images(run, net, images, wanted):
    theirs, ours, hyper = pairs()[3]
    result = ours(net, images, wanted, targeted=True, **hyper)
    expected = run(theirs, foolbox.criteria.TargetedMisclassification(wanted))
    np.testing.assert_allclose(result, expected, atol=1e-4)


@pytest.mark.slow
def test_carlini_wagner_is_no_worse(net):
    images = jax.random.uniform(jax.random.key(8), (16, 5, 7, 2))
    labels = jnp.argmax(net(images), axis=-1)
    theirs = foolbox.attacks.L2CarliniWagnerAttack(binary_search_steps=6, steps=100)
    model = foolbox.JAXModel(net, bounds=(0, 1))
    _, expected, _ = theirs(model, images, labels, epsilons=None)
    found = attacks.carlini_wagner_l2_search(
        net, images, labels, num_search_steps=6, num_steps=100
    )
    assert found.success.all()
    distances = jnp.linalg.norm((expected - images).reshape(16, -1), axis=1)
    assert float(found.l2.mean()) <= float(distances.mean())


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_deepfool_is_no_worse_in_the_box(norm, net):
    """A third of the pixels start at an edge of the box."""
    noise = jax.random.uniform(jax.random.key(8), (32, 5, 7, 2))
    images = jnp.clip(1.4 * noise - 0.2, 0, 1)
    labels = jnp.argmax(net(images), axis=-1)
    name = {"l2": "L2DeepFoolAttack", "linf": "LinfDeepFoolAttack"}[norm]
    model = foolbox.JAXModel(jax.jit(net), bounds=(0, 1))
    _, expected, _ = getattr(foolbox.attacks, name)()(
        model, images, labels, epsilons=None
    )
    found = attacks.deepfool(net, images, labels, norm=norm)
    assert attacks.succeeded(net(found), labels).all()
    order = {"l2": 2, "linf": np.inf}[norm]
    ours, theirs = (
        np.linalg.norm((x - images).reshape(32, -1), order, axis=1)
        for x in (found, expected)
    )
    # Both stop at the same boundary; one more step of 0.0001 is no difference.
    assert (ours <= theirs + 3e-4).all()
    assert ours.mean() <= theirs.mean()
