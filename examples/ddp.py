"""The penalty under DistributedDataParallel, on one machine or many.

torchrun --nproc-per-node 2 examples/ddp.py --steps 20
"""

import argparse

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import pydisent

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=20)
steps = parser.parse_args().steps

has_gpu = torch.cuda.is_available()
dist.init_process_group("nccl" if has_gpu else "gloo")
rank = dist.get_rank()
device = torch.device("cuda", rank % torch.cuda.device_count()) if has_gpu else torch.device("cpu")

torch.manual_seed(0)  # the same weights everywhere
generator = nn.Sequential(nn.Linear(8, 64), nn.SiLU(), nn.Linear(64, 256)).to(device)
generator = DistributedDataParallel(generator)
optimizer = torch.optim.Adam(generator.parameters(), 1e-3)
torch.manual_seed(1 + rank)  # codes of its own

for _ in range(steps):
    z = torch.randn(16, 8, device=device)
    penalty = pydisent.alignment_penalty(generator, z, k=3, iterations=6)
    # Add a loss on the images, as in a GAN: the Jacobian does not depend on the last bias, and DDP
    # waits for the gradient of every parameter.
    loss = generator(z).square().mean() + 0.1 * penalty
    optimizer.zero_grad()
    loss.backward()  # averages the gradients of all processes
    optimizer.step()

total = torch.stack([p.detach().double().sum() for p in generator.parameters()]).sum()
totals = [torch.empty_like(total) for _ in range(dist.get_world_size())]
dist.all_gather(totals, total)
assert all(torch.equal(t, total) for t in totals), "weights have come apart"
if rank == 0:
    print(f"penalty {penalty.item():.3f}; {len(totals)} processes have the same weights")
dist.destroy_process_group()
