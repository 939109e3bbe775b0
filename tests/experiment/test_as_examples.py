"""Images from loaders, data sets of PyTorch, generators, lists and folders."""

from __future__ import annotations

import itertools
from pathlib import Path

import jaxtyping
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, IterableDataset, Subset, TensorDataset
from torch.utils.data import Dataset as TorchDataset

from fixtures import files
from mutations import fails_under
from spearshield import api
from spearshield.experiment import batches
from spearshield.experiment.as_examples import as_examples
from spearshield.threat import Linf

X = torch.from_numpy(files.noise(5, 1, 8, 6))
FLOATS = X / 255
Y = [0, 1, 2, 1, 0]
LABELS = torch.tensor(Y)
PICTURES = [Image.fromarray(x[0].numpy()) for x in X]


class Items(TorchDataset):
    """A data set that can be indexed, and not iterated over."""

    def __init__(self, images, length=5):
        self.images, self.length = images, length

    def __len__(self):
        return self.length

    def __getitem__(self, i):
        return self.images[i % 5], Y[i % 5]


class Endless(IterableDataset):
    def __iter__(self):
        return itertools.cycle(zip(X, Y, strict=True))


def loader(**options):
    return DataLoader(TensorDataset(FLOATS, LABELS), batch_size=2, **options)


SOURCES = {
    "a loader": loader,
    "a loader with dictionaries": lambda: [{"image": x, "label": y} for x, y in loader()],
    "keys of transformers": lambda: [{"pixel_values": x, "labels": y} for x, y in loader()],
    "triples": lambda: [(x, y, torch.arange(len(y))) for x, y in loader()],
    "lists": lambda: [[x, y.tolist()] for x, y in loader()],
    "a generator": lambda: ((x, y) for x, y in loader()),
    "bytes and floats": lambda: [(X[:2], Y[:2]), (FLOATS[2:], Y[2:])],
    "channels last": lambda: [(x.permute(0, 2, 3, 1), y) for x, y in loader()],
    "without channels": lambda: [(x[:, 0], y) for x, y in loader()],
    "a data set": lambda: TensorDataset(FLOATS, LABELS),
    "a data set that is indexed": lambda: Items(FLOATS),
    "a part of a data set": lambda: Subset(Items(X), range(5)),
    "a data set of pictures": lambda: Items(PICTURES),
    "pictures in lists": lambda: [(PICTURES[:3], Y[:3]), (PICTURES[3:], Y[3:])],
    "a pair": lambda: (X, Y),
    "one dictionary": lambda: {"x": X, "y": Y},
    "single images": lambda: zip(X.numpy(), Y, strict=True),
}


@pytest.mark.parametrize("given", SOURCES)
def test_batches_of_every_form(given):
    made = as_examples(SOURCES[given]())
    assert torch.equal(made.pixels, X) and made.y.tolist() == Y


WITHOUT_LABELS = {
    "images in a list": lambda: [*X.numpy()],
    "pictures": lambda: PICTURES,
    "a loader of images": lambda: DataLoader(TensorDataset(X), batch_size=2),
    "a generator": lambda: iter(X),
}


@pytest.mark.parametrize("given", WITHOUT_LABELS)
def test_images_and_labels_apart(given):
    made = as_examples(WITHOUT_LABELS[given](), Y)
    assert torch.equal(made.pixels, X) and made.y.tolist() == Y


def test_grey_and_coloured_pictures_become_coloured():
    colour = Image.fromarray(files.noise(8, 6, 3))
    made = as_examples([PICTURES[0], colour], [0, 1])
    assert torch.equal(made.pixels[0], X[0].expand(3, -1, -1))
    assert (made.pixels[1].permute(1, 2, 0).numpy() == files.noise(8, 6, 3)).all()


REFUSED = {
    "no batches": (lambda: iter([]), None, "no batches.*can be read only once"),
    "two sizes": (lambda: [(X, Y), (X[:, :, :4], Y)], None, r"batch 1: .*\(1, 4, 6\).*resize"),
    "pictures of two sizes": (lambda: [PICTURES[0], Image.new("L", (9, 9))], [0, 1], "picture 1"),
    "a deep picture": (lambda: [Image.new("I;16", (8, 8))], [0], "picture 0: .* 8 bits"),
    "pictures and arrays": (lambda: [(PICTURES[0], 0), (X[0], 0)], None, "others pictures"),
    "other keys": (lambda: [{"a": X, "b": Y}], None, "batch 0: it has the keys a, b; it needs"),
    "no pairs": (lambda: [X], None, "batch 0: it is Tensor; it must be a pair"),
    "paths": (lambda: ["a.png"], [0], "batch 0: images are strings such as 'a.png'"),
    "labels twice": (loader, LABELS, "batch 0: it has labels itself; omit labels"),
    "labels twice in a dictionary": (lambda: [{"x": X, "y": Y}], LABELS, "omit labels"),
    "too few labels": (lambda: [(X, Y[:2])], None, "batch 0: there are 5 images and 2 labels"),
    "images without a range": (lambda: [(FLOATS * 255, Y)], None, "batch 0: images run from"),
    "one image": (lambda: X[0, 0].numpy().repeat(3, 0).reshape(3, 8, 6), [0], "batch axis"),
    "no source": (lambda: 5, [0], "images are 5; give a tensor"),
    "no images": (lambda: None, [0], "images are None"),
    "no labels": (lambda: X, None, "labels are missing"),
}


@pytest.mark.parametrize("given", REFUSED)
def test_other_batches_are_refused(given, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # else it raises first
    make, labels, said = REFUSED[given]
    with pytest.raises(ValueError, match=said):
        as_examples(make(), labels)


ENDLESS = {
    "a loader": lambda: DataLoader(Endless(), batch_size=3),
    "a generator": lambda: itertools.cycle(loader()),
    "a data set without a length": lambda: type("", (Items,), {"__len__": None})(X),
}


@fails_under(
    "reading without an end",
    (batches, "ENDLESS", 10**9),
    (batches, "LARGEST", 5000),
    given="a generator",
)
@pytest.mark.parametrize("given", ENDLESS)
def test_batches_without_an_end_are_refused_or_limited(given, monkeypatch):
    if batches.ENDLESS < 10**9:
        monkeypatch.setattr(batches, "ENDLESS", 20)
    with pytest.raises(ValueError, match=r"did not end after 2\d images; set limit, or"):
        as_examples(ENDLESS[given]())
    made = as_examples(ENDLESS[given](), limit=7)
    assert torch.equal(made.pixels, X[torch.arange(7) % 5]) and len(made.y) == 7


def test_a_source_with_a_length_may_have_any_number_of_images(monkeypatch):
    monkeypatch.setattr(batches, "ENDLESS", 2)
    assert len(as_examples(loader())) == 5


def test_no_batch_is_read_after_the_limit():
    read = []

    def source():
        for x, y in loader():
            read.append(len(y))
            yield x, y

    assert len(as_examples(source(), limit=3)) == 3 and read == [2, 2]


def test_an_error_of_the_users_own_data_set_is_left_alone():
    class Broken(Items):
        def __getitem__(self, i):
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        as_examples(Broken(X))


def test_an_audit_reads_no_more_batches_than_its_limit():
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 3))
    endless = DataLoader(Endless(), batch_size=3)
    found = api.attack(model, endless, attack="fgsm", threat=Linf(0.1), limit=4, progress=False)
    assert torch.equal(found.examples.pixels, X[:4])
    with pytest.raises(ValueError, match="labels are given without images"):
        api.audit(model, None, LABELS)


def test_a_folder_without_class_folders_needs_labels(tmp_path: Path):
    for i, picture in enumerate(PICTURES):
        picture.save(tmp_path / f"{i}.png")
    with pytest.raises(ValueError, match="labels are missing: .* one folder for each class"):
        as_examples(tmp_path)
    made = as_examples(tmp_path, Y)
    assert torch.equal(made.pixels, X) and made.y.tolist() == Y and made.names == ("0", "1", "2")
    with pytest.raises(ValueError, match="5 images and 1 labels"):
        as_examples(tmp_path, [0])


def test_only_missing_training_images_are_replaced_by_all(tmp_path: Path):
    path = tmp_path / "a.npz"
    np.savez(path, x=X.numpy(), y=Y)
    assert len(as_examples(path, split="train", otherwise="test")) == 5
    with pytest.raises(ValueError, match="has no train images"):
        as_examples(path, split="train")
    for held in ({"x_test": X.numpy(), "y_test": Y}, {"x_test": X, "y_test": Y, "x": X, "y": Y}):
        np.savez(path, **held)
        with pytest.raises(ValueError, match="no train images .* and has x_test, y_test"):
            as_examples(path, split="train", otherwise="test")
        with pytest.raises(ValueError, match="has no train images"):
            api.protect(torch.nn.Flatten(), path, threat=Linf(0.1))
    np.savez(path, x=X.numpy(), y=Y, x_train=X.numpy().astype(int), y_train=Y)
    with pytest.raises(ValueError, match="x_train: images are int64"):
        as_examples(path, split="train", otherwise="test")
    np.savez(path, a=X.numpy())
    with pytest.raises(ValueError, match="has no train images with labels.* has a "):
        as_examples(path, split="train", otherwise="test")


def test_a_folder_of_test_images_is_not_trained_on(tmp_path: Path):
    for i, picture in enumerate(PICTURES):
        place = tmp_path / "photos" / "test" / str(Y[i])
        place.mkdir(parents=True, exist_ok=True)
        picture.save(place / f"{i}.png")
    with pytest.raises(ValueError, match="no folder 'train', so it has no train images; it has te"):
        as_examples(tmp_path / "photos", split="train", otherwise="test")
    assert len(as_examples(tmp_path / "photos" / "test", split="train", otherwise="test")) == 5


@pytest.mark.parametrize("name", ["a.npy", "a.csv", "a.zip", "a.png"])
def test_other_files_are_refused_with_the_forms_that_are_read(tmp_path: Path, name: str):
    (tmp_path / name).write_bytes(b"1,2")
    with pytest.raises(ValueError, match=rf"{name} is neither an npz file nor a folder: give an"):
        as_examples(tmp_path / name)
