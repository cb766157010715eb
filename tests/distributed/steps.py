"""Make 20 steps of each training in each mode, and evaluations, on all devices."""

import connect
import jax
import numpy as np
import optax

from advgan_jax import attacks, data, models, parallel
from advgan_jax.evaluation import _sequence, autoattack, evaluate
from advgan_jax.training import advgan, aigan, classifier, distillation, fit

folder, *modes = connect.connect()
digits = data.load_dataset("digits")
images = fit.on_device(digits.train)
rows = np.arange(20 * 32).reshape(20, 1, 32)
sgd = optax.sgd(0.01)  # Adam would hide gradients that are wrong by a factor
dense = models.FullyConnected(10, hidden=(16,))
start = dense.init(jax.random.key(3), digits.train.images[:1])
target = models.make_logits_fn(dense, start)
widths = (4, 4, 4)
networks = advgan.Networks(
    models.Generator(epsilon=0.3, widths=widths, num_residual=0),
    models.Discriminator(widths=widths),
    sgd,
    sgd,
)
conditional = advgan.Networks(
    models.ConditionalGenerator(0.3, 2, widths, num_residual=0),
    models.TwoHeadDiscriminator(2, widths=widths),
    sgd,
    sgd,
)
objective = aigan.AIGANObjective(0.3, 2, class_weight=0.1)
attacker = attacks.make_attack("pgd", epsilon=0.3, num_steps=2, random_start=False)
# With two classes the drawn one is always the other, for every key.
two = images._replace(labels=images.labels % 2)
answers = images._replace(labels=jax.nn.softmax(images.labels[:, None] * np.ones(10)))


def trainings(mode):
    """Name, state, data, step and frozen arguments of each."""
    key, shape = jax.random.key(0), (8, 8, 1)
    normed = models.ResNet(
        blocks=1, widths=(4, 4, 4), axis_name=parallel.axis_name(mode)
    )
    yield (
        "resnet",
        classifier.init_state(normed, sgd, key, shape),
        images,
        classifier.make_train_step(normed, sgd),
    )
    yield (
        "distillation",
        distillation.init_state(dense, sgd, key, shape),
        answers,
        distillation.make_train_step(dense, sgd),
    )
    yield (
        "advgan",
        advgan.init_state(networks, key, shape),
        images,
        advgan.make_train_step(networks, advgan.AdvGANObjective(0.3)),
        target,
    )
    fresh = aigan.init_state(conditional, key, shape)
    stage_one = aigan.make_first_step(conditional, objective, attacker)
    yield "aigan", fresh, two, stage_one, target


def trained(mode):
    """States and metrics after the steps, as lists of arrays by name."""
    found = {}
    for name, state, batch, step, *frozen in trainings(mode):
        run = parallel.compile_steps(step, mode=mode)
        for number in rows:
            state, metrics = run(state, batch, number, *frozen)
        state = parallel.local(state).replace(key=None)
        for i, leaf in enumerate(jax.tree.leaves(jax.device_get((state, metrics)))):
            found[f"{name}/{i}"] = leaf
    return found


def evaluated():
    """The evaluations of 101 images, in batches of 50."""
    pgd = attacks.make_attack("pgd", epsilon=0.1, step_size=0.02, num_steps=5)
    test = digits.test.take(101)
    options = {"batch_size": 50, "key": jax.random.key(5)}
    fgsm = attacks.make_attack("fgsm", epsilon=0.3)
    for name, attack in {"pgd": pgd, "fgsm": fgsm}.items():
        found = evaluate(target, attack, test.images, test.labels, **options)
        assert found.num_images == 101
        for column in ("clean_predictions", "adversarial_predictions", "linf"):
            yield f"{name}/{column}", getattr(found, column)
    _sequence._NUM_STEPS, _sequence._NUM_QUERIES = 5, 50
    options |= {"epsilon": 0.05, "only": ["apgd-ce", "fab-t", "square"]}
    result = autoattack(target, test.images, test.labels, **options)
    assert 0 < result.robust_accuracy < result.clean_accuracy
    yield "autoattack/broken_by", result.broken_by


for name in ("evaluation", *modes):
    found = dict(evaluated()) if name == "evaluation" else trained(name)
    if parallel.is_first():
        np.savez(f"{folder}/{name}.npz", **found)
