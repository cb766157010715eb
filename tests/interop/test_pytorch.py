"""PyTorch models inside of JAX programs, and our attacks on tensors."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advgan_jax import attacks, interop

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def module():
    torch.manual_seed(0)
    layers = torch.nn
    return layers.Sequential(
        layers.Conv2d(2, 4, 3),
        layers.BatchNorm2d(4),
        layers.ReLU(),
        layers.Dropout(),
        layers.Flatten(),
        layers.Linear(4 * 6 * 5, 3),
    ).eval()


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).random((4, 8, 7, 2), np.float32)


def as_tensor(images):
    return torch.from_numpy(np.array(images)).permute(0, 3, 1, 2)


def torch_gradient(module, images, weights):
    x = as_tensor(images).requires_grad_()
    (gradient,) = torch.autograd.grad((module(x) * torch.from_numpy(weights)).sum(), x)
    return gradient.permute(0, 2, 3, 1).numpy()


# The same sums in another order: float32 has 24 bits.
close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)


class TestFromTorch:
    def test_logits_and_gradients_are_pytorch_s(self, module, images):
        fn = interop.from_torch(module, 3)
        close(jax.jit(fn)(images), module(as_tensor(images)).detach())
        weights = np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32)
        gradient = jax.jit(jax.grad(lambda x: jnp.sum(fn(x) * weights)))(images)
        close(gradient, torch_gradient(module, images, weights))

    def test_each_module_compiles_once_and_three_are_no_reason_to_warn(
        self, images, compiles
    ):
        """A warning would be an error here."""
        layers = [torch.nn.Linear(112, 3) for _ in range(3)]
        modules = [
            torch.nn.Sequential(torch.nn.Flatten(), part).eval() for part in layers
        ]

        def attack(module):
            fn = interop.from_torch(module, 3)
            return attacks.fgsm(fn, images, [0, 1, 2, 0], epsilon=0.1)

        first = [attack(module) for module in modules]
        assert (first[0] != first[1]).any()
        with compiles(0):
            again = [attack(module) for module in modules]
        np.testing.assert_array_equal(again, first)

    def test_vmap(self, module, images):
        fn = interop.from_torch(module, 3)
        stacked = np.stack([images, images[::-1]])
        weights = np.ones((4, 3), np.float32)
        gradient = jax.vmap(jax.grad(lambda x: jnp.sum(fn(x))))(stacked)
        close(gradient[1], torch_gradient(module, images[::-1], weights))

    def test_normalisation(self, module, images):
        fn = interop.from_torch(module, 3, mean=(0.5, 0.1), std=(0.2, 0.3))
        wanted = as_tensor((images - np.float32([0.5, 0.1])) / np.float32([0.2, 0.3]))
        close(fn(images), module(wanted).detach())

    def test_nhwc_and_double_precision(self, images):
        dense = torch.nn.Linear(112, 3).double().eval()
        fn = interop.from_torch(
            lambda x: dense(x.double().reshape(len(x), -1)), 3, layout="NHWC"
        )
        wanted = dense(torch.from_numpy(images.reshape(4, -1)).double())
        close(fn(images), wanted.detach())

    def test_new_weights_are_seen(self, images):
        dense = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(112, 2)).eval()
        images = 0.2 + 0.6 * images  # no pixel is clipped
        fn = interop.from_torch(dense, 2)
        before = attacks.fgsm(fn, images, np.zeros(4, int), epsilon=0.1)
        with torch.no_grad():
            dense[1].weight.neg_()
        after = attacks.fgsm(fn, images, np.zeros(4, int), epsilon=0.1)
        np.testing.assert_allclose(after - images, images - before, atol=1e-6)

    def test_a_lost_graph_is_computed_again(self, module, images):
        fn = interop.from_torch(module, 3)
        kept = [jax.vjp(fn, images * scale)[1] for scale in np.linspace(0.1, 1, 9)]
        ones = np.ones((4, 3), np.float32)
        for scale, pull_back in zip(np.linspace(0.1, 1, 9), kept, strict=True):
            wanted = torch_gradient(module, images * np.float32(scale), ones)
            for _ in range(2):  # the second time its graph is gone, too
                close(pull_back(ones)[0], wanted)

    def test_gradients_of_the_module_are_untouched(self, module, images):
        attacks.fgsm(interop.from_torch(module, 3), images, epsilon=0.1)
        assert all(p.grad is None for p in module.parameters())

    def test_training_mode_is_refused_at_once_and_later(self, images):
        model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(112, 2))
        with pytest.raises(ValueError, match=r"call `module\.eval\(\)`"):
            interop.from_torch(model, 2)
        fn = interop.from_torch(model.eval(), 2)
        model[1].train()
        with pytest.raises(ValueError, match=r"call `module\.eval\(\)`"):
            attacks.fgsm(fn, images, epsilon=0.1)

    @pytest.mark.parametrize(
        ("answer", "message"),
        [
            (lambda x: x, r"must return logits of shape \(4, 3\)"),
            (lambda x: (x,), "must return a tensor of logits, got tuple"),
            (lambda x: x.sub_(1).flatten(1)[:, :3], "changes its input in place"),
            (lambda x: 1 / 0, "ZeroDivisionError"),
        ],
    )
    def test_wrong_answers_are_errors(self, images, answer, message):
        with pytest.raises(Exception, match=message):
            attacks.fgsm(interop.from_torch(answer, 3), images, epsilon=0.1)

    @pytest.mark.parametrize(
        ("module", "changes", "error", "message"),
        [
            (3, {}, TypeError, "`module` must be a PyTorch module"),
            (torch.relu, {"backend": "jax"}, ValueError, "Unknown backend 'jax'"),
            (torch.relu, {"layout": "CHW"}, ValueError, "Unknown layout 'CHW'"),
            (torch.relu, {"num_classes": 1}, ValueError, "at least 2"),
        ],
    )
    def test_refuses(self, module, changes, error, message):
        with pytest.raises(error, match=message):
            interop.from_torch(module, **{"num_classes": 3, **changes})


class TestAsTorchAttack:
    def test_is_the_attack_on_tensors(self, module, images):
        labels = torch.tensor([0, 1, 2, 0])
        pgd = attacks.make_attack("pgd", epsilon=0.1, num_steps=3)
        on_tensors = interop.as_torch_attack(pgd, key=jax.random.key(0))
        x = as_tensor(images)
        found = on_tensors(module, x, labels)
        fn = interop.from_torch(module, 3)
        wanted = pgd(fn, images, labels.numpy(), key=jax.random.key(0))
        assert found.shape == x.shape
        np.testing.assert_array_equal(found.permute(0, 2, 3, 1).numpy(), wanted)
        again = on_tensors(module, x, labels, epsilon=0.0)
        np.testing.assert_array_equal(again.numpy(), x.numpy())

    def test_without_labels(self, module, images):
        fgsm = attacks.make_attack("fgsm", epsilon=0.1)
        found = interop.as_torch_attack(fgsm)(module, as_tensor(images))
        assert (found - as_tensor(images)).abs().max() > 0.09


class TestFoolbox:
    def test_fixed_epsilon_on_pytorch(self, module, images):
        foolbox = pytest.importorskip("foolbox", reason="Foolbox is not installed")
        model = foolbox.PyTorchModel(module, bounds=(0, 1), device="cpu")
        x, labels = as_tensor(images).contiguous(), torch.tensor([0, 1, 2, 0])
        attack = interop.as_foolbox_attack(attacks.make_attack("fgsm"))
        _, found, success = attack(model, x, labels, epsilons=[0.05, 0.2])
        assert success.shape == (2, 4)
        theirs = foolbox.attacks.LinfFastGradientAttack(random_start=False)
        _, wanted, _ = theirs(model, x, labels, epsilons=[0.05, 0.2])
        for ours, other in zip(found, wanted, strict=True):
            close(ours, other)

    def test_minimisation_and_targets(self, module, images):
        foolbox = pytest.importorskip("foolbox", reason="Foolbox is not installed")
        model = foolbox.PyTorchModel(module, bounds=(0, 1), device="cpu")
        x = as_tensor(images).contiguous()
        wanted = (model(x).argmax(1) + 1) % 3
        criterion = foolbox.criteria.TargetedMisclassification(wanted)
        attack = interop.as_foolbox_attack(attacks.make_attack("lbfgs"))
        _, found, success = attack(model, x, criterion, epsilons=None)
        assert success.all()
        assert (model(found).argmax(1) == wanted).all()

    def test_jax_model(self, images):
        foolbox = pytest.importorskip("foolbox", reason="Foolbox is not installed")
        weights = np.random.default_rng(0).normal(size=(112, 3)).astype(np.float32)
        model = foolbox.JAXModel(
            lambda x: x.reshape(len(x), -1) @ weights, bounds=(0, 1)
        )
        attack = interop.as_foolbox_attack(attacks.make_attack("fgsm"))
        x, labels = jnp.asarray(images), jnp.asarray([0, 1, 2, 0])
        _, found, _ = attack(model, x, labels, epsilons=0.1)
        wanted = attacks.fgsm(
            lambda x: x.reshape(len(x), -1) @ weights, images, labels, epsilon=0.1
        )
        np.testing.assert_array_equal(found, wanted)


def test_art(module, images):
    art = pytest.importorskip("art", reason="ART is not installed")
    from art.estimators.classification import PyTorchClassifier

    del art
    classifier = PyTorchClassifier(
        module,
        torch.nn.CrossEntropyLoss(),
        (2, 8, 7),
        3,
        clip_values=(0, 1),
        device_type="cpu",
    )
    labels = np.array([0, 1, 2, 0])
    attack = interop.as_art_attack(attacks.make_attack("fgsm", epsilon=0.1), classifier)
    x = images.transpose(0, 3, 1, 2)
    found = attack.generate(x, np.eye(3)[labels])
    fn = interop.from_torch(module, 3)
    wanted = attacks.fgsm(fn, images, labels, epsilon=0.1)
    close(found.transpose(0, 2, 3, 1), wanted)
