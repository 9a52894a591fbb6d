"""Minimise I(style; label): an autoencoder whose code has two halves, one with the label and one without; a minute."""

import sys
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from infoatlas_rl import InfoAtlasLoss


def mlp(*sizes: int) -> nn.Sequential:
    return nn.Sequential(*[part for a, b in pairwise(sizes) for part in (nn.Linear(a, b), nn.SiLU())][:-1])


def sample(n: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """x (n, 20) of a label, (n,), and two free factors of style, mixed by tanh."""
    fixed = torch.Generator().manual_seed(3)
    means, first, second = (torch.randn(shape, generator=fixed) for shape in ((4, 2), (4, 32), (32, 20)))
    labels = torch.randint(0, 4, (n,), generator=generator)
    content, style = 2 * means[labels], torch.randn(n, 2, generator=generator)
    factors = torch.cat([content + 0.3 * torch.randn(n, 2, generator=generator), style], 1)
    return torch.tanh(factors @ first * 0.4) @ second / 4 + 0.02 * torch.randn(n, 20, generator=generator), labels


def probe(z: torch.Tensor, labels: torch.Tensor) -> float:
    """Accuracy of a fresh network for the label, fitted on the first half of the samples, on the second; chance is 0.25."""
    z, half, network = (z - z.mean(0)) / z.std(0), len(z) // 2, mlp(3, 64, 64, 4)
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    for rows in torch.randint(0, half, (400, 256)):
        optimizer.zero_grad()
        F.cross_entropy(network(z[rows]), labels[rows]).backward()
        optimizer.step()
    return float((network(z[half:]).argmax(1) == labels[half:]).float().mean())


def main(steps: int = 1500) -> None:
    for weight in (0.0, 3.0):
        generator = torch.manual_seed(0)
        nets = encoder, head, decoder = mlp(20, 64, 64, 6), nn.Linear(3, 4), mlp(6, 64, 20)
        optimizer = torch.optim.Adam(nn.ModuleList(nets).parameters(), 1e-3)
        penalty = InfoAtlasLoss(slices=None, direction="minimise", classes="y")
        for _ in range(steps):
            x, labels = sample(256, generator)
            z = encoder(x)
            removal = weight * penalty(z[:, 3:], labels) if weight else 0
            loss = F.cross_entropy(head(z[:, :3]), labels) + F.mse_loss(decoder(z), x) / x.var() + removal
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        x, labels = sample(6000, generator)
        z = encoder(x).detach()
        figures = probe(z[:, :3], labels), probe(z[:, 3:], labels), F.mse_loss(decoder(z), x).item() / x.var().item()
        print("weight {}: label told by content {:.2f}, by style {:.2f}; error {:.3f}".format(weight, *figures))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
