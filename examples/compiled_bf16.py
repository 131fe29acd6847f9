"""A compiled generator, autocast to bfloat16, with the penalty's tangents in bfloat16, too.

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
    # The penalty has a trace of its own, so it takes the plain generator, and stays in float32 but
    # for its tangents. Where the processor has no native bfloat16, these are float32 as well.
    penalty = pydisent.alignment_penalty(
        generator, z, k=4, iterations=8, compute_dtype=torch.bfloat16
    )
    optimizer.zero_grad()
    (loss + 0.1 * penalty).backward()
    optimizer.step()
print(f"loss {loss.item():.3f}, penalty {penalty.item():.3f}")
