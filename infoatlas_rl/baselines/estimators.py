"""Every estimator that could be used instead, called alike: samples in, mutual information in nats out.

Examples:
    >>> x, noise = np.random.default_rng(0).normal(size=(2, 1000, 1))
    >>> for estimator in peers()[:3]:                   # the truth is log(2) / 2 = 0.35
    ...     print(estimator.name, round(estimator(x, x + noise), 2))
    InfoAtlas 0.36
    KSG 0.35
    Gaussian copula 0.35

Those that train something for the data set in hand (MINE, NWJ, SMILE, InfoNCE, KNIFE, MINDE) train on a random half of the rows
and report the value on the other half, at the best of ten looks at it, much as in the BMI benchmark (Czyz et al., NeurIPS 2023).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from infoatlas_rl.baselines.classical import gaussian_copula, kde, ksg, normal_scores
from infoatlas_rl.baselines.critics import OBJECTIVES, CriticTraining, critic_values, shifted, standardised, train_critic
from infoatlas_rl.baselines.infonet import InfoNetLoss, load_infonet
from infoatlas_rl.baselines.knife import KernelDensities, KNIFETraining, train_densities
from infoatlas_rl.baselines.minde import Denoiser, MINDETraining, Noisy, denoising_error, information, train_denoiser
from infoatlas_rl.baselines.mist import load_mist
from infoatlas_rl.estimator.model import InfoAtlas
from infoatlas_rl.weights import weights_hash

Array = NDArray[np.float64]

LOOKS = 10
"""How often training is interrupted to look at the held-out half."""
HELD_OUT_SHIFTS = 10
"""Product samples for every held-out joint sample."""


NETWORKS = "InfoAtlas", "InfoNet", "MIST"
"""Pretrained ones, whose first call is slower."""


class Estimator(Protocol):
    """Mutual information of one data set."""

    @property
    def name(self) -> str: ...

    @property
    def settings(self) -> Mapping[str, Any]: ...

    def __call__(self, x: Array, y: Array) -> float:
        """MI in nats of ``(n, dx)`` and ``(n, dy)``."""
        ...

    def parameters(self, dx: int, dy: int) -> int:
        """Numbers that were trained beforehand, or are trained for every data set; 0 where there are none."""
        ...


@runtime_checkable
class WithInterval(Estimator, Protocol):
    """An estimator that says how sure it is."""

    def quantiles(self, x: Array, y: Array) -> tuple[float, float, float]:
        """The 5 %, 50 % and 95 % quantiles of the MI in nats; the middle one is the estimate."""
        ...


@dataclass(frozen=True)
class Plain:
    """An estimator without anything that is trained."""

    name: str
    function: Callable[[Array, Array], float]
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, x: Array, y: Array) -> float:
        return self.function(x, y)

    def parameters(self, dx: int, dy: int) -> int:
        return 0


class Pretrained:
    """InfoAtlas, through ``estimate`` and its calibrated ``mi``.

    Args:
        options: of :meth:`~infoatlas_rl.InfoAtlas.estimate`, for example slices and k.
    """

    def __init__(self, weights: str = "base", name: str = "InfoAtlas", **options: Any) -> None:
        self._model, self._options = InfoAtlas.from_pretrained(weights), options
        self.name, self.settings = name, {"weights": weights, "sha256": weights_hash(weights), **options}

    def __call__(self, x: Array, y: Array) -> float:
        return self.quantiles(x, y)[1]

    def quantiles(self, x: Array, y: Array) -> tuple[float, float, float]:
        found = self._model.estimate(x, y, **self._options)
        return found.interval[0], found.mi, found.interval[1]

    def parameters(self, dx: int, dy: int) -> int:
        return sum(p.numel() for p in self._model.parameters())


class SlicedInfoNet:
    """InfoNet, of single columns as they are, of more by the mean over random one-dimensional slices: a sliced MI.

    Args:
        slices: where x or y has more than one column; the InfoAtlas paper uses 128.
    """

    name = "InfoNet"

    def __init__(self, slices: int = 128, seed: int = 0) -> None:
        self.settings = {"slices": slices, "seed": seed}
        self._single, self._sliced = InfoNetLoss(slices=1, seed=seed), InfoNetLoss(slices=slices, seed=seed)

    def __call__(self, x: Array, y: Array) -> float:
        loss = self._single if x.shape[1] == y.shape[1] == 1 else self._sliced
        loss.reseed(self.settings["seed"])
        with torch.no_grad():
            return float(loss.mi(_tensor(x), _tensor(y)))

    def parameters(self, dx: int, dy: int) -> int:
        return sum(p.numel() for p in load_infonet().parameters())


class MIST:
    """A set transformer that was trained on the problems of the atlas, and says quantiles at once.

    It has seen up to 1000 samples and 10 columns a side; more are read as they are.

    Args:
        weights: ``mist``, the released ones, or a file that ``tasks/pretrain_mist.py`` has written.
    """

    name = "MIST"

    def __init__(self, weights: str | Path = "mist") -> None:
        self._network = load_mist(weights)
        self.settings = {"weights": str(weights), "sha256": weights_hash(weights)}

    def __call__(self, x: Array, y: Array) -> float:
        return self.quantiles(x, y)[1]

    def quantiles(self, x: Array, y: Array) -> tuple[float, float, float]:
        with torch.no_grad():
            found = self._network(_tensor(x)[None], _tensor(y)[None], torch.tensor([[0.05, 0.5, 0.95]]))
        low, middle, high = found[0].sort().values.tolist()
        return low, middle, high

    def parameters(self, dx: int, dy: int) -> int:
        return sum(p.numel() for p in self._network.parameters())


class TrainedCritic:
    """MINE, NWJ, SMILE or InfoNCE, with a critic of its own for every data set.

    Args:
        name: of an objective of :data:`~infoatlas_rl.baselines.critics.OBJECTIVES`.
        training: size and steps of the critic.
        seed: of halves, initialisation and batches.
    """

    def __init__(self, name: str, training: CriticTraining, seed: int = 0) -> None:
        self.name, self.training, self.seed = name, training, seed
        self.settings = asdict(training) | {"seed": seed, "looks": LOOKS}

    def __call__(self, x: Array, y: Array) -> float:
        objective, generator = OBJECTIVES[self.name], torch.Generator().manual_seed(self.seed)
        fit, held = _halves(*(standardised(_tensor(side)[None])[0] for side in (x, y)), generator)
        best: tuple[float, list[Tensor]] = (-float("inf"), [])

        def scores(parameters: list[Tensor], shifts: int) -> tuple[Tensor, Tensor]:
            rows, partners = shifted(len(held[0]), shifts)
            joint = critic_values(parameters, held[0][None], held[1][None])
            return joint, critic_values(parameters, held[0][None, rows], held[1][None, partners])

        def look(step: int, parameters: list[Tensor]) -> None:
            nonlocal best
            if _looks(step, self.training.steps):
                with torch.no_grad():
                    reached = float(objective.ascended(*scores(parameters, HELD_OUT_SHIFTS)))
                    best = max(best, (reached, [p.detach().clone() for p in parameters]), key=lambda entry: entry[0])

        train_critic(fit[0][None], fit[1][None], objective, self.training, generator, look)
        # As many negatives as in training: InfoNCE is at most their logarithm.
        shifts = self.training.batch_size - 1 if objective.all_pairs else HELD_OUT_SHIFTS
        return float(objective.value(*scores(best[1], min(shifts, len(held[0]) - 1))))

    def parameters(self, dx: int, dy: int) -> int:
        return sum((a + 1) * b for a, b in pairwise(self.training.sizes(dx + dy)))


class KNIFE:
    """Learned kernel densities of normal scores, which have the same MI; the best held-out likelihood of either density counts.

    Args:
        training: size and steps of the densities.
        seed: of halves, initialisation and batches.
    """

    name = "KNIFE"

    def __init__(self, training: KNIFETraining | None = None, seed: int = 0) -> None:
        self.training, self.seed = training or KNIFETraining(), seed
        self.settings = asdict(self.training) | {"seed": seed, "looks": LOOKS}

    def __call__(self, x: Array, y: Array) -> float:
        generator = torch.Generator().manual_seed(self.seed)
        fit, held = _halves(*(_tensor(normal_scores(side)) for side in (x, y)), generator)
        best = [-float("inf")] * 2

        def look(step: int, densities: KernelDensities) -> None:
            nonlocal best
            if _looks(step, self.training.steps):
                with torch.no_grad():
                    best = [max(old, float(new.mean())) for old, new in zip(best, densities(*held), strict=True)]

        train_densities(*fit, self.training, generator, look)
        return best[1] - best[0]

    def parameters(self, dx: int, dy: int) -> int:
        densities = KernelDensities(dx, torch.zeros(1, dy), self.training, torch.Generator())
        return sum(p.numel() for p in densities.parameters())


class MINDE:
    """Two denoisers of a diffusion, on normal scores, which have the same MI; those of the best held-out denoising count.

    Args:
        training: size and steps of the denoiser.
        seed: of halves, initialisation, batches and noise.
    """

    name = "MINDE"

    def __init__(self, training: MINDETraining | None = None, seed: int = 0) -> None:
        self.training, self.seed = training or MINDETraining(), seed
        self.settings = asdict(self.training) | {"seed": seed, "looks": LOOKS}

    def __call__(self, x: Array, y: Array) -> float:
        generator = torch.Generator().manual_seed(self.seed)
        fit, held = _halves(*(_tensor(normal_scores(side)) for side in (x, y)), generator)
        noisy = Noisy(held[1], generator)
        best: tuple[float, dict[str, Tensor]] = (float("inf"), {})

        def look(step: int, denoiser: Denoiser) -> None:
            nonlocal best
            if _looks(step, self.training.steps):
                with torch.no_grad():
                    error = float(denoising_error(denoiser, held[0], noisy))
                if error < best[0]:
                    best = error, {name: tensor.clone() for name, tensor in denoiser.state_dict().items()}

        denoiser = train_denoiser(*fit, self.training, generator, look)
        denoiser.load_state_dict(best[1])
        with torch.no_grad():
            return float(information(denoiser, *held, generator))

    def parameters(self, dx: int, dy: int) -> int:
        return sum(p.numel() for p in Denoiser(dx, dy, self.training, torch.Generator()).parameters())


def peers(
    steps: int = 1000, *, weights: str = "base", slices: int = 128, seed: int = 0, mist: str | Path | None = None
) -> list[Estimator]:
    """InfoAtlas and all others, the trained ones with as many steps each.

    Args:
        steps: of MINE, NWJ, SMILE, InfoNCE, KNIFE and MINDE.
        slices: of InfoNet, where there is more than one column.
        seed: of all that is random.
        mist: weights of MIST, which is left out without.
    """
    # To InfoNCE every pair of a batch is a sample: with batches of 64 a step takes eight times as long as of the others, not 20.
    batches = {"InfoNCE": 64}
    return [
        Pretrained(weights),
        Plain("KSG", ksg, {"k": 5}),
        Plain("Gaussian copula", gaussian_copula),
        Plain("KDE", kde, {"width": "silverman", "on": "normal scores"}),
        SlicedInfoNet(slices, seed),
        *([MIST(mist)] if mist is not None else []),
        *(TrainedCritic(name, CriticTraining(steps, batches.get(name, CriticTraining.batch_size)), seed) for name in OBJECTIVES),
        KNIFE(KNIFETraining(steps), seed),
        MINDE(MINDETraining(steps), seed),
    ]


def _looks(step: int, steps: int) -> bool:
    """Whether the held-out half is looked at after this step."""
    return step % max(steps // LOOKS, 1) == 0


def _tensor(samples: Array) -> Tensor:
    return torch.as_tensor(np.asarray(samples), dtype=torch.float32)


def _halves(x: Tensor, y: Tensor, generator: torch.Generator) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Two random halves of the rows."""
    order = torch.randperm(len(x), generator=generator)
    first, second = order[: len(x) // 2], order[len(x) // 2 :]
    return (x[first], y[first]), (x[second], y[second])
