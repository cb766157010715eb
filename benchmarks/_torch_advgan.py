"""AdvGAN in PyTorch: our networks, and the step of most public implementations.

Like the widely copied PyTorch code, a step clamps perturbations to the budget, updates
the discriminator once on squared errors and the generator once. The generator's loss is
the margin of softmax probabilities summed over the batch (weight 10), the squared error
of the discriminator, and the mean norm of the perturbation. The generator runs forward
once for both updates, as in ours.

The networks are ours. Those of the public code differ: they normalise batches, pad by
reflection or not at all, end the discriminator with a sigmoid and draw weights from
N(0, 0.02).
"""

import torch
from torch import nn
from torch.nn import functional as F


class _Residual(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.second = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norms = nn.ModuleList(
            nn.InstanceNorm2d(width, affine=True) for _ in range(2)
        )

    def forward(self, x):
        y = F.relu(self.norms[0](self.first(x)))
        return x + self.norms[1](self.second(y))


def _normed(conv, width):
    return [conv, nn.InstanceNorm2d(width, affine=True), nn.ReLU()]


def generator(widths=(8, 16, 32), num_residual=4, channels=1):
    """Return a network from images `[B, C, H, W]` to perturbations in (-1, 1)."""
    full, half, quarter = widths

    def down(inputs, outputs):
        # Flax pads a strided convolution at the bottom and on the right first.
        conv = nn.Conv2d(inputs, outputs, 3, stride=2, bias=False)
        return [nn.ZeroPad2d((0, 1, 0, 1)), *_normed(conv, outputs)]

    def up(inputs, outputs):
        conv = nn.ConvTranspose2d(
            inputs, outputs, 3, stride=2, padding=1, output_padding=1, bias=False
        )
        return _normed(conv, outputs)

    return nn.Sequential(
        *_normed(nn.Conv2d(channels, full, 3, padding=1, bias=False), full),
        *down(full, half),
        *down(half, quarter),
        *(_Residual(quarter) for _ in range(num_residual)),
        *up(quarter, half),
        *up(half, full),
        nn.Conv2d(full, channels, 3, padding=1),
        nn.Tanh(),
    )


def discriminator(widths=(8, 16, 32), channels=1):
    """Return a network from images of 28 or 32 pixels, `[B, C, H, W]`, to scores."""
    first, second, third = widths
    return nn.Sequential(
        nn.Conv2d(channels, first, 4, stride=2, padding=1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(first, second, 4, stride=2, padding=1),
        nn.InstanceNorm2d(second, affine=True),
        nn.LeakyReLU(0.2),
        nn.ZeroPad2d((1, 2, 1, 2)),
        nn.Conv2d(second, third, 4, stride=2),
        nn.InstanceNorm2d(third, affine=True),
        nn.LeakyReLU(0.2),
        nn.Flatten(),
        nn.Linear(third * 16, 1),
        nn.Flatten(0),
    )


def perturb(generator, images, epsilon):
    """Return adversarial images and their perturbations."""
    r = generator(images).clamp(-epsilon, epsilon)
    return (images + r).clamp(0, 1), r


class Trainer:
    """Train both networks with their optimisers by alternating steps.

    Args:
      target: the frozen target model, from images to logits.
      epsilon: bound of the perturbation.
      widths: of the generator.
      channels: of the images.
    """

    def __init__(self, target, epsilon, widths=(8, 16, 32), channels=1):
        self._target = target.requires_grad_(False)
        self._epsilon = epsilon
        self.generator = generator(widths, channels=channels)
        self.discriminator = discriminator(channels=channels)
        self._adam_g, self._adam_d = (
            torch.optim.Adam(network.parameters(), lr=1e-3)
            for network in (self.generator, self.discriminator)
        )

    def step(self, images, labels):
        adversarial, r = perturb(self.generator, images, self._epsilon)
        self._adam_d.zero_grad()
        real = self.discriminator(images)
        fake = self.discriminator(adversarial.detach())
        loss = ((real - 1) ** 2).mean() + (fake**2).mean()
        loss.backward()
        self._adam_d.step()

        self._adam_g.zero_grad()
        p = F.softmax(self._target(adversarial), dim=1)
        own = p.gather(1, labels[:, None])[:, 0]
        others = p.scatter(1, labels[:, None], -1.0).amax(dim=1)
        fool = (own - others).clamp(min=0).sum()
        gan = ((self.discriminator(adversarial) - 1) ** 2).mean()
        norm = r.flatten(1).norm(dim=1).mean()
        (gan + 10 * fool + norm).backward()
        self._adam_g.step()


def classifier_step(model, optimizer, images, labels):
    optimizer.zero_grad()
    F.cross_entropy(model(images), labels).backward()
    optimizer.step()
