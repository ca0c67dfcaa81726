"""3x3 convolutions with a quarter of the multiplications: Winograd's F(4x4, 3x3) (Lavin and Gray, 2016).

Torch's CPU convolutions run at the arithmetic peak of float32, so only fewer multiplications make them faster. A 6x6 tile d of the
input and a filter g give a 4x4 tile of the output, A^T [(G g G^T) * (B^T d B)] A, where * is a matrix product over the channels for
each of the 36 positions. The transforms are sums of shifted views, which only a compiler turns into good code: use under
`torch.compile`. Against float64 the result is off by 2e-6 of its norm, torch's own convolution by 6e-7.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad

Matrix = list[list[float]]

# Evaluation points 0, 1, -1, 2, -2 and infinity.
B_T: Matrix = [
    [4, 0, -5, 0, 1, 0],
    [0, -4, -4, 1, 1, 0],
    [0, 4, -4, -1, 1, 0],
    [0, -2, -1, 2, 1, 0],
    [0, 2, -1, -2, 1, 0],
    [0, 4, 0, -5, 0, 1],
]
G: Matrix = [
    [1 / 4, 0, 0],
    [-1 / 6, -1 / 6, -1 / 6],
    [-1 / 6, 1 / 6, -1 / 6],
    [1 / 24, 1 / 12, 1 / 6],
    [1 / 24, -1 / 12, 1 / 6],
    [0, 0, 1],
]
A_T: Matrix = [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]
A: Matrix = [list(column) for column in zip(*A_T, strict=True)]

WORTH_IT = 16  # input channels, below which the transforms cost more than they save


def replace_convolutions(network: nn.Module) -> nn.Module:
    """A copy of `network`, sharing its parameters, whose plain 3x3 convolutions are computed by Winograd's algorithm."""
    shared = copy.deepcopy(network, {id(p): p for p in network.parameters()})
    for module in list(shared.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.Conv2d) and _is_plain(child):
                setattr(module, name, Convolution(child))
    return shared


class Convolution(nn.Module):
    """A 3x3 convolution with padding 1 and stride 1, by Winograd's algorithm where channels and sides allow it, else by torch.

    The bias is added apart, since torch's convolutions take as long for its gradient as for that of the weights.
    """

    def __init__(self, convolution: nn.Conv2d):
        super().__init__()
        self.weight, self.bias = convolution.weight, convolution.bias

    def forward(self, images: Tensor) -> Tensor:
        """(n, C, H, W) -> (n, K, H, W)."""
        if images.shape[1] < WORTH_IT or images.shape[2] % 4 or images.shape[3] % 4:
            out = conv2d(images, self.weight, padding=1)
        else:
            out = _Winograd.apply(images, self.weight)  # type: ignore[no-untyped-call]
        return out if self.bias is None else out + self.bias.view(-1, 1, 1)


class _Winograd(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor) -> Tensor:
        tiles = _input_tiles(images)
        ctx.save_for_backward(tiles, weight)
        return _output(torch.bmm(tiles, _filters(weight)), images)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        tiles, weight = ctx.saved_tensors
        turned = weight.transpose(0, 1).flip(2, 3)
        to_images = _output(torch.bmm(_input_tiles(gradient), _filters(turned)), gradient)
        products = torch.bmm(tiles.transpose(1, 2), _gradient_tiles(gradient))  # (36, C, K)
        g = weight.new_tensor(G)
        to_weight = torch.einsum("ia,ijck,jb->kcab", g, products.view(6, 6, *products.shape[1:]), g)
        return to_images, to_weight


def _filters(weight: Tensor) -> Tensor:
    """G g G^T of weight (K, C, 3, 3), (36, C, K)."""
    g = weight.new_tensor(G)
    return torch.einsum("ia,kcab,jb->ijck", g, weight, g).reshape(36, weight.shape[1], weight.shape[0])


def _input_tiles(images: Tensor) -> Tensor:
    """B^T d B of every 6x6 tile, four apart, of images (n, C, H, W): (36, n H/4 W/4, C)."""
    x = pad(images.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))
    height, width = images.shape[2] - 3, images.shape[3] - 3
    rows = torch.stack(_mix(B_T, [x[:, i : i + height : 4] for i in range(6)]))  # (6, n, H/4, W+2, C)
    tiles = torch.stack(_mix(B_T, [rows[:, :, :, i : i + width : 4] for i in range(6)]), 1)
    return tiles.view(36, -1, images.shape[1])


def _output(products: Tensor, like: Tensor) -> Tensor:
    """A^T m A of the tiles m, products (36, tiles, K), put together: (n, K, H, W) for `like` (n, ., H, W)."""
    n, _, height, width = like.shape
    m = products.view(6, 6, n, height // 4, width // 4, -1)
    rows = torch.stack(_mix(A_T, [m[i] for i in range(6)]), 3)  # (6, n, H/4, 4, W/4, K)
    return torch.stack(_mix(A_T, [rows[i] for i in range(6)]), 4).view(n, height, width, -1).permute(0, 3, 1, 2)


def _gradient_tiles(gradient: Tensor) -> Tensor:
    """A y A^T of every 4x4 tile y of the gradient at the output (n, K, H, W): (36, n H/4 W/4, K)."""
    n, channels, height, width = gradient.shape
    y = gradient.permute(0, 2, 3, 1).reshape(n, height // 4, 4, width // 4, 4, channels)
    rows = torch.stack(_mix(A, [y[:, :, i] for i in range(4)]))  # (6, n, H/4, W/4, 4, K)
    return torch.stack(_mix(A, [rows[..., i, :] for i in range(4)]), 1).view(36, -1, channels)


def _mix(matrix: Matrix, parts: list[Tensor]) -> list[Tensor]:
    """matrix times the vector of `parts`, without its zeros and ones."""
    return [_sum([part if c == 1 else c * part for c, part in zip(row, parts, strict=True) if c]) for row in matrix]


def _sum(terms: list[Tensor]) -> Tensor:
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def _is_plain(c: nn.Conv2d) -> bool:
    shape = (c.kernel_size, c.stride, c.padding, c.dilation, c.groups, c.padding_mode)
    return shape == ((3, 3), (1, 1), (1, 1), (1, 1), 1, "zeros")
