"""``InfoAtlasLoss``: sliced mutual information as a term of a training objective."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.distributed as dist
from einops import rearrange
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from infoatlas_rl.checks import Sides, check_classes, check_samples, check_slices
from infoatlas_rl.estimator.bounds import BOUNDS
from infoatlas_rl.estimator.critic import Critic
from infoatlas_rl.estimator.estimate import chunks
from infoatlas_rl.estimator.model import InfoAtlas, load_pretrained
from infoatlas_rl.estimator.slicing import project, random_orthonormal
from infoatlas_rl.transforms import outside_transforms, transformed, untraced
from infoatlas_rl.weights import fingerprint

Gradient = Literal["envelope", "full"]
Frames = tuple[Tensor | None, Tensor | None]

SHIFTS = 4
"""Product samples per joint sample: for the small batches of a loss more of them cost time and gain nothing."""
PART = 30_000
"""Samples, of all slices and data sets together, that are worked on at a time: with gradients about a gigabyte."""


class InfoAtlasLoss(nn.Module):
    """Negative (sliced) mutual information of paired samples, in nats: to be **minimised** to make x and y dependent.

    ::

        mi_loss = InfoAtlasLoss(slices=25, k=5)
        loss = task_loss + 0.1 * mi_loss(x, y)      # maximises I(x; y)
        loss.backward()

    The pretrained network inside is frozen: it has no trainable parameters, stays in evaluation mode under
    ``train()``, and nothing of it enters the ``state_dict`` of the module that contains this one.

    Slices are a function of the seed, the sizes of x and y, and in training of ``step``, the number of training calls so far
    (of ``forward``, ``mi`` and ``pointwise`` alike). Evaluation uses those of step 0, whatever is trained in between. A resumed
    run gets the same slices as an uninterrupted one if it keeps ``mi_loss.state()`` and gives it to ``mi_loss.restore()``.

    ``torch.func`` transforms (``grad``, ``jacrev``, ``vmap``, also of each other; ``jvp`` with the envelope gradient) work, and
    are one training call each. ``torch.compile`` makes one graph but for new slices; with ``fullgraph=True`` it needs fixed
    slices or none, ``check_finite=False``, and one call of that size before. Large inputs are worked on in parts of ``PART``
    samples, and then can be differentiated once.

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
        classes: ``"x"``, ``"y"`` or ``"both"``: these sides are class labels without an order, integers or booleans, ``(n,)`` or
            ``(b, n)``; they are one-hot encoded. The number of columns is that of the distinct labels in the call: where
            batches may lack a class, ``torch.nn.functional.one_hot(labels, count)`` without ``classes`` keeps it fixed.
        check_finite: look for NaN and infinity, for which a GPU is waited for. With False, and in ``torch.func`` transforms, they
            are a ``torch.linalg.LinAlgError`` of the first decomposition instead, or the loss is meaningless.
        per_rank_slices: under ``torch.distributed`` every rank draws training slices of its own; by default all the same.
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
        classes: Sides | None = None,
        check_finite: bool = True,
        per_rank_slices: bool = False,
        seed: int = 0,
        weights: str | Path | InfoAtlas = "base",
    ) -> None:
        super().__init__()
        # A model that is handed over is copied: nobody else may thaw or move it.
        model = (
            copy.deepcopy(weights).eval().requires_grad_(False) if isinstance(weights, InfoAtlas) else load_pretrained(weights)
        )
        check_classes(classes)
        check_slices(1 if slices is None else slices, k, model.config.max_dim)
        for name, value, accepted in (
            ("sides", sides, ("both", "x", "y")),
            ("bound", bound, tuple(BOUNDS)),
            ("gradient", gradient, ("envelope", "full")),
        ):
            if value not in accepted:
                raise ValueError(f"{name} has to be one of {', '.join(accepted)}, not {value!r}")
        self.slices, self.k, self.sides, self.resample = slices, k, sides, resample
        self.bound, self.gradient, self.classes = bound, gradient, classes
        self.check_finite, self.per_rank_slices = check_finite, per_rank_slices
        # In a tuple the network is no submodule: no parameters, no state_dict, no train().
        self._frozen = (model,)
        self._fingerprint = fingerprint(model)
        self._kept: dict[tuple[int, int, int], Frames] = {}
        self.reseed(seed)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Negative MI in nats, averaged over slices and batch, a scalar.

        Args:
            x: ``(n, dx)`` or ``(b, n, dx)``; n paired samples, at least 16, of one or of b data sets; ``(n,)`` for a single
                column. Integers and booleans are numbers, unless ``classes`` says that they are labels.
            y: ``(n, dy)`` or ``(b, n, dy)``, likewise.

        Raises:
            TypeError, ValueError: shapes that do not match, too few samples, NaN or infinity, or more than 20 dimensions
                without slicing. Constant columns, duplicated rows and ties are fine: value and gradients are finite; gradients
                of float16 beyond 65504 are cut there.
        """
        return -self.mi(x, y).mean()

    def mi(self, x: Tensor, y: Tensor) -> Tensor:
        """Mutual information in nats, at least float32: a scalar for one data set, ``(b,)`` for b of them; differentiable."""

        def bounds(critic: Critic) -> Tensor:
            values = BOUNDS[self.bound](critic.joint, critic.product)
            if self.gradient == "full":
                return values
            # The value of the bound, the size of the true gradient.
            return values.detach() + self._frozen[0].gradient_gain(critic) * (values - values.detach())

        return self._mean_over_slices(x, y, bounds)

    def pointwise(self, x: Tensor, y: Tensor) -> Tensor:
        """Pointwise MI of every sample in nats, averaged over slices: ``(n,)`` or ``(b, n)``. Its mean is the DV bound."""
        return self._mean_over_slices(x, y, lambda critic: critic.joint)

    def reseed(self, seed: int) -> None:
        """Draw the slices anew, now and from here on, from another seed; training starts at step 0."""
        self.restore({"seed": seed, "step": 0})

    def state(self) -> dict[str, int]:
        """All that the slices of the calls to come depend on: ``{"seed": ..., "step": ...}``."""
        return {"seed": self.seed, "step": self.step}

    def restore(self, state: dict[str, int]) -> None:
        """Go on where :meth:`state` was taken."""
        if set(state) != {"seed", "step"}:
            raise ValueError(f"state has to be what state() returned, with seed and step, not {sorted(state)}")
        self.seed, self.step = int(state["seed"]), int(state["step"])
        self._kept.clear()

    def _mean_over_slices(self, x: Tensor, y: Tensor, of: Callable[[Critic], Tensor]) -> Tensor:
        """Mean over slices of what ``of`` makes of a critic of s data sets, ``(s, ...)``."""
        dtype = _result_type(x, y)
        limit = None if self.slices is not None else self._frozen[0].config.max_dim
        x, y, batched = check_samples(x, y, limit, classes=self.classes, finite=self.check_finite)
        b, model = len(x), self._network(x.device)

        def part(x: Tensor, y: Tensor) -> Tensor:
            with torch.autocast(x.device.type, enabled=False):
                return of(model(x, y, full_gradient=self.gradient == "full", shifts=SHIFTS))

        # Ranks and projections in at least single precision, also under autocast.
        with torch.autocast(x.device.type, enabled=False):
            x, y = (_Single.apply(t) if t.dtype in (torch.float16, torch.bfloat16) else t for t in (x, y))
            if self.slices is not None:
                x, y = self._slice(x, y)
        small = len(x) * x.shape[1] <= PART
        values = _in_parts(x, y, part) if small or transformed() else _InParts.apply(x, y, part)
        means = rearrange(values, "(b s) ... -> b s ...", b=b).mean(1).to(dtype)
        return means if batched else means[0]

    def _network(self, device: torch.device) -> InfoAtlas:
        model = self._frozen[0]
        if next(model.parameters()).device != device:
            with outside_transforms():
                model.to(device)
        return model

    def _slice(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        limit = self._frozen[0].config.max_dim
        out = []
        for name, samples, frames in zip("xy", (x, y), self._frames(x.shape[-1], y.shape[-1]), strict=True):
            if frames is None and samples.shape[-1] > limit:
                raise ValueError(f"{name} has {samples.shape[-1]} dimensions and is not sliced; at most {limit}, or sides='both'")
            if frames is None:
                out.append(samples.repeat_interleave(self.slices, dim=0))
            else:
                out.append(project(samples, frames.to(samples)))
        return out[0], out[1]

    def _frames(self, dx: int, dy: int) -> Frames:
        """Slices of this call: new ones in a training call with ``resample``, else those of step 0, which are kept."""
        rank = 0
        if self.per_rank_slices and self.training and dist.is_available() and dist.is_initialized():
            rank = dist.get_rank()
        fixed = not (self.training and self.resample)
        if fixed and (dx, dy, rank) in self._kept:
            return self._kept[dx, dy, rank]
        # Traced, it would be compiled anew for every step.
        return untraced(self._draw)(dx, dy, rank, fixed)

    def _draw(self, dx: int, dy: int, rank: int, fixed: bool) -> Frames:
        step = 0 if fixed else self.step
        seed = self.seed
        if step or rank:
            seed = int(np.random.SeedSequence([seed % 2**64, step, rank]).generate_state(1, np.uint64)[0])
        with outside_transforms():
            generator = torch.Generator().manual_seed(seed)
            frames = tuple(
                random_orthonormal(self.slices, d, self.k, generator=generator) if self.sides in ("both", side) else None
                for side, d in (("x", dx), ("y", dy))
            )
        if fixed:
            self._kept[dx, dy, rank] = frames
        else:
            self.step += 1
        return frames

    def extra_repr(self) -> str:
        return (
            f"slices={self.slices}, k={self.k}, sides={self.sides!r}, resample={self.resample}, bound={self.bound!r}, "
            f"gradient={self.gradient!r}, weights={self._fingerprint}"
        )


Part = Callable[[Tensor, Tensor], Tensor]


def _in_parts(x: Tensor, y: Tensor, part: Part) -> Tensor:
    return torch.cat([part(*pair) for pair in chunks(x, y, PART)])


class _InParts(torch.autograd.Function):
    """What ``part`` makes of data sets, some of them at a time. The backward pass computes every part again: nothing is kept of
    them in between, so that memory is that of one part (checkpoints of PyTorch keep little, but leave the heap in pieces)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, part: Part) -> Tensor:
        ctx.save_for_backward(x, y)
        ctx.part = part
        return _in_parts(x, y, part)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        saved, needed = ctx.saved_tensors, ctx.needs_input_grad[:2]
        grads = [torch.empty_like(t) if need else None for t, need in zip(saved, needed, strict=True)]
        start = 0
        for pair in chunks(*saved, PART):
            rows = slice(start, start + len(pair[0]))
            start = rows.stop
            pair = [t.detach().requires_grad_(need) for t, need in zip(pair, needed, strict=True)]
            with torch.enable_grad():
                values = ctx.part(*pair)
            found = iter(torch.autograd.grad(values, [t for t in pair if t.requires_grad], grad[rows]))
            for whole in grads:
                if whole is not None:
                    whole[rows] = next(found)
        return grads[0], grads[1], None


class _Single(torch.autograd.Function):
    """Half to single precision. What of a gradient is too large for half precision is cut, but infinity stays: it is how a
    gradient scaler sees that its scale is too large."""

    generate_vmap_rule = True

    @staticmethod
    def forward(samples: Tensor) -> Tensor:
        return samples.float()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.dtype = inputs[0].dtype

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        limit = torch.finfo(ctx.dtype).max
        return torch.where(grad.isinf(), grad, grad.clamp(-limit, limit)).to(ctx.dtype)

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> Tensor:
        return tangent.float()


def _result_type(x: Tensor, y: Tensor) -> torch.dtype:
    """At least single precision, as of PyTorch's own losses under autocast; integers do not raise it."""
    dtype = torch.float32
    for samples in (x, y):
        if isinstance(samples, Tensor) and samples.is_floating_point():
            dtype = torch.promote_types(dtype, samples.dtype)
    return dtype
