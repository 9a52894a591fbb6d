"""Maximise I(code of a state; code of the next key state) of demonstrations, and see what the code tells of it; a minute.

python tasks/collect_demos.py env=StackCube demos.count=100
python tasks/discover_keystates.py env=StackCube demos.count=100
"""

import sys

import numpy as np
import torch

from infoatlas_rl import InfoAtlasLoss
from infoatlas_rl.keystates.files import read_key_states
from infoatlas_rl.maniskill.demos import load_demonstrations
from infoatlas_rl.maniskill.tasks import TASKS

DEMOS = "demos/StackCube-v1/motionplanning/trajectory.h5"
KEY_STATES = "runs/keystates/StackCube-default/keystates.npz"


def read(demos: str, key_states: str) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """States (t, 100) of every demonstration and the states at their next key state (t, 100)."""
    demonstrations, pairs = load_demonstrations(demos, TASKS["StackCube"]).demonstrations, []
    steps, states = read_key_states(key_states, [d.seed for d in demonstrations])
    for demonstration, at, there in zip(demonstrations, steps, states, strict=True):
        following = np.searchsorted(at, np.arange(len(demonstration)), side="right").clip(max=len(at) - 1)
        pairs.append((torch.tensor(demonstration.states).float(), torch.tensor(there[following]).float()))
    return pairs


def explained(z: torch.Tensor, y: torch.Tensor, test_z: torch.Tensor, test_y: torch.Tensor) -> float:
    """R2 of a linear map from codes to next key states on unseen demonstrations, of columns that vary."""
    one, test_one = (torch.cat([t, torch.ones(len(t), 1)], 1) for t in (z, test_z))
    left = (test_y - test_one @ torch.linalg.lstsq(one, y).solution).square().mean(0)
    return float((1 - left / test_y.var(0))[y.std(0) > 0.01].clamp(min=0).mean())


def main(steps: int = 600, demos: str = DEMOS, key_states: str = KEY_STATES) -> None:
    pairs = read(demos, key_states)
    held = len(pairs) // 5
    (x, y), (test_x, test_y) = (tuple(map(torch.cat, zip(*part, strict=True))) for part in (pairs[held:], pairs[:held]))
    mean, scale = x.mean(0), x.std(0).clamp(min=0.01)
    generator = torch.manual_seed(0)
    nets = [torch.nn.Sequential(torch.nn.Linear(100, 128), torch.nn.SiLU(), torch.nn.Linear(128, 16)) for _ in range(2)]
    optimizer = torch.optim.Adam(torch.nn.ModuleList(nets).parameters(), 1e-3)
    mi_loss = InfoAtlasLoss(slices=None)
    for step in range(steps + 1):
        rows = torch.randint(0, len(x), (256,), generator=generator)
        loss = mi_loss(nets[0]((x[rows] - mean) / scale), nets[1]((y[rows] - mean) / scale))
        if step % 200 == 0:
            with torch.no_grad():
                z, test_z = (nets[0]((t - mean) / scale) for t in (x, test_x))
            print(f"step {step}: {-loss.item():.2f} nats; next key state, R2 of the code {explained(z, y, test_z, test_y):.2f}")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]), *sys.argv[2:])
