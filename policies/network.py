"""The transformer of the policies: recent states, key-state tokens, one action token.

The sequence is [state_(t-H+1), ..., state_t, key_1, ..., key_K, action]. States see what came before them; the learnable
key-state tokens see every state and each other, and their outputs predict the key states of the episode; the action token
sees everything, and is decoded together with the last state into a chunk of commands. After CoTPC (Jia et al. 2024,
"Chain-of-Thought Predictive Control"), where the key states were labelled by hand; here they are discovered.
"""

from __future__ import annotations

import torch
from einops import rearrange, repeat
from torch import Tensor, nn


class Block(nn.Module):
    """Pre-norm self-attention and MLP."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.ReLU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        q, k, v = rearrange(self.qkv(self.norm_attention(x)), "b t (three h d) -> three b h t d", three=3, h=self.heads)
        # Written out: for a dozen tokens it is four times as fast on a CPU as the fused kernel.
        weights = (q @ k.mT * q.shape[-1] ** -0.5 + mask).softmax(-1)
        attended = weights @ v
        x = x + self.out(rearrange(attended, "b h t d -> b t (h d)"))
        return x + self.mlp(self.norm_mlp(x))


class KeyStateTransformer(nn.Module):
    """Features of the last H steps to a chunk of commands and the key states.

    Args:
        inputs: size of a step's features.
        context: H, steps that are seen.
        key_states: K, number of key-state tokens.
        key_size: numbers that describe a key state.
        chunk: commands that are decoded at once.
        command_size: numbers that describe a command.
    """

    def __init__(
        self,
        inputs: int,
        *,
        context: int,
        key_states: int,
        key_size: int,
        chunk: int,
        command_size: int,
        width: int,
        depth: int,
        heads: int,
    ) -> None:
        super().__init__()
        self.context, self.key_states, self.chunk = context, key_states, chunk
        self.embed = nn.Sequential(nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width))
        self.tokens = nn.Parameter(0.02 * torch.randn(key_states + 1, width))
        self.positions = nn.Parameter(0.02 * torch.randn(context, width))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.key_head = nn.Linear(width, key_size)
        self.action_head = nn.Sequential(nn.Linear(2 * width, 2 * width), nn.ReLU(), nn.Linear(2 * width, chunk * command_size))
        length = context + key_states + 1
        mask = torch.ones(length, length, dtype=torch.bool)
        mask[:context] = torch.ones(context, length).tril().bool()
        mask[context:-1, -1] = False
        self.register_buffer("mask", torch.zeros(length, length).masked_fill(~mask, -1e4), persistent=False)

    def forward(self, steps: Tensor) -> tuple[Tensor, Tensor]:
        """``(b, context, inputs)`` to commands ``(b, chunk, command_size)`` and key states ``(b, key_states, key_size)``."""
        states = self.embed(steps) + self.positions
        x = torch.cat([states, repeat(self.tokens, "t d -> b t d", b=len(steps))], 1)
        for block in self.blocks:
            x = block(x, self.mask)
        x = self.norm(x)
        action = self.action_head(torch.cat([x[:, self.context - 1], x[:, -1]], -1))
        return rearrange(action, "b (c d) -> b c d", c=self.chunk), self.key_head(x[:, self.context : -1])
