"""The building block of the pretrained peers."""

from __future__ import annotations

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

HEADS = 4


def require_heads(width: int) -> None:
    """Raise a ``ValueError`` for a width that the heads cannot share."""
    if width % HEADS:
        raise ValueError(f"width has to be a multiple of {HEADS}, not {width}")


class Attention(nn.Module):
    """Pre-norm cross-attention with a residual connection and an MLP."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm_q, self.norm_kv, self.norm = nn.LayerNorm(width), nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key_value, self.out = (
            nn.Linear(width, width),
            nn.Linear(width, 2 * width),
            nn.Linear(width, width),
        )
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, query: Tensor, content: Tensor) -> Tensor:
        q = rearrange(self.query(self.norm_q(query)), "b m (h d) -> b h m d", h=HEADS)
        k, v = rearrange(self.key_value(self.norm_kv(content)), "b n (two h d) -> two b h n d", two=2, h=HEADS)
        attended = F.scaled_dot_product_attention(q, k, v)
        query = query + self.out(rearrange(attended, "b h m d -> b m (h d)"))
        return query + self.mlp(self.norm(query))
