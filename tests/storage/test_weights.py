"""Weights in files: exact round trips, clear errors, and no network that is loaded in part."""

from __future__ import annotations

import os
import pickle
import warnings
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from spearshield.method import Defended
from spearshield.storage.weights import load_part, load_weights, read_weights, save_weights

Write = Callable[[dict[str, Tensor], Path], object]
WRITERS: dict[str, Write] = {
    ".safetensors": safetensors.torch.save_file,
    ".npz": lambda state, path: np.savez(path, **{k: v.numpy() for k, v in state.items()}),
    ".pt": torch.save,
    ".pth": lambda state, path: torch.save({"state_dict": state, "epoch": 3}, path),
    ".ckpt": lambda state, path: torch.save({"epoch": 3, "model": state}, path),
    ".bin": torch.save,
}
FORMS = pytest.mark.parametrize("suffix", WRITERS)


def network(hidden: int = 4) -> nn.Module:
    return nn.Sequential(nn.Linear(3, hidden), nn.BatchNorm1d(hidden), nn.Linear(hidden, 2))


def state(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def refused(module: nn.Module, path: Path, message: str) -> None:
    """Loading raises a ValueError with the file's name, and leaves the network as it was."""
    before = state(module)
    with pytest.raises(ValueError, match=message) as caught:
        load_weights(module, path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value) and "weights_only" not in str(caught.value)
    assert same(state(module), before)


@FORMS
def test_every_form_restores_every_number(tmp_path: Path, suffix: str) -> None:
    source, target = network(), network()
    WRITERS[suffix](source.state_dict(), tmp_path / f"w{suffix}")
    load_weights(target, tmp_path / f"w{suffix}")
    assert same(state(target), state(source))


def test_loading_restores_the_saved_weights(tmp_path: Path) -> None:
    source, target = network(), network()
    source[2].weight = nn.Parameter(source[2].weight.detach().T.contiguous().T)
    save_weights(source, tmp_path / "w.safetensors")
    load_weights(target, tmp_path / "w.safetensors")
    assert same(state(target), state(source))
    assert os.listdir(tmp_path) == ["w.safetensors"]  # noqa: PTH208


def test_saving_elsewhere_than_to_safetensors_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"written as \.safetensors, got 'w\.pt'"):
        save_weights(network(), tmp_path / "w.pt")


def test_a_failed_save_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "w.safetensors"
    save_weights(network(), path)
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save_weights(network(), path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["w.safetensors"]  # noqa: PTH208


def test_counters_of_batch_normalisation_may_be_missing(tmp_path: Path) -> None:
    content = state(network())
    del content["1.num_batches_tracked"]
    safetensors.torch.save_file(content, tmp_path / "w.safetensors")
    target = network()
    target[1].num_batches_tracked.fill_(7)
    load_weights(target, tmp_path / "w.safetensors")
    assert torch.equal(target[1].running_mean, content["1.running_mean"])
    assert int(target[1].num_batches_tracked) == 7


def test_other_precisions_are_converted(tmp_path: Path) -> None:
    source, target = network(), network()
    half = {k: v.half() if v.is_floating_point() else v for k, v in source.state_dict().items()}
    safetensors.torch.save_file(half, tmp_path / "w.safetensors")
    load_weights(target, tmp_path / "w.safetensors")
    assert target[0].weight.dtype == torch.float32
    assert torch.equal(target[0].weight, half["0.weight"].float())


def test_a_classifier_loads_from_a_victim_without_a_purifier(tmp_path: Path) -> None:
    path, new = tmp_path / "weights.safetensors", network()
    left = Defended(nn.Identity(), network())
    save_weights(left, path)
    load_weights(new, path)
    assert same(state(new), state(left.classifier))
    save_weights(Defended(network(), network()), path)
    refused(new, path, "unexpected: classifier.0.bias")


@pytest.mark.parametrize("suffix", [".pt", ".safetensors", ".npz"])
@pytest.mark.parametrize(
    "prefix", ["module.", "model.", "net.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."]
)
def test_prefixes_of_all_names_are_removed(tmp_path: Path, suffix: str, prefix: str) -> None:
    source, target = network(), network()
    path = tmp_path / f"w{suffix}"
    WRITERS[suffix]({f"{prefix}{k}": v for k, v in source.state_dict().items()}, path)
    load_weights(target, path)
    assert same(state(target), state(source))


def test_a_prefix_that_the_network_has_itself_stays(tmp_path: Path) -> None:
    source, target = (nn.ModuleDict({"model": nn.ModuleDict({"net": network()})}) for _ in "ab")
    torch.save(source.state_dict(), tmp_path / "w.pt")
    load_weights(target, tmp_path / "w.pt")
    assert same(state(target), state(source))


@pytest.mark.parametrize(
    "wrapper", ["state_dict", "model", "model_state_dict", "net", "network", "weights"]
)
def test_the_usual_dictionaries_around_weights_are_opened(tmp_path: Path, wrapper: str) -> None:
    source, target = network(), network()
    content = {"epoch": 3, "optimizer": {"lr": 0.1}, wrapper: source.state_dict()}
    torch.save(content, tmp_path / "w.pt")
    load_weights(target, tmp_path / "w.pt")
    assert same(state(target), state(source))


def test_names_that_fit_nowhere_are_listed_with_the_names_expected(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save({"model": {"conv.weight": torch.zeros(1)}}, path)
    refused(network(), path, r"missing: 0\.weight, 0\.bias, .* 5 more; unexpected: conv\.weight")
    torch.save({"epoch": 3, "student": network().state_dict()}, path)
    refused(network(), path, "is not a state_dict; its keys are 'epoch', 'student'")


def test_a_pickled_network_and_a_program_are_refused_with_our_messages(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save(nn.Linear(2, 2), path)
    refused(network(), path, r"objects besides tensors \(torch\.nn\.modules\.linear\.Linear\)")
    torch.save({"model": network().state_dict(), "args": Namespace(lr=0.1)}, path)
    refused(network(), path, r"objects besides tensors \(argparse\.Namespace\)")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated, and still in use
        torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)), path)
    refused(network(), path, "is a TorchScript archive")


@FORMS
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused(tmp_path: Path, suffix: str, share: float) -> None:
    path = tmp_path / f"w{suffix}"
    WRITERS[suffix](network().state_dict(), path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    refused(network(), path, "is truncated, corrupt")


@FORMS
def test_a_file_of_another_kind_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"w{suffix}"
    path.write_bytes(b"<!DOCTYPE html><title>404 Not Found</title>" * 10)
    refused(network(), path, "is truncated, corrupt")


@FORMS
def test_another_architecture_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"w{suffix}"
    WRITERS[suffix](nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).state_dict(), path)
    refused(network(), path, r"missing: 1\.weight, 1\.bias, 1\.running_mean and 1 more")


@FORMS
def test_another_width_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"w{suffix}"
    WRITERS[suffix](network(hidden=5).state_dict(), path)
    refused(network(), path, r"of another shape: 0\.weight \(5, 3\) for \(4, 3\)")


def test_unexpected_names_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    safetensors.torch.save_file(state(network()) | {"3.weight": torch.zeros(1)}, path)
    refused(network(), path, r"unexpected: 3\.weight")


def test_integers_for_weights_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    content = state(network())
    safetensors.torch.save_file(content | {"2.bias": content["2.bias"].long()}, path)
    refused(network(), path, r"of another type: 2\.bias torch\.int64 for torch\.float32")


@FORMS
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused(tmp_path: Path, suffix: str, value: float) -> None:
    path = tmp_path / f"w{suffix}"
    content = state(network())
    content["2.weight"][1, 2] = value
    WRITERS[suffix](content, path)
    refused(network(), path, r"2\.weight has 1 values that are not finite")


def test_a_number_too_large_for_the_network_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    content = state(network())
    content["2.bias"] = torch.tensor([0.0, 1e300], dtype=torch.float64)
    safetensors.torch.save_file(content, path)
    refused(network(), path, r"2\.bias has 1 values that are not finite")


class Payload:
    """Unpickling this makes a file, which shows that code ran."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("form", ["torch", "bare pickle", "npz"])
def test_a_file_that_runs_code_is_refused(tmp_path: Path, form: str) -> None:
    trace = tmp_path / "ran"
    path = tmp_path / ("w.npz" if form == "npz" else "w.pt")
    if form == "torch":
        torch.save(state(network()) | {"0.weight": Payload(trace)}, path)
    elif form == "bare pickle":
        path.write_bytes(pickle.dumps({"0.weight": Payload(trace)}, protocol=2))
    else:
        np.savez(path, **{"0.weight": np.array([Payload(trace)], dtype=object)})
    refused(network(), path, "holds Python objects.* because they can run code")
    assert not trace.exists()


@pytest.mark.parametrize("content", [[torch.zeros(1)], {"0.weight": 1.0}, {1: torch.zeros(1)}])
def test_a_torch_file_without_named_tensors_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "w.pt")
    refused(network(), tmp_path / "w.pt", "not a state_dict")


def test_an_array_without_a_name_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "w.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    refused(network(), tmp_path / "w.npz", "is truncated, corrupt or of another kind")


def test_strings_in_an_archive_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "w.npz", names=np.array(["a", "b"]))
    refused(network(), tmp_path / "w.npz", "names holds <U1, not numbers")


def test_an_unknown_suffix_lists_the_known_ones(tmp_path: Path) -> None:
    (tmp_path / "w.onnx").write_bytes(b"")
    refused(network(), tmp_path / "w.onnx", r"\.safetensors, \.npz, \.pt, \.pth, \.ckpt, \.bin")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"w\.npz"):
        read_weights(tmp_path / "w.npz")


def test_a_part_is_checked_before_it_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    content = {f"G.{name}": value for name, value in state(network()).items()}
    safetensors.torch.save_file(content, path)
    target = network()
    assert load_part(target, "G", path) and not load_part(target, "E", path)
    before = state(target)
    content["G.0.weight"][0, 0] = torch.nan
    safetensors.torch.save_file(content, path)
    with pytest.raises(ValueError, match=r"G is not finite \(0\.weight has 1 values"):
        load_part(target, "G", path)
    with pytest.raises(ValueError, match=r"G does not fit \(of another shape: 0\.weight"):
        load_part(network(hidden=5), "G", path)
    assert same(state(target), before)
