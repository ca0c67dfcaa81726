"""Facts about the datasets that this project knows by name. Standard library only: the Snakefile reads it.

Sizes and SHA-256 are those of the official files, as recorded by TensorFlow Datasets (CIFAR archives) and torchvision (SVHN); that of
TinyImageNet is the one that several public projects give for the same MD5. `python -m esp_core download` verifies them.
"""

from dataclasses import dataclass
from functools import partial

from esp_core.datasets.official import File


@dataclass(frozen=True)
class Entry:
    """A dataset known by name. `shape` is (C, H, W); `images_per_class` is the size of the smallest class in the `train` images.

    `flip` says whether a mirrored image still belongs to its class. `mean` and `std`, a number per channel of pixels in [0, 1], are those
    of DC's, DSA's and DM's code; MTT, CAFE and IDC use CIFAR-10's for CIFAR-100 too. The official files are at `url`: an `archive` (tar or
    zip) that contains `folder`, or the `members` themselves, named relative to that folder. Members are verified one by one; without them,
    only the archive can be verified.
    """

    title: str
    classes: int
    shape: tuple[int, int, int]
    train: int
    test: int
    images_per_class: int
    flip: bool
    homepage: str
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    url: str = ""
    folder: str = ""
    archive: File | None = None
    members: tuple[File, ...] = ()


_cifar = partial(
    Entry,
    shape=(3, 32, 32),
    train=50_000,
    test=10_000,
    flip=True,
    homepage="https://www.cs.toronto.edu/~kriz/cifar.html",
    url="https://www.cs.toronto.edu/~kriz",
)

ENTRIES = {
    "digits": Entry(
        title="scikit-learn digits",
        classes=10,
        shape=(1, 16, 16),
        train=1_400,
        test=397,
        images_per_class=135,
        flip=False,
        homepage="https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits",
    ),
    "cifar10": _cifar(
        title="CIFAR-10",
        classes=10,
        images_per_class=5_000,
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2023, 0.1994, 0.2010),
        folder="cifar-10-batches-bin",
        archive=File("cifar-10-binary.tar.gz", 170_052_171, "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"),
        members=(
            File("data_batch_1.bin", 30_730_000, "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5"),
            File("data_batch_2.bin", 30_730_000, "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed"),
            File("data_batch_3.bin", 30_730_000, "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67"),
            File("data_batch_4.bin", 30_730_000, "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48"),
            File("data_batch_5.bin", 30_730_000, "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add"),
            File("test_batch.bin", 30_730_000, "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b"),
        ),
    ),
    "cifar100": _cifar(
        title="CIFAR-100",
        classes=100,
        images_per_class=500,
        mean=(0.5071, 0.4866, 0.4409),
        std=(0.2673, 0.2564, 0.2762),
        folder="cifar-100-binary",
        archive=File("cifar-100-binary.tar.gz", 168_513_733, "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec"),
        members=(
            File("train.bin", 153_700_000, "f31298fc616915fa142368359df1c4ca2ae984d6915ca468b998a5ec6aeebf29"),
            File("test.bin", 30_740_000, "d8b1e6b7b3bee4020055f0699b111f60b1af1e262aeb93a0b659061746f8224a"),
        ),
    ),
    "svhn": Entry(
        title="SVHN, cropped digits",
        classes=10,
        shape=(3, 32, 32),
        train=73_257,
        test=26_032,
        images_per_class=4_659,
        flip=False,
        homepage="http://ufldl.stanford.edu/housenumbers/",
        mean=(0.4377, 0.4438, 0.4728),
        std=(0.1980, 0.2010, 0.1970),
        url="http://ufldl.stanford.edu/housenumbers",
        members=(
            File("train_32x32.mat", 182_040_794, "435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8"),
            File("test_32x32.mat", 64_275_384, "cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b"),
        ),
    ),
    "tinyimagenet": Entry(
        title="TinyImageNet-200",
        classes=200,
        shape=(3, 64, 64),
        train=100_000,
        test=10_000,
        images_per_class=500,
        flip=True,
        homepage="http://cs231n.stanford.edu/tiny-imagenet-200.zip",
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        folder="tiny-imagenet-200",
        url="http://cs231n.stanford.edu",
        archive=File("tiny-imagenet-200.zip", 248_100_043, "6198c8ae015e2b3e007c7841da39ec069199b9aa3bfa943a462022fe5e43c821"),
    ),
}


def is_official(kind: str) -> bool:
    """Whether `python -m esp_core download` gets the files of `kind`."""
    return kind in ENTRIES and bool(ENTRIES[kind].url)
