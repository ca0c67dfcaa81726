"""The paper's four tables as data: their row and column headings, and remarks on the paper's numbers."""

from dataclasses import dataclass, replace

from esp_core.runtime.errors import UserError

# The paper's rows in its order, with the names that it prints; a study's own titles take precedence.
METHOD_TITLES = {
    "random": "Random",
    "herding": "Herding",
    "dc": "DC",
    "dsa": "DSA",
    "dm": "DM",
    "kip": "KIP (random features)",
    "cafe_dsa": "CAFE + DSA",
    "mtt": "Traj. Matching",
    "tesla": "TESLA",
    "idc": "IDC",
    "kfs": "KFS",
    "esp_proj": "Proj",
    "esp_dm": "DM on experts",
    "esp": "ESP",
    "esp_signed": "ESP, signed",
    "full": "Full dataset",
}
DATASET_TITLES = {"svhn": "SVHN", "cifar10": "CIFAR10", "cifar100": "CIFAR100", "tinyimagenet": "TinyImageNet"}
NETWORK_TITLES = {
    "convnet3": "ConvNet-3",
    "resnet10": "ResNet-10",
    "densenet121": "DenseNet-121",
    "efficientnetv2s": "EfficientNetV2-S",
}


@dataclass(frozen=True)
class Layout:
    """The layout of one of the paper's tables, or of a study's own table (`name`) in the same layout.

    `title` is completed by the networks; `own_title` replaces both. `rows` and `columns` name the headings: "dataset", "method", "ipc"
    or "network". `remark` is printed below the paper's numbers.
    """

    number: int
    title: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    remark: str = ""
    name: str = ""
    own_title: str = ""


LAYOUTS = {
    1: Layout(1, "Classification accuracies (%) on", ("method",), ("dataset", "ipc")),
    2: Layout(
        2,
        "Cross-architecture accuracies (%) on",
        ("dataset", "method"),
        ("ipc", "network"),
        remark="Numbers that the paper quotes may come from networks of other sizes than the 4.90 M and 6.96 M that it names: IDC's code "
        "tests CIFAR on a ResNet-10 of widths 32 to 256, 1,228,970 parameters, for 64 to 512 and 4,903,242, and on a DenseNet of "
        "growth 12, 1,000,618 parameters, for 32 and 6,956,298.",
    ),
    3: Layout(
        3,
        "Cross-architecture accuracies (%) on",
        ("dataset", "method"),
        ("ipc",),
        remark="The paper's 98.7 for full data is a quoted figure, out of reach without pre-training on ImageNet.",
    ),
    4: Layout(4, "One loss and both: classification accuracies (%) on", ("method",), ("dataset", "ipc")),
}


def layout(table: int, name: str = "", title: str = "") -> Layout:
    """The layout of one of the paper's tables, or of a table `name` like it. Raises UserError for a number that the paper does not have."""
    if table not in LAYOUTS:
        raise UserError(f"table: {table} is none of the paper's; use one of {', '.join(map(str, LAYOUTS))}")
    return replace(LAYOUTS[table], name=name, own_title=title)
