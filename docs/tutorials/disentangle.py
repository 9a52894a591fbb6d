"""Minimise I(z_a; z_b): an autoencoder whose code has two halves, one with the label and one without; under a minute."""

import sys
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from infoatlas_rl import InfoAtlasLoss, estimate_mi


def mlp(*sizes: int) -> nn.Sequential:
    layers = [part for a, b in pairwise(sizes) for part in (nn.Linear(a, b), nn.SiLU())]
    return nn.Sequential(*layers[:-1])


def sample(n: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """x (n, 20) of a label, (n,), and two free factors of style, mixed by tanh."""
    fixed = torch.Generator().manual_seed(3)
    means, first, second = (torch.randn(shape, generator=fixed) for shape in ((4, 2), (4, 32), (32, 20)))
    labels = torch.randint(0, 4, (n,), generator=generator)
    content = 2 * means[labels] + 0.3 * torch.randn(n, 2, generator=generator)
    factors = torch.cat([content, torch.randn(n, 2, generator=generator)], 1)
    return torch.tanh(factors @ first * 0.4) @ second / 4 + 0.02 * torch.randn(n, 20, generator=generator), labels


def main(steps: int = 800) -> dict[float, tuple[float, float]]:
    found = {}
    for weight in (0.0, 1.0):
        torch.manual_seed(0)
        generator = torch.Generator().manual_seed(0)
        encoder, head, decoder = mlp(20, 64, 64, 6), nn.Linear(3, 4), mlp(6, 64, 20)
        optimizer = torch.optim.Adam([p for net in (encoder, head, decoder) for p in net.parameters()], 2e-3)
        penalty = InfoAtlasLoss(slices=None, direction="minimise")
        for _ in range(steps):
            x, labels = sample(256, generator)
            z = encoder(x)
            content, style = z.split(3, dim=1)
            loss = F.cross_entropy(head(content), labels) + 10 * F.mse_loss(decoder(z), x)
            if weight:
                # The first side is what is searched for functions; both get gradients.
                loss = loss + weight * penalty(style, content)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        x, labels = sample(4000, generator)
        with torch.no_grad():
            z = encoder(x)
            error = float(F.mse_loss(decoder(z), x) / x.var())
        told = estimate_mi(z[:, 3:], labels, classes="y").mi
        found[weight] = told, error
        print(f"weight {weight}: I(style; label) {told:.2f} nats, reconstruction error {error:.3f} of the variance")
        print(f"            I(style; content) {estimate_mi(z[:, 3:], z[:, :3]).mi:.2f} nats")
    return found


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
