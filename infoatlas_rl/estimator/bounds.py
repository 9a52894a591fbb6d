"""Stage 6, bounds: variational lower bounds on MI from critic values, in nats.

All take the critic on joint samples ``joint: (b, n)`` and on product samples ``product: (b, N)`` and return ``(b,)``.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor


def donsker_varadhan(joint: Tensor, product: Tensor) -> Tensor:
    """``E_p[t] - log E_q[exp t]`` (Donsker & Varadhan, 1983; InfoAtlas, Eq. 2 and 5)."""
    return joint.mean(-1) - log_mean_exp(product)


def nwj(joint: Tensor, product: Tensor) -> Tensor:
    """``E_p[t] - E_q[exp t] + 1`` (Nguyen, Wainwright & Jordan, 2010), here without the shift of t by one: the critic is
    normalised to ``E_q[exp t] = 1`` on the data it was written for, where this bound is as tight as Donsker-Varadhan."""
    return joint.mean(-1) - log_mean_exp(product).exp() + 1


def smile(joint: Tensor, product: Tensor, clip: float = 5.0) -> Tensor:
    """Donsker-Varadhan with the critic clipped to ``[-clip, clip]`` in the log-partition term (Song & Ermon, 2020)."""
    return joint.mean(-1) - log_mean_exp(product.clamp(-clip, clip))


def info_nce(joint: Tensor, product: Tensor) -> Tensor:
    """``log K + E_p[t - log(exp t + sum_k exp t_k)]`` with the K - 1 product samples of each joint sample as negatives
    (van den Oord et al., 2018). ``N`` has to be a multiple of ``n``; at most ``log K``."""
    b, n = joint.shape
    negatives = product.reshape(b, -1, n)
    logits = torch.cat([joint.unsqueeze(1), negatives], dim=1)
    return (joint - logits.logsumexp(1)).mean(-1) + math.log(logits.shape[1])


def log_mean_exp(values: Tensor) -> Tensor:
    return values.logsumexp(-1) - math.log(values.shape[-1])


def without_outliers(product: Tensor) -> Tensor:
    """Product values ``(b, N)`` of which the largest, one for every 2048, are cut to the next one.

    Where the information is near log N, one product sample can outweigh all others in ``E_q[exp t]``, and every bound falls by
    nats: a value that is watched over training would jump. Up to 4 nats the cut adds less than 0.1; beyond log N, where a bound
    is off by nats in either direction, it adds up to 4.
    """
    count = 1 + product.shape[-1] // 2048
    return product.clamp(max=product.topk(count, dim=-1).values[..., -1:])


BOUNDS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "dv": donsker_varadhan,
    "nwj": nwj,
    "smile": smile,
    "infonce": info_nce,
}
