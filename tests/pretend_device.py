"""A device that a machine with nothing but a processor can pretend to have: it counts what a GPU would be kept waiting by.

Tensors that are sent `.to(DEVICE)` are marked, and so is all that is computed from them. They hold real values. Counted are copies from the
processor and numbers that the processor reads back; an operation on tensors of both sides raises, as it does on a GPU.
"""

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map_only

DEVICE = torch.device("cpu", 0)
READS = ("item", "tolist", "numpy", "nonzero", "equal", "is_nonzero", "masked_select", "unique", "bincount")
READS += ("__bool__", "__float__", "__int__", "__index__", "__contains__", "__reduce_ex__")


def is_there(value):
    return isinstance(value, Tensor) and getattr(value, "_is_there", False)


def there(value):
    """`value` with its tensors marked."""

    def mark(tensor):
        tensor._is_there = True
        return tensor

    return tree_map_only(Tensor, mark, value)


class Pretended(TorchFunctionMode):
    """Counts `copies` to the device and `reads` from it."""

    def __init__(self):
        super().__init__()
        self.copies = self.reads = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name == "__get__" and func == Tensor.device.__get__:
            return DEVICE if is_there(args[0]) else func(*args)
        if name == "__set__":
            func(*args, **kwargs)
            return there(args[0]) if is_there(args[1]) else None
        if name in ("to", "cpu", "cuda"):
            return self._moved(func, name, args, kwargs)
        if kwargs.get("device") == DEVICE:
            self.copies += name in ("tensor", "as_tensor", "asarray")
            return there(func(*args, **kwargs))
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        on_device = [is_there(tensor) for tensor in tensors]
        if not any(on_device) or name == "_has_compatible_shallow_copy_type":  # `Module.to` asks before it moves
            return func(*args, **kwargs)
        if name in READS or (name == "__getitem__" and any(t.dtype == torch.bool for t in tensors[1:])):
            self.reads += 1
            return there(func(*args, **kwargs))
        if name in ("copy_", "__setitem__") and not is_there(args[0]):
            self.reads += 1
            return func(*args, **kwargs)
        if name in ("__getitem__", "__setitem__", "copy_"):
            self.copies += sum(not one for one in on_device)  # indices or values, without a word
        elif any(not one and tensor.dim() for one, tensor in zip(on_device, tensors, strict=True)):
            raise AssertionError(f"{name}: tensors of the processor and of the device")
        return there(func(*args, **kwargs))

    def _moved(self, func, name, args, kwargs):
        asked = [*args[1:], *kwargs.values()]
        targets = [DEVICE if is_there(one) else torch.device("cpu") for one in asked if isinstance(one, Tensor)]
        targets += [torch.device(one) for one in asked if isinstance(one, torch.device | str)]
        target = torch.device("cpu") if name == "cpu" else next(iter(targets), None)
        result = func(*args, **kwargs)
        if target is None or is_there(args[0]) == (target == DEVICE):
            return there(result) if is_there(args[0]) else result
        result = result.clone() if result is args[0] else result
        if target == DEVICE:
            self.copies += 1
            return there(result)
        self.reads += 1
        result._is_there = False
        return result
