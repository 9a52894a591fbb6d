"""``InfoAtlasLoss``: sliced mutual information as a term of a training objective."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Literal

import torch
from einops import rearrange
from torch import Tensor, nn

from infoatlas_rl.checks import check_samples, check_slices
from infoatlas_rl.estimator.bounds import BOUNDS
from infoatlas_rl.estimator.model import InfoAtlas, load_pretrained
from infoatlas_rl.estimator.slicing import project, random_orthonormal
from infoatlas_rl.weights import fingerprint

Gradient = Literal["envelope", "full"]

SHIFTS = 4
"""Product samples per joint sample: for the small batches of a loss more of them cost time and gain nothing."""


class InfoAtlasLoss(nn.Module):
    """Negative (sliced) mutual information of paired samples, in nats: to be **minimised** to make x and y dependent.

    ::

        mi_loss = InfoAtlasLoss(slices=25, k=5)
        loss = task_loss + 0.1 * mi_loss(x, y)      # maximises I(x; y)
        loss.backward()

    The pretrained network inside is frozen: it has no trainable parameters, stays in evaluation mode under
    ``train()``, and nothing of it enters the ``state_dict`` of the module that contains this one.

    Args:
        slices: S, random projections that are averaged (InfoAtlas, Eq. 10). None: no slicing, for x and y of at most
            20 dimensions.
        k: dimension of a slice, 1 to 20. A side with at most k dimensions is rotated, not reduced.
        sides: ``"both"`` projects x and y (Eq. 9), ``"x"`` projects x only, ``"y"`` projects y only.
        resample: draw new slices in every call while training (unbiased stochastic objective); False keeps the first
            ones, which makes the objective deterministic. In evaluation mode slices are always kept.
        bound: ``"dv"``, ``"nwj"``, ``"smile"`` or ``"infonce"``, evaluated with the same critic; InfoNCE has four
            negatives per sample here, so at most log 5 = 1.6 nats.
        gradient: ``"envelope"`` differentiates through the critic's arguments only (cheap, and exact at the optimum of
            the bound) and corrects the size: critics written on few samples are shrunk, and so are their gradients, by
            a share that was learned on the atlas. ``"full"`` differentiates also through the solve of the last layer,
            and is not corrected.
        seed: of the slices.
        weights: name of released weights or a path, see :meth:`InfoAtlas.from_pretrained`; or a loaded model.
    """

    def __init__(
        self,
        slices: int | None = 25,
        k: int = 5,
        *,
        sides: Literal["both", "x", "y"] = "both",
        resample: bool = True,
        bound: str = "dv",
        gradient: Gradient = "envelope",
        seed: int = 0,
        weights: str | Path | InfoAtlas = "base",
    ) -> None:
        super().__init__()
        # A model that is handed over is copied: nobody else may thaw or move it.
        model = (
            copy.deepcopy(weights).eval().requires_grad_(False) if isinstance(weights, InfoAtlas) else load_pretrained(weights)
        )
        check_slices(1 if slices is None else slices, k, model.config.max_dim)
        for name, value, accepted in (
            ("sides", sides, ("both", "x", "y")),
            ("bound", bound, tuple(BOUNDS)),
            ("gradient", gradient, ("envelope", "full")),
        ):
            if value not in accepted:
                raise ValueError(f"{name} has to be one of {', '.join(accepted)}, not {value!r}")
        self.slices, self.k, self.sides, self.resample = slices, k, sides, resample
        self.bound, self.gradient, self.seed = bound, gradient, seed
        # In a tuple the network is no submodule: no parameters, no state_dict, no train().
        self._frozen = (model,)
        self._fingerprint = fingerprint(model)
        self._generator = torch.Generator().manual_seed(int(seed))
        self._kept: dict[tuple[int, int], tuple[Tensor | None, Tensor | None]] = {}

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Negative MI in nats, averaged over slices and batch, a scalar.

        Args:
            x: ``(n, dx)`` or ``(b, n, dx)``; n paired samples, at least 16, of one or of b data sets.
            y: ``(n, dy)`` or ``(b, n, dy)``.

        Raises:
            ValueError: shapes that do not match, too few samples, NaN or infinity, or more than 20 dimensions without
                slicing. Constant columns, duplicated rows and ties are fine: value and gradients are finite.
        """
        return -self.mi(x, y).mean()

    def mi(self, x: Tensor, y: Tensor) -> Tensor:
        """Mutual information in nats, at least float32: a scalar for ``(n, d)`` inputs, ``(b,)`` for ``(b, n, d)``;
        differentiable."""
        critic, batched, b = self._critics(x, y)
        values = BOUNDS[self.bound](critic.joint, critic.product)
        if self.gradient == "envelope" and values.requires_grad:
            # The value of the bound, the size of the true gradient.
            values = values.detach() + self._frozen[0].gradient_gain(critic) * (values - values.detach())
        values = rearrange(values, "(b s) -> b s", b=b).mean(-1).to(_result_type(x, y))
        return values if batched else values[0]

    def pointwise(self, x: Tensor, y: Tensor) -> Tensor:
        """Pointwise MI of every sample in nats, averaged over slices: ``(n,)`` or ``(b, n)``. Its mean is the DV bound."""
        critic, batched, b = self._critics(x, y)
        values = rearrange(critic.joint, "(b s) n -> b s n", b=b).mean(1).to(_result_type(x, y))
        return values if batched else values[0]

    def reseed(self, seed: int) -> None:
        """Draw the slices anew, now and from here on, from another seed."""
        self._generator.manual_seed(int(seed))
        self._kept.clear()

    def _critics(self, x: Tensor, y: Tensor) -> tuple[Any, bool, int]:
        x, y, batched = check_samples(x, y, None if self.slices is not None else self._frozen[0].config.max_dim)
        b, device = len(x), x.device
        model = self._frozen[0].to(device)
        # Ranks and projections in at least single precision, also under autocast.
        with torch.autocast(device.type, enabled=False):
            x, y = (t.float() if t.dtype in (torch.float16, torch.bfloat16) else t for t in (x, y))
            if self.slices is not None:
                x, y = self._slice(x, y)
            return model(x, y, full_gradient=self.gradient == "full", shifts=SHIFTS), batched, b

    def _slice(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        size = x.shape[-1], y.shape[-1]
        if size not in self._kept or (self.resample and self.training):
            with torch.inference_mode(False):  # they outlive the call, and may be wanted for gradients then
                self._kept[size] = tuple(
                    random_orthonormal(self.slices, d, self.k, generator=self._generator)
                    if self.sides in ("both", side)
                    else None
                    for side, d in zip("xy", size, strict=True)
                )
        limit = self._frozen[0].config.max_dim
        out = []
        for name, samples, frames in zip("xy", (x, y), self._kept[size], strict=True):
            if frames is None and samples.shape[-1] > limit:
                raise ValueError(f"{name} has {samples.shape[-1]} dimensions and is not sliced; at most {limit}, or sides='both'")
            if frames is None:
                out.append(samples.repeat_interleave(self.slices, dim=0))
            else:
                out.append(project(samples, frames.to(samples)))
        return out[0], out[1]

    def extra_repr(self) -> str:
        return (
            f"slices={self.slices}, k={self.k}, sides={self.sides!r}, resample={self.resample}, bound={self.bound!r}, "
            f"gradient={self.gradient!r}, weights={self._fingerprint}"
        )


def _result_type(x: Tensor, y: Tensor) -> torch.dtype:
    """At least single precision, as of PyTorch's own losses under autocast."""
    return torch.promote_types(torch.promote_types(x.dtype, y.dtype), torch.float32)
