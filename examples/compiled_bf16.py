"""A compiled generator under bfloat16 autocast, with the penalty's tangents in bfloat16.

python examples/compiled_bf16.py --steps 20 --no-compile   # without a C++ compiler
"""

import argparse

import torch
from torch.nn.functional import softplus

import pydisent
from pydisent.nn import DCGANDiscriminator, DCGANGenerator

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=20)
parser.add_argument("--no-compile", action="store_true")
args = parser.parse_args()

torch.manual_seed(0)
device = "cuda" if torch.cuda.is_available() else "cpu"
generator = DCGANGenerator(latent_size=16, channels=1, base=8, image_size=32).to(device)
discriminator = DCGANDiscriminator(channels=1, base=8, image_size=32).to(device)
optimizer = torch.optim.RMSprop(generator.parameters(), 1e-4)
generate = generator if args.no_compile else torch.compile(generator)

for _ in range(args.steps):
    z = torch.randn(16, 16, device=device)
    with torch.autocast(device, torch.bfloat16):
        loss = softplus(-discriminator(generate(z)).float()).mean()
    # The penalty does its own tracing, so it takes the plain generator. Only its tangents are in
    # bfloat16, and these fall back to float32 on processors without native bfloat16.
    penalty = pydisent.alignment_penalty(
        generator, z, k=4, iterations=8, compute_dtype=torch.bfloat16
    )
    optimizer.zero_grad()
    (loss + 0.1 * penalty).backward()
    optimizer.step()
print(f"loss {loss.item():.3f}, penalty {penalty.item():.3f}")
