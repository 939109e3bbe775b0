"""Weights in files: exact round trips, clear errors, and no network that is loaded in part."""

from __future__ import annotations

import os
import pickle
import warnings
import zipfile
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from mutations import fails_under
from spearshield.method import Defended
from spearshield.storage.tensor_files import LARGEST_PICKLE
from spearshield.storage.weights import Normalisation, load_part, load_weights, save_weights

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


PREFIXES = (
    *("module.", "model.", "net.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."),
    *("backbone.", "encoder.model.", "network.module._orig_mod."),
)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors", ".npz"])
@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_start_that_all_names_share_is_removed(tmp_path: Path, suffix: str, prefix: str) -> None:
    source, target = network(), network()
    path = tmp_path / f"w{suffix}"
    WRITERS[suffix]({f"{prefix}{k}": v for k, v in source.state_dict().items()}, path)
    load_weights(target, path)
    assert same(state(target), state(source))


def test_a_start_of_the_names_of_the_network_is_added(tmp_path: Path) -> None:
    source, target = network(), nn.ModuleDict({"model": network()})
    torch.save(source.state_dict(), tmp_path / "w.pt")
    load_weights(target, tmp_path / "w.pt")
    assert same(state(target["model"]), state(source))


def test_a_start_that_only_some_names_share_or_that_is_a_position_is_refused(
    tmp_path: Path,
) -> None:
    path, content = tmp_path / "w.pt", state(network())
    torch.save({k if k == "2.bias" else f"backbone.{k}": v for k, v in content.items()}, path)
    refused(network(), path, r"unexpected: backbone\.0\.bias")
    torch.save({f"1.{k}": v for k, v in content.items()}, path)
    refused(network(), path, r"unexpected: 1\.0\.bias")


def test_a_prefix_that_the_network_has_itself_stays(tmp_path: Path) -> None:
    source, target = (nn.ModuleDict({"model": nn.ModuleDict({"net": network()})}) for _ in "ab")
    torch.save(source.state_dict(), tmp_path / "w.pt")
    load_weights(target, tmp_path / "w.pt")
    assert same(state(target), state(source))


WRAPPERS = (
    *("state_dict", "model", "model_state_dict", "net", "network", "weights", "ema", "params"),
    *("state_dict_ema", "module", "student", "a name of one's own"),
)
BESIDE = {
    "epoch": 3,
    "optimizer": {"state": {0: {"exp_avg": torch.zeros(4, 3)}}, "param_groups": [{"lr": 0.1}]},
    "args": Namespace(lr=0.1),
    "best": np.float64(0.9),
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_the_weights_in_a_checkpoint_are_found(tmp_path: Path, wrapper: str) -> None:
    source, target = network(), network()
    wrapped = {f"module.{k}": v for k, v in source.state_dict().items()}
    for content in (BESIDE | {wrapper: wrapped}, BESIDE | {"state": {wrapper: wrapped}}):
        torch.save(content, tmp_path / "w.pt")
        load_weights(target, tmp_path / "w.pt")
        assert same(state(target), state(source))


def test_an_average_of_weights_is_loaded_without_its_counter(tmp_path: Path) -> None:
    average, target = torch.optim.swa_utils.AveragedModel(network()), network()
    torch.save({"ema": average.state_dict()}, tmp_path / "w.pt")
    load_weights(target, tmp_path / "w.pt")
    assert same(state(target), state(average.module))


@fails_under(
    "first of several weights loaded",
    (torch, "equal", lambda *_: True),
    raises=pytest.fail.Exception,
)
def test_two_different_weights_for_one_network_are_refused(tmp_path: Path) -> None:
    path, first, second = tmp_path / "w.pt", network().state_dict(), network().state_dict()
    torch.save({"model": first, "ema": second}, path)
    refused(network(), path, r"several weights.*: model, ema; save one.*\['model'\]")
    torch.save({"model": first, "copy": first, "other": {"0.weight": torch.ones(1)}}, path)
    load_weights(network(), path)


@pytest.mark.parametrize("names", [("normalize.mean", "normalize.std"), ("mu", "sigma")])
def test_a_normalisation_in_the_file_must_be_the_one_in_front_of_the_network(
    tmp_path: Path, names: tuple[str, str]
) -> None:
    path, source, target = tmp_path / "w.pt", network(), network()
    buffers = dict(zip(names, (torch.full((1, 3, 1, 1), 0.5), torch.full((3,), 0.25)), strict=True))
    inner = {f"model.{k}": v for k, v in source.state_dict().items()}
    torch.save({"state_dict": buffers | inner}, path)
    refused(target, path, r"add --mean 0\.5,0\.5,0\.5 --std 0\.25,0\.25,0\.25, or save")
    other = Normalisation((0.5, 0.5, 0.5), (0.25, 0.25, 0.2))
    with pytest.raises(ValueError, match="also holds the normalisation"):
        load_weights(target, path, normalised=other)
    load_weights(target, path, normalised=Normalisation((0.5,) * 3, (0.25,) * 3))
    assert same(state(target), state(source))


@pytest.mark.parametrize("suffix", [".pth.tar", "", ".PT", ".pkl", ".bin", ".npz", ".safetensors"])
@pytest.mark.parametrize("form", [".safetensors", ".npz", ".pt"])
def test_the_content_decides_the_format(tmp_path: Path, suffix: str, form: str) -> None:
    source, target, path = network(), network(), tmp_path / f"w{suffix}"
    WRITERS[form](source.state_dict(), tmp_path / f"source{form}")
    (tmp_path / f"source{form}").rename(path)
    load_weights(target, path)
    assert same(state(target), state(source))


def test_of_tied_weights_the_file_needs_one_name(tmp_path: Path) -> None:
    def tied() -> nn.Module:
        made = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3))
        made[2].weight = made[0].weight
        return made

    source, path = tied(), tmp_path / "w.safetensors"
    safetensors.torch.save_model(source, path)
    assert len(safetensors.torch.load_file(path)) == 3
    target = tied()
    load_weights(target, path)
    assert same(state(target), state(source))
    refused(nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3)), path, "missing: .*weight")


def test_the_old_format_of_torch_and_other_layouts_of_memory_are_read(tmp_path: Path) -> None:
    source, target, path = network(), network(), tmp_path / "w.pt"
    torch.save(source.state_dict(), path, _use_new_zipfile_serialization=False)
    load_weights(target, path)
    assert same(state(target), state(source))
    turned = {"0.weight": source[0].weight.detach().T.contiguous().T}
    torch.save(source.state_dict() | turned, path)
    load_weights(target, path)
    assert same(state(target), state(source))
    repeated = torch.ones(1, 1).expand(4, 3)
    np.savez(
        tmp_path / "w.npz",
        **{k: v.numpy().astype(">f8") for k, v in source.state_dict().items() if "num" not in k},
    )
    load_weights(target, tmp_path / "w.npz")
    assert same(state(target), state(source))
    torch.save(source.state_dict() | {"0.weight": repeated}, path)
    load_weights(target, path)
    assert torch.equal(target[0].weight, torch.ones(4, 3))


def test_a_type_that_torch_cannot_read_in_its_old_format_is_not_called_corrupt(tmp_path):
    path = tmp_path / "w.pt"
    weights = {"weight": torch.zeros(2, 2).to(torch.float8_e4m3fn)}
    torch.save(weights, path, _use_new_zipfile_serialization=False)
    refused(
        nn.Linear(2, 2, bias=False),
        path,
        "holds tensors of a type that the old format does not keep; save",
    )


def test_names_that_fit_nowhere_are_listed_with_the_names_expected(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save({"model": {"conv.weight": torch.zeros(1)}}, path)
    refused(network(), path, r"missing: 0\.weight, 0\.bias, .* 5 more; unexpected: conv\.weight")
    torch.save({"epoch": 3, "lr": 0.1}, path)
    refused(
        network(), path, r"holds no tensors by name \(its keys are epoch, lr\); save the weights"
    )
    torch.save({"x" * 10_000 + "\n": torch.zeros(1)}, path)
    refused(network(), path, r"unexpected: x{80}\.\.\.\)")


def test_a_pickled_network_and_a_program_are_refused_with_our_messages(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save(nn.Linear(2, 2), path)
    refused(network(), path, r"objects besides tensors \(torch\.nn\.modules\.linear\.Linear\)")
    torch.save({"model": {k: v.numpy() for k, v in network().state_dict().items()}}, path)
    refused(network(), path, r"objects besides tensors \(numpy\..*\)")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated, and still in use
        torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)), path)
    refused(network(), path, "is a TorchScript archive")


@FORMS
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
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
    refused(network(), path, "holds no weights: it is text; expected a file of")
    path.write_bytes(b"")
    refused(network(), path, "holds no weights: it is empty; expected a file of")


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


def test_a_file_of_torch_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    bomb = b"\x80\x02cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R."  # 2 GiB in 30 bytes
    path.write_bytes(bomb)
    refused(network(), path, "holds a bytearray besides tensors")
    for method, pickled, said in (
        (zipfile.ZIP_STORED, bomb, "holds a bytearray besides tensors"),
        (zipfile.ZIP_DEFLATED, pickle.dumps({}, 2), "its parts are compressed"),
        (zipfile.ZIP_STORED, bytes(LARGEST_PICKLE + 1), "its pickle has more than 16777216 bytes"),
    ):
        with zipfile.ZipFile(path, "w", method) as archive:
            archive.writestr("archive/data.pkl", pickled)
            archive.writestr("archive/data/0", bytes(1 << 20))
        refused(network(), path, said)


@pytest.mark.parametrize("content", [[torch.zeros(1)], {"0.weight": 1.0}, {1: torch.zeros(1)}])
def test_a_torch_file_without_named_tensors_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "w.pt")
    refused(network(), tmp_path / "w.pt", "holds no tensors by name")


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (torch.eye(4, 3).to_sparse(), "not plain numbers: 0.weight sparse_coo"),
        (torch.empty(4, 3, device="meta"), "not plain numbers: 0.weight on the device meta"),
        (torch.zeros(4, 3) + 0j, "of another type: 0.weight torch.complex64"),
        (torch.zeros(1).expand(10**15), r"of another shape: 0.weight \(1000000000000000,\)"),
    ],
)
def test_tensors_that_are_not_arrays_of_floats_are_refused(
    tmp_path: Path, value: Tensor, kind: str
) -> None:
    torch.save(state(network()) | {"0.weight": value}, tmp_path / "w.pt")
    refused(network(), tmp_path / "w.pt", kind)


def test_an_array_without_a_name_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "w.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    refused(network(), tmp_path / "w.npz", "holds no weights: it is of another kind")


def test_strings_in_an_archive_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "w.npz", names=np.array(["a", "b"]))
    refused(network(), tmp_path / "w.npz", "names holds <U1, not numbers")


def test_an_archive_of_other_files_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "w.pt", "w") as archive:
        archive.writestr("model/w.pt", b"")
    refused(network(), tmp_path / "w.pt", r"archive without weights \(model/w\.pt\)")


def test_a_path_that_is_no_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=rf"there is no .*w\.npz; looked in {tmp_path}$"):
        load_weights(network(), tmp_path / "w.npz")
    refused(network(), tmp_path, "is a folder; name a file")
    os.mkfifo(tmp_path / "pipe")
    refused(network(), tmp_path / "pipe", "is a pipe or a device")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(OSError, match="loop is a symbolic link that leads back to itself"):
        load_weights(network(), tmp_path / "loop")


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
