"""One training step of Gyrus's default network in PyTorch, on a CPU: prints {"step_ms": median} as one line of JSON.

The layers, their order, the loss and the optimizer are those of `src/nn/unet.rs`, `src/ops/dice` and `src/ops/optimizer`
for the architecture conv3dtranspose_batchnormalization. Called by compare.py; needs torch.
"""

import argparse
import json
import statistics
import time

import torch
from torch import nn
from torch.nn import functional as F


def conv(inputs, outputs, normalised=True):
    layers = [nn.Conv3d(inputs, outputs, 3, padding=1), nn.ReLU()]
    # PyTorch's momentum is the share that moves: Keras's 0.99 stays.
    return nn.Sequential(*layers, nn.BatchNorm3d(outputs, eps=1e-3, momentum=0.01)) if normalised else nn.Sequential(*layers)


class Level(nn.Module):
    """Two convolutions; gives what comes before and after the last normalisation."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.first, self.second = conv(inputs, outputs), conv(outputs, outputs, normalised=False)
        self.norm = nn.BatchNorm3d(outputs, eps=1e-3, momentum=0.01)

    def forward(self, x):
        activated = self.second(self.first(x))
        return activated, self.norm(activated)


class Network(nn.Module):
    def __init__(self, channels, classes, factor):
        super().__init__()
        down = [width // factor for width in (64, 128, 256, 512, 1024)]
        up = [width // factor for width in (32, 64, 128, 512)]
        self.encoder = nn.ModuleList(Level(i, o) for i, o in zip([channels, *down], down))
        below = down[1:]
        self.enlarge = nn.ModuleList(nn.ConvTranspose3d(i, o, 2, stride=2) for i, o in zip(below, up))
        self.enlarged_norm = nn.ModuleList(nn.BatchNorm3d(o, eps=1e-3, momentum=0.01) for o in up)
        self.decoder = nn.ModuleList(Level(skip + o, skip) for skip, o in zip(down, up))
        self.head = nn.Sequential(conv(down[0], 2), nn.Conv3d(2, classes, 1))

    def forward(self, x):
        skips = []
        for index, level in enumerate(self.encoder):
            activated, x = level(x if index == 0 else F.max_pool3d(x, 2))
            # Levels 1 to 3 hand on what came before the last normalisation.
            skips.append(activated if index < 3 else x)
        for index in reversed(range(4)):
            enlarged = self.enlarged_norm[index](self.enlarge[index](x))
            x = self.decoder[index](torch.cat([skips[index], enlarged], 1))[1]
        return self.head(x)


def log_dice(logits, truth):
    p = logits.float().softmax(1)
    axes = (0, 2, 3, 4)
    dice = (2 * (p * truth).sum(axes) + 1e-7) / (p.square().sum(axes) + truth.square().sum(axes) + 1e-7)
    return (1 - dice.mean()).cosh().log()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--extent", type=int, nargs=3, required=True)
    parser.add_argument("--channels", type=int, required=True)
    parser.add_argument("--classes", type=int, required=True)
    parser.add_argument("--factor", type=int, required=True)
    parser.add_argument("--precision", choices=("fp32", "bf16"), required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--steps", type=int, required=True)
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    layout = torch.channels_last_3d
    network = Network(options.channels, options.classes, options.factor).to(memory_format=layout).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
    images = torch.randn(1, options.channels, *options.extent).to(memory_format=layout)
    labels = torch.randint(options.classes, (1, *options.extent))
    truth = F.one_hot(labels, options.classes).permute(0, 4, 1, 2, 3).float()

    def step():
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=options.precision == "bf16"):
            logits = network(images)
        log_dice(logits, truth).backward()
        nn.utils.clip_grad_value_(network.parameters(), 50)
        optimizer.step()

    times = []
    for _ in range(options.steps + 3):
        start = time.perf_counter()
        step()
        times.append(1e3 * (time.perf_counter() - start))
    print(json.dumps({"step_ms": statistics.median(times[3:]), "version": torch.__version__}))


if __name__ == "__main__":
    main()
