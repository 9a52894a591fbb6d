"""Minimise I(z; nuisance): a classifier whose code says nothing of a nuisance that the input is full of; under a minute."""

import sys
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from infoatlas_rl import InfoAtlasLoss


def mlp(*sizes: int) -> nn.Sequential:
    return nn.Sequential(*[part for a, b in pairwise(sizes) for part in (nn.Linear(a, b), nn.SiLU())][:-1])


def sample(n: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """x (n, 20), the label (n,), which a code of three dimensions tells, and the nuisance (n, 1), mixed by tanh."""
    constant = torch.Generator().manual_seed(7)
    means, first, second = (torch.randn(shape, generator=constant) for shape in ((5, 3), (4, 32), (32, 20)))
    labels, nuisance = torch.randint(0, 5, (n,), generator=generator), torch.randn(n, 1, generator=generator)
    code = 1.5 * means[labels] + 0.5 * torch.randn(n, 3, generator=generator)
    return torch.tanh(torch.cat([code, nuisance], 1) @ first * 0.5) @ second / 4, labels, nuisance


def probe(z: torch.Tensor, nuisance: torch.Tensor) -> float:
    """R2 of a fresh network for the nuisance, fitted on the first half of the samples, on the second."""
    z, half, network = (z - z.mean(0)) / z.std(0), len(z) // 2, mlp(z.shape[1], 64, 64, 1)
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(500):
        rows = torch.randint(0, half, (256,))
        optimizer.zero_grad()
        F.mse_loss(network(z[rows]), nuisance[rows]).backward()
        optimizer.step()
    return 1 - F.mse_loss(network(z[half:]), nuisance[half:]).item() / nuisance[half:].var().item()


def main(steps: int = 800) -> dict[float, tuple[float, float]]:
    found = {}
    for weight in (0.0, 1.0):
        generator = torch.manual_seed(0)
        encoder, head = mlp(20, 64, 64, 6), nn.Linear(6, 5)
        optimizer = torch.optim.Adam([*encoder.parameters(), *head.parameters()], 1e-3)
        penalty = InfoAtlasLoss(slices=None, direction="minimise")  # remembers 2048 pairs; full strength after 300 calls
        for _ in range(steps):
            x, labels, nuisance = sample(256, generator)
            z = encoder(x)
            loss = F.cross_entropy(head(z), labels) + (weight * penalty(z, nuisance) if weight else 0)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        x, labels, nuisance = sample(8000, generator)
        z = encoder(x).detach()
        found[weight] = float((head(z).argmax(1) == labels).float().mean()), probe(z, nuisance)
        print("weight {}: label accuracy {:.3f}, R2 of the nuisance {:.2f}".format(weight, *found[weight]))
    return found


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
