"""Generators of sequences: attention and recurrence."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from _architecture import Calls, M, architecture, perturb, sample_of
from torch import nn


@architecture
def transformer_encoder():
    layer = nn.TransformerEncoderLayer(
        6, 2, 10, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    return perturb(nn.Sequential(nn.Linear(M, 18), nn.Unflatten(1, (3, 6)), layer, nn.Linear(6, 2)))


@architecture
def transformer_encoder_eval_post_norm():
    layer = nn.TransformerEncoderLayer(6, 2, 10, batch_first=True)
    net = nn.Sequential(nn.Linear(M, 18), nn.Unflatten(1, (3, 6)), nn.TransformerEncoder(layer, 2))
    return perturb(net).eval()


@architecture
def hand_made_attention():
    def forward(self, z):
        x = self.tokens(z).unflatten(1, (4, 6))
        x = x + self.position
        q, k, v = self.qkv(self.norm(x)).unflatten(-1, (3, 2, 3)).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.norm2(x))))

    return perturb(
        Calls(
            forward, tokens=nn.Linear(M, 24), position=nn.Parameter(torch.randn(4, 6)),
            qkv=nn.Linear(6, 18), norm=nn.LayerNorm(6), norm2=nn.RMSNorm(6), out=nn.Linear(6, 6),
            up=nn.Linear(6, 9), down=nn.Linear(9, 6),
        )
    )  # fmt: skip


@architecture
def multi_head_cross_attention():
    def forward(self, z):
        tokens = self.tokens(z).unflatten(1, (3, 6))
        queries = self.queries.expand(z.shape[0], -1, -1)
        return self.attention(queries, tokens, tokens, need_weights=False)[0]

    return Calls(
        forward, tokens=nn.Linear(M, 18), queries=nn.Parameter(torch.randn(1, 4, 6)),
        attention=nn.MultiheadAttention(6, 2, batch_first=True),
    )  # fmt: skip


@architecture
def gru_cell_unrolled():
    def forward(self, z):
        state = torch.tanh(self.start(z))
        frames = []
        for _ in range(3):
            state = self.cell(z, state)
            frames.append(self.image(state))
        return torch.stack(frames, 1)

    return Calls(forward, start=nn.Linear(M, 4), cell=nn.GRUCell(M, 4), image=nn.Linear(4, 3))


@architecture
def lstm_cell_unrolled():
    def forward(self, z):
        h = c = torch.zeros(z.shape[0], 4, dtype=z.dtype)
        for _ in range(3):
            h, c = self.cell(z, (h, c))
        return self.image(torch.cat([h, c], 1))

    return Calls(forward, cell=nn.LSTMCell(M, 4), image=nn.Linear(8, 5))


@architecture
def gru_layer():
    def forward(self, z):
        frames, last = self.gru(z.unsqueeze(1).expand(-1, 3, -1))
        return self.image(frames + last[-1].unsqueeze(1))

    return Calls(forward, gru=nn.GRU(M, 4, 2, batch_first=True), image=nn.Linear(4, 3))


@architecture
def lstm_layer():
    net = nn.LSTM(2, 3, batch_first=True, bidirectional=True)
    first = nn.Linear(M, 8)
    return sample_of(lambda z: net(first(z).unflatten(1, (4, 2)))[0], net, first)


# What Python may do
