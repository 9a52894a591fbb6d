"""``InfoAtlasLoss``: sliced mutual information as a term of a training objective."""

from __future__ import annotations

import copy
from collections.abc import Callable
from numbers import Integral
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn

from infoatlas_rl.checks import Sides, as_columns, check_classes, check_conditional, check_samples, check_slices, result_type
from infoatlas_rl.estimator.bounds import BOUNDS, without_outliers
from infoatlas_rl.estimator.critic import Critic
from infoatlas_rl.estimator.model import InfoAtlas, load_pretrained
from infoatlas_rl.estimator.parts import Single, by_parts
from infoatlas_rl.estimator.slicing import project, random_orthonormal
from infoatlas_rl.objectives.dependence import dependence
from infoatlas_rl.objectives.independence import Independence
from infoatlas_rl.objectives.memory import Memory, RunningValue
from infoatlas_rl.objectives.ranks import gathered, own_rank
from infoatlas_rl.transforms import outside_transforms, transformed, untraced
from infoatlas_rl.weights import fingerprint

Direction = Literal["maximise", "minimise"]
Gradient = Literal["canonical", "envelope", "full"]
Frames = tuple[Tensor | None, Tensor | None]

MIN_MEMORY = 256
VALUE_SAMPLES = 4096
"""Of all slices together, that the running value rests on where they are fewer than ``memory`` for each."""
SHIFTS = 4
"""Product samples per joint sample: for the small batches of a loss more of them cost time and gain nothing."""


class InfoAtlasLoss(nn.Module):
    """Negative (sliced) mutual information of paired samples, in nats: to be **minimised** to make x and y dependent.

    Examples:
        >>> generator = torch.Generator().manual_seed(0)
        >>> x, encoder = torch.randn(256, 100, generator=generator), nn.Linear(100, 30)
        >>> mi_loss = InfoAtlasLoss(slices=25, k=5)
        >>> loss = mi_loss(encoder(x), x)               # to be added to the loss of the task; maximises I(encoder(x); x)
        >>> loss.backward()
        >>> encoder.weight.grad.shape
        torch.Size([30, 100])
        >>> list(mi_loss.parameters()), mi_loss.state_dict()
        ([], OrderedDict())

    ``InfoAtlasLoss(direction="minimise")`` is a penalty that takes dependence away.

    The pretrained network inside is frozen: it has no trainable parameters, stays in evaluation mode under
    ``train()``, and nothing of it enters the ``state_dict`` of the module that contains this one. What is remembered of earlier
    batches is its own as well: it is in :meth:`state`, but for what :meth:`update` was given, and :meth:`reset` forgets it. So
    every pair of variables needs a loss of its own.

    Slices are a function of the seed, the sizes of x and y, and in training of ``step``, the number of times that slices were
    drawn (by ``forward``, ``mi`` and ``pointwise`` alike). Evaluation uses those of step 0, whatever is trained in between. A
    resumed run gets the same slices as an uninterrupted one if it keeps ``mi_loss.state()`` and gives it to
    ``mi_loss.restore()``.

    ``torch.func`` transforms (``grad``, ``jacrev``, ``vmap``, also of each other; ``jvp`` with the envelope gradient) work,
    and are one training call each; of a penalty they work in evaluation. ``torch.compile`` makes one graph but for new slices;
    with ``fullgraph=True`` it needs fixed slices or none, ``check_finite=False``, and one call of that size before. Large inputs
    are worked on in parts, and then can be differentiated once.

    Args:
        slices: S, random projections that are averaged (InfoAtlas, Eq. 10). None: no slicing, for x and y of at most
            20 dimensions.
        k: dimension of a slice, 1 to 20. A side with at most k dimensions is rotated, not reduced.
        sides: ``"both"`` projects x and y (Eq. 9), ``"x"`` projects x only, ``"y"`` projects y only.
        resample: draw new slices in every call while training (unbiased stochastic objective); False keeps the first
            ones, which makes the objective deterministic. In evaluation mode slices are always kept.
        bound: ``"dv"``, ``"nwj"``, ``"smile"`` or ``"infonce"``, evaluated with the same critic; InfoNCE has four
            negatives per sample here, so at most log 5 = 1.6 nats.
        gradient: what :meth:`forward` follows when it maximises. ``"canonical"``, the default: canonical information of whole
            vectors, contrasted over all pairs of the batch where x and y are views, see
            :mod:`infoatlas_rl.objectives.dependence`; it trains encoders best. ``"envelope"``: the bound, through the
            critic's arguments only (exact at its optimum), corrected in size by a share that was learned on the atlas, as
            :meth:`mi` and :meth:`pointwise` have it. ``"full"``: the bound, through the solve of the last layer, too,
            uncorrected.
        direction: ``"maximise"`` dependence, or ``"minimise"`` it: :meth:`forward` is then a penalty that rests on a memory, see
            :mod:`infoatlas_rl.objectives.independence`, and what it guarantees in ``docs/training.md``.
        memory: pairs of earlier batches that the penalty, the running value of training, and :meth:`compute` rest on.
        views: x and y are two views in one space, as two augmentations through one encoder are. None: if both have as many
            columns, more than one, of floating-point numbers.
        reduction: of :meth:`forward` over data sets: ``"mean"``, ``"sum"`` or ``"none"``.
        gather_distributed: :meth:`forward` sees the samples of all ranks of ``torch.distributed``, which have to be as many
            on each; averaged over ranks, as ``DistributedDataParallel`` does, gradients are those of one process with the
            whole batch.
        classes: ``"x"``, ``"y"`` or ``"both"``: these sides are class labels without an order, integers or booleans, ``(n,)``
            or ``(b, n)``; they are one-hot encoded. The number of columns is that of the distinct labels in the call: where
            batches may lack a class, ``torch.nn.functional.one_hot(labels, count)`` without ``classes`` keeps it fixed.
        check_finite: look for NaN and infinity, for which a GPU is waited for. With False, and in ``torch.func`` transforms,
            they are a ``torch.linalg.LinAlgError`` of the first decomposition instead, or the loss is meaningless.
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
        gradient: Gradient = "canonical",
        direction: Direction = "maximise",
        memory: int = 2048,
        views: bool | None = None,
        reduction: Literal["mean", "sum", "none"] = "mean",
        gather_distributed: bool = False,
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
            ("gradient", gradient, ("canonical", "envelope", "full")),
            ("direction", direction, ("maximise", "minimise")),
            ("reduction", reduction, ("mean", "sum", "none")),
            ("views", views, (None, True, False)),
        ):
            if value not in accepted:
                raise ValueError(f"{name} has to be one of {', '.join(map(str, accepted))}, not {value!r}")
        if not isinstance(memory, Integral) or memory < MIN_MEMORY:
            raise ValueError(f"memory has to be an integer of at least {MIN_MEMORY}, not {memory!r}")
        self.direction, self.memory, self.views, self.reduction = direction, int(memory), views, reduction
        self.slices, self.k, self.sides, self.resample = slices, k, sides, resample
        self.bound, self.gradient, self.classes = bound, gradient, classes
        self._followed = "full" if gradient == "full" else "envelope"  # of mi and pointwise
        self.gather_distributed, self.check_finite, self.per_rank_slices = gather_distributed, check_finite, per_rank_slices
        # In a tuple the network is no submodule: no parameters, no state_dict, no train().
        self._frozen = (model,)
        self._fingerprint = fingerprint(model)
        self._kept: dict[tuple[int, int, int], Frames] = {}
        self.reseed(seed)
        self._independence = Independence(self.memory, int(seed) % 2**63)
        self._running = RunningValue(self._steady_mi, min(self.memory, VALUE_SAMPLES // (slices or 1)))
        self._seen = Memory(self.memory, renew=True)

    def forward(self, x: Tensor, y: Tensor, conditional: Tensor | None = None) -> Tensor:
        """What is to be minimised, a scalar, or ``(b,)`` with ``reduction="none"``.

        Maximising: minus the MI in nats, averaged over slices, as :meth:`mi` says it; its gradient is what ``gradient`` names.
        Of the batch; in training with the canonical gradient, where x or y has gradients, of the last ``memory`` pairs (4096
        / slices, if those are fewer), of which more can be seen, computed anew in every 16th call, and of a bound that no single
        product sample decides (:func:`~infoatlas_rl.estimator.bounds.without_outliers`). Minimising: the penalty, in nats; in
        training every call learns from the batch and remembers it.

        Args:
            x: ``(n, dx)`` or ``(b, n, dx)``; n paired samples, at least 8, of one or of b data sets; ``(n,)`` for a single
                column. Integers and booleans are numbers, unless ``classes`` says that they are labels.
            y: ``(n, dy)`` or ``(b, n, dy)``, likewise.
            conditional: z, ``(n, dz)`` or ``(b, n, dz)``: of the conditional I(x; y | z), maximised only. Value and gradient are
                those of canonical information of whole vectors, for what a linear regression on z leaves of x and y: where they
                depend on z in another way, give functions of z beside it.

        Raises:
            TypeError, ValueError: shapes that do not match, too few samples, NaN or infinity, or more than 20 dimensions
                without slicing, ``conditional`` with another gradient than the canonical one. Constant columns, duplicated
                rows and ties are fine: value and gradients are finite; gradients of float16 beyond 65504 are cut there.
        """
        if self.gather_distributed:
            x, y, conditional = (gathered(side) for side in (x, y, conditional))
        if self.direction == "minimise":
            return self._penalty(x, y, conditional)
        if conditional is not None:
            y, conditional = check_conditional(y, conditional, classes=self.classes, finite=self.check_finite)
            return self._reduced(-self._conditional(x, y, conditional))
        if self.gradient != "canonical" or not torch.is_grad_enabled():
            return self._reduced(-self.mi(x, y))
        with torch.no_grad():
            value = -self._value(x, y)
        # The value of the estimate, the gradient of the objective.
        objective = -self._objective(x, y).to(value.dtype)
        return self._reduced(value + (objective - objective.detach()))

    def mi(self, x: Tensor, y: Tensor) -> Tensor:
        """Mutual information in nats, at least float32: a scalar for one data set, ``(b,)`` for b of them; differentiable."""

        def bounds(critic: Critic) -> Tensor:
            values = BOUNDS[self.bound](critic.joint, critic.product)
            if self._followed == "full":
                return values
            # The value of the bound, the size of the true gradient.
            return values.detach() + self._frozen[0].gradient_gain(critic) * (values - values.detach())

        return self._mean_over_slices(x, y, bounds)

    def pointwise(self, x: Tensor, y: Tensor) -> Tensor:
        """Pointwise MI of every sample in nats, averaged over slices: ``(n,)`` or ``(b, n)``. Its mean is the DV bound."""
        return self._mean_over_slices(x, y, lambda critic: critic.joint)

    def update(self, x: Tensor, y: Tensor) -> None:
        """Remember a batch ``(n, dx), (n, dy)`` for :meth:`compute`; for logging, as with metrics elsewhere."""
        check_samples(x, y, None, classes=self.classes, finite=self.check_finite)
        self._seen.add(*as_columns(x, y, self.classes))

    def compute(self) -> Tensor:
        """MI in nats of the last ``memory`` samples that :meth:`update` was given: it sees what a batch cannot show. Slices are
        those of evaluation, so that training goes on as it would have without."""
        if not len(self._seen):
            raise RuntimeError("compute() needs update(x, y) first")
        training, self.training = self.training, False
        try:
            with torch.no_grad():
                return self.mi(*self._newest(*self._seen.sides))
        finally:
            self.training = training

    def reset(self) -> None:
        """Forget all earlier batches."""
        self._seen.clear()
        self._running.reset()
        self._independence.reset()

    def reseed(self, seed: int) -> None:
        """Draw the slices anew, now and from here on, from another seed; training starts at step 0."""
        self.restore({"seed": seed, "step": 0})

    def state(self) -> dict[str, Any]:
        """What calls of :meth:`forward` to come depend on: ``seed`` and ``step`` of the slices, and the ``memory``; not what
        :meth:`update` was given."""
        return {"seed": self.seed, "step": self.step, "memory": self._remembered().state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where :meth:`state` was taken."""
        if not {"seed", "step"} <= set(state) <= {"seed", "step", "memory"}:
            raise ValueError(f"state has to be what state() returned, with seed and step, not {sorted(state)}")
        if wrong := [name for name in ("seed", "step") if not isinstance(state[name], Integral)]:
            raise ValueError(f"{wrong[0]} has to be an integer, not {state[wrong[0]]!r}")
        if "memory" in state:
            if ("weights" in state["memory"]) != (self.direction == "minimise"):
                raise ValueError(f"state is of a loss of the other direction, this one has direction={self.direction!r}")
            self._remembered().restore(state["memory"])
        self.seed, self.step = int(state["seed"]), int(state["step"])
        self._kept.clear()

    def _remembered(self) -> Independence | RunningValue:
        return self._independence if self.direction == "minimise" else self._running

    def _value(self, x: Tensor, y: Tensor) -> Tensor:
        """MI of the batch; while an encoder learns, the running value."""
        learns = self.training and any(isinstance(side, Tensor) and side.requires_grad for side in (x, y))
        if not learns or transformed() or torch.compiler.is_compiling():
            return self.mi(x, y)
        check_samples(x, y, self._most_columns(), classes=self.classes, finite=self.check_finite)
        return self._running(*as_columns(x, y, self.classes))

    def _conditional(self, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        if self.gradient != "canonical":
            raise ValueError(
                f"conditional= needs gradient='canonical', not {self.gradient!r}: the difference of two bounds is no conditional "
                "information; estimate_mi(x, y, given=z) estimates it"
            )
        dtype = result_type(x, y)
        check_samples(x, y, None, classes=self.classes, finite=self.check_finite)
        return self._objective(x, y, z).to(dtype)

    def _steady_mi(self, x: Tensor, y: Tensor) -> Tensor:
        """What is watched over training: a single product sample must not decide it."""
        bound, (x, y) = BOUNDS[self.bound], self._newest(x, y)
        return self._mean_over_slices(x, y, lambda critic: bound(critic.joint, without_outliers(critic.product)))

    def _newest(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """So many of the newest of remembered samples that they have no more classes than can be one-hot encoded."""
        most, labels = self._most_columns(), [side for name, side in (("x", x), ("y", y)) if self.classes in (name, "both")]
        while most is not None and any(len(side[..., : x.shape[-2], :].unique()) > most for side in labels):
            x, y = (side[..., : side.shape[-2] // 2, :] for side in (x, y))
        return x, y

    def _objective(self, x: Tensor, y: Tensor, z: Tensor | None = None) -> Tensor:
        numbers = self.classes is None and x.is_floating_point() and y.is_floating_point()
        x, y, batched = check_samples(x, y, None, classes=self.classes, finite=False)
        with torch.autocast(x.device.type, enabled=False):
            x, y = (Single.apply(side) if side.dtype in (torch.float16, torch.bfloat16) else side for side in (x, y))
            dtype = torch.promote_types(x.dtype, y.dtype)
            x, y = x.to(dtype), y.to(dtype)
            if z is not None:
                z = (z if z.ndim == 3 else z.unsqueeze(0)).to(y)
                value = dependence(x, y, views=False, given=z)
            else:
                views = numbers and x.shape[-1] == y.shape[-1] > 1 if self.views is None else self.views
                if views and x.shape[-1] != y.shape[-1]:
                    raise ValueError(
                        f"views=True is for x and y in one space, but they have {x.shape[-1]} and {y.shape[-1]} columns"
                    )
                value = dependence(x, y, views=views)
        return value if batched else value[0]

    def _penalty(self, x: Tensor, y: Tensor, z: Tensor | None) -> Tensor:
        if z is not None:
            raise ValueError("conditional= is for direction='maximise'; to minimise I(x; y | z) is not supported")
        x, y, batched = check_samples(x, y, None, classes=self.classes, finite=self.check_finite)
        if batched and len(x) > 1:
            raise ValueError(
                f"x has shape {tuple(x.shape)}; direction='minimise' takes one data set, (n, d): its memory is of one"
            )
        learn = self.training and torch.is_grad_enabled()
        if learn and transformed():
            raise ValueError("direction='minimise' learns in training, but not in torch.func transforms; call it in eval()")
        with torch.autocast(x.device.type, enabled=False):
            penalty = self._independence(x[0], y[0], learn=learn)
        return self._reduced(penalty.to(result_type(x, y)))

    def _reduced(self, values: Tensor) -> Tensor:
        if self.reduction == "none":
            return values
        return values.sum() if self.reduction == "sum" else values.mean()

    def _mean_over_slices(self, x: Tensor, y: Tensor, of: Callable[[Critic], Tensor]) -> Tensor:
        """Mean over slices of what ``of`` makes of a critic of s data sets, ``(s, ...)``."""
        dtype = result_type(x, y)
        x, y, batched = check_samples(x, y, self._most_columns(), classes=self.classes, finite=self.check_finite)
        b, model = len(x), self._network(x.device)

        def part(x: Tensor, y: Tensor) -> Tensor:
            with torch.autocast(x.device.type, enabled=False):
                return of(model(x, y, full_gradient=self._followed == "full", shifts=SHIFTS))

        # Ranks and projections in at least single precision, also under autocast.
        with torch.autocast(x.device.type, enabled=False):
            x, y = (Single.apply(t) if t.dtype in (torch.float16, torch.bfloat16) else t for t in (x, y))
            if self.slices is not None:
                x, y = self._slice(x, y)
        values = by_parts(x, y, part)
        means = rearrange(values, "(b s) ... -> b s ...", b=b).mean(1).to(dtype)
        return means if batched else means[0]

    def _most_columns(self) -> int | None:
        return None if self.slices is not None else self._frozen[0].config.max_dim

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
                out.append(project(samples, frames))
        return out[0], out[1]

    def _frames(self, dx: int, dy: int) -> Frames:
        """Slices of this call: new ones in a training call with ``resample``, else those of step 0, which are kept."""
        rank = own_rank() if self.per_rank_slices and self.training else 0
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
            f"gradient={self.gradient!r}, direction={self.direction!r}, memory={self.memory}, weights={self._fingerprint}"
        )
