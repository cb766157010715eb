"""ResNet-32 in PyTorch, with the shortcuts of ours: 1x1 convolutions."""

from torch import nn
from torch.nn import functional as F


class _Block(nn.Module):
    def __init__(self, inputs, width, stride):
        super().__init__()
        self.first = nn.Conv2d(inputs, width, 3, stride, padding=1, bias=False)
        self.second = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for _ in range(2))
        same = stride == 1 and inputs == width
        shortcut = nn.Conv2d(inputs, width, 1, stride, bias=False)
        self.shortcut = nn.Identity() if same else shortcut

    def forward(self, x):
        y = F.relu(self.norms[0](self.first(x)))
        return F.relu(self.shortcut(x) + self.norms[1](self.second(y)))


class ResNet32(nn.Module):
    """Map images `[B, 3, 32, 32]` in [0, 1] to logits `[B, 10]`."""

    def __init__(self):
        super().__init__()
        blocks, inputs = [], 16
        for width in (16, 32, 64):
            for number in range(5):
                stride = 2 if width > 16 and number == 0 else 1
                blocks.append(_Block(inputs, width, stride))
                inputs = width
        self.first = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.blocks, self.head = nn.Sequential(*blocks), nn.Linear(64, 10)

    def forward(self, x):
        x = F.relu(self.norm(self.first((x - 0.5) / 0.25)))
        return self.head(self.blocks(x).mean((2, 3)))
