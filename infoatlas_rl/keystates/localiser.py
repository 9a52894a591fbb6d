"""The localiser: a trajectory and a concept to the time of the concept's key state (MaxMI, section 3.2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Localiser(nn.Module):
    """Temporal convolutions over the trajectory, read out by one embedding per concept, and a soft argmax over time.

    At the start concept k looks around phase (k + 1/2) / K; what it looks for there is learned.

    Args:
        dim: d, size of a state.
        concepts: K.
        width: channels.
        focus: width, in phase, of the window that a concept starts with.
    """

    def __init__(self, dim: int, concepts: int, width: int = 64, focus: float = 0.1) -> None:
        super().__init__()
        self.focus = focus
        self.layers = nn.ModuleList(
            [
                nn.Conv1d(dim + 1, width, kernel_size=5, padding=2),
                nn.Conv1d(width, width, kernel_size=5, padding=4, dilation=2),
                nn.Conv1d(width, width, kernel_size=5, padding=8, dilation=4),
            ]
        )
        self.concept = nn.Parameter(torch.randn(concepts, width) * 0.1)
        centres = (torch.arange(concepts) + 0.5) / concepts
        self.centre = nn.Parameter(centres)

    def forward(self, states: Tensor) -> Tensor:
        """States ``(b, T, d)`` to phases ``(b, K)`` in [0, 1]."""
        b, length, _ = states.shape
        phase = torch.linspace(0, 1, length, device=states.device, dtype=states.dtype)
        h = torch.cat([states, phase.expand(b, length).unsqueeze(-1)], dim=-1).transpose(1, 2)
        for index, layer in enumerate(self.layers):
            out = F.gelu(layer(h))
            h = out if index == 0 else h + out
        logits = torch.einsum("bct,kc->bkt", h, self.concept)
        window = -0.5 * ((phase - self.centre.unsqueeze(-1)) / self.focus) ** 2
        return torch.softmax(logits + window, dim=-1) @ phase
