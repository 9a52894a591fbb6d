"""Maximise I(z1; z2): an encoder that learns from two views of digits without labels; under a minute.

pip install scikit-learn
"""

import sys

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from torch import nn

from infoatlas_rl import InfoAtlasLoss


def view(x: torch.Tensor) -> torch.Tensor:
    """Turned by some 15 degrees, shrunk or stretched, brighter or darker, noisy."""
    n, angle, scale = len(x), 0.26 * torch.randn(len(x)), 1 + 0.12 * torch.randn(len(x))
    cos, sin, none = scale * angle.cos(), scale * angle.sin(), torch.zeros(n)
    grid = F.affine_grid(torch.stack([cos, -sin, none, sin, cos, none], 1).view(n, 2, 3), [n, 1, 8, 8], align_corners=False)
    x = F.grid_sample(x.view(n, 1, 8, 8), grid, align_corners=False).flatten(1)
    return x * (1 + 0.2 * torch.randn(n, 1)) + 0.1 * torch.randn(n, 64)


def probes(encoder: nn.Module, x: torch.Tensor, labels: torch.Tensor) -> tuple[float, float]:
    """Accuracy of a linear probe and of 5 neighbours on the last 600 digits, fitted on the others."""
    with torch.no_grad():
        z = encoder(x)
    z = ((z - z.mean(0)) / z.std(0)).numpy()
    linear, neighbours = LogisticRegression(max_iter=1000), KNeighborsClassifier(5)
    return tuple(float(m.fit(z[:-600], labels[:-600]).score(z[-600:], labels[-600:])) for m in (linear, neighbours))


def main(steps: int = 400) -> tuple[float, float]:
    torch.manual_seed(0)
    pixels, labels = load_digits(return_X_y=True)
    x, labels = torch.tensor(pixels / 16, dtype=torch.float32), torch.tensor(labels)
    encoder = nn.Sequential(nn.Linear(64, 128), nn.SiLU(), nn.Linear(128, 128), nn.SiLU(), nn.Linear(128, 16))
    optimizer = torch.optim.Adam(encoder.parameters(), 3e-3)
    mi_loss = InfoAtlasLoss(slices=None)  # a code of at most 20 dimensions needs no slices
    print("before: linear probe {:.3f}, 5 neighbours {:.3f}".format(*probes(encoder, x, labels)))
    for step in range(steps):
        batch = x[torch.randint(0, len(x) - 600, (256,))]
        loss = mi_loss(encoder(view(batch)), encoder(view(batch)))  # minus the MI, in nats
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 100 == 99:
            print(f"step {step + 1}: I(z1; z2) is {-loss.item():.1f} nats in the last batches")
    after = probes(encoder, x, labels)
    print("after:  linear probe {:.3f}, 5 neighbours {:.3f}".format(*after))
    return after


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
