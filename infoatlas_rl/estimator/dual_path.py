"""The dual-path encoder of the hypernetwork: reads a data set through learnable latent queries, at a cost linear in n.

InfoAtlas, section 3.1 and A.5 (after Perceiver IO, Jaegle et al., 2021)::

    joint path       latents attend to the tokens [x_i; y_i], then to each other
    marginal path    latents that have seen x attend to y, latents that have seen y attend to x; their sum attends to itself
    fusion           the marginal encoding queries the joint encoding: what is there beyond chance?
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    """Pre-normalised multi-head attention and a feed-forward layer, both residual.

    Latents ``(b, l, width)`` attend to themselves or, with ``cross``, to a context ``(b, t, width)``.
    """

    def __init__(self, width: int, heads: int, *, cross: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.norm, self.norm_hidden = nn.LayerNorm(width), nn.LayerNorm(width)
        self.norm_context = nn.LayerNorm(width) if cross else None
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.merge = nn.Linear(width, width)
        self.hidden = nn.Sequential(nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, width))

    def forward(self, latents: Tensor, context: Tensor | None = None) -> Tensor:
        normed = self.norm(latents)
        keys, values = self.key_value(normed if self.norm_context is None else self.norm_context(context)).chunk(2, dim=-1)
        query, keys, values = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in (self.query(normed), keys, values))
        attended = F.scaled_dot_product_attention(query, keys, values)
        latents = latents + self.merge(attended.transpose(1, 2).flatten(-2))
        return latents + self.hidden(self.norm_hidden(latents))


class DualPathEncoder(nn.Module):
    """Encoding ``(b, width)`` of a data set given as tokens of its sides, ``(b, t, inputs)`` each.

    Args:
        inputs: size of the token of one side.
        width: of latents, keys and values.
        latents: number of learnable queries of each path.
        joint_layers, marginal_layers: self-attention layers (the paper: 16 and 8).
    """

    def __init__(self, inputs: int, *, width: int, latents: int, joint_layers: int, marginal_layers: int, heads: int = 4) -> None:
        super().__init__()
        self.joint_tokens = nn.Sequential(nn.Linear(2 * inputs, width), nn.SiLU(), nn.Linear(width, width))
        self.side_tokens = nn.Sequential(nn.Linear(inputs, width), nn.SiLU(), nn.Linear(width, width))
        self.joint_latents = nn.Parameter(torch.randn(latents, width))
        self.side_latents = nn.Parameter(torch.randn(latents, width))
        self.read_joint, self.read_own, self.read_other, self.fuse = (Attention(width, heads, cross=True) for _ in range(4))
        self.joint_layers = nn.Sequential(*(Attention(width, heads) for _ in range(joint_layers)))
        self.marginal_layers = nn.Sequential(*(Attention(width, heads) for _ in range(marginal_layers)))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        b = len(x)
        joint = self.read_joint(self.joint_latents.expand(b, -1, -1), self.joint_tokens(torch.cat([x, y], dim=-1)))
        joint = self.joint_layers(joint)
        # Both directions in one batch: the same weights serve x and y.
        own = self.side_tokens(torch.cat([x, y]))
        other = own.roll(b, 0)
        sides = self.read_other(self.read_own(self.side_latents.expand(2 * b, -1, -1), own), other)
        marginal = self.marginal_layers(sides[:b] + sides[b:])
        return self.norm(self.fuse(marginal, joint).mean(1))
