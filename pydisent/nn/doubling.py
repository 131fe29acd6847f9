"""The transposed convolution that doubles an image's resolution, where torch is slow at it."""

from torch import Tensor, nn
from torch.nn import functional as F


class DoublingConvTranspose2d(nn.ConvTranspose2d):
    """A 4×4 transposed convolution of stride 2, from (B, C, H, W) to (B, D, 2H, 2W).

    With one output channel on a CPU it is a product of all pixels with the kernel's 16 taps, whose
    overlapping blocks are then added: forward and backward, the convolution of oneDNN takes up to
    twice as long. Elsewhere it is that convolution.

    Parameters
    ----------
    in_channels, out_channels : int
        C and D.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 4, 2, 1)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Return the images (B, D, 2H, 2W) of x (B, C, H, W)."""
        if self.out_channels > 1 or x.device.type != "cpu" or x.dim() != 4 or output_size:
            return super().forward(x, output_size)
        height, width = x.shape[2:]
        blocks = x.permute(0, 2, 3, 1).flatten(1, 2) @ self.weight.flatten(1)
        image = F.fold(blocks.mT, (2 * height, 2 * width), 4, padding=1, stride=2)
        assert self.bias is not None
        return image + self.bias.to(image.dtype)
