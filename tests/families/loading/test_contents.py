"""What a checkpoint is, wherever it lies: the same files have one fingerprint, and one changed byte gives another."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hub_server import COMMIT, hub

from pipeline.errors import CheckpointError
from pipeline.families.loading import contents
from pipeline.families.loading import hub as hub_client
from pipeline.families.loading.checkpoint import Checkpoint, fingerprint, raw_config, resolve, settings_folder

MODEL = "maker/tiny"


@pytest.fixture
def large(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The weights of the folder, which count as large here."""
    monkeypatch.setattr(contents, "_LARGE", 100_000)
    monkeypatch.setattr(contents, "_SETTLED_NS", 0)
    return folder / "model.safetensors"


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are hashed, as they are."""
    names: list[str] = []
    stock = hashlib.file_digest

    def counting(file: object, kind: str) -> object:
        names.append(Path(file.name).name)  # type: ignore[attr-defined]
        return stock(file, kind)  # type: ignore[arg-type]

    monkeypatch.setattr(hashlib, "file_digest", counting)
    return names


def at(source: Path | str, store: Path | None = None, revision: str | None = None) -> Checkpoint:
    return Checkpoint(str(source), revision, "auto", "sdpa", "cpu", store)


def another_process() -> None:
    """Forget what this process knows, as the next one does not know it."""
    contents.open_notes.cache_clear()
    for cached in (hub_client.config_file, hub_client.snapshot, hub_client.settings):
        cached.cache_clear()


def change_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-2] ^= 1
    path.write_bytes(data)


def test_moved_copied_and_touched_files_are_the_same_checkpoint(folder: Path, made: Path, tmp_path: Path) -> None:
    before = fingerprint(at(made))
    assert fingerprint(at(folder)) == before
    for path in folder.iterdir():
        os.utime(path, (1_000_000_000, 1_000_000_000))
    assert fingerprint(at(folder)) == before
    assert fingerprint(at(folder.rename(tmp_path / "elsewhere"))) == before


DECIDING = (
    *("model.safetensors", "config.json", "generation_config.json", "preprocessor_config.json", "chat_template.json"),
    *("tokenizer.json", "tokenizer_config.json", "merges.txt", "vocab.json"),
)


@pytest.mark.parametrize("name", DECIDING)
def test_one_byte_of_any_file_that_decides_makes_another_checkpoint(folder: Path, name: str) -> None:
    before = fingerprint(at(folder))
    path = folder / name
    status = path.stat()
    if path.suffix == ".json":
        path.write_text(path.read_text() + "\n")
    else:
        change_a_byte(path)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert fingerprint(at(folder)) != before


def test_a_large_file_changed_behind_its_time_stamp_is_noticed(folder: Path, large: Path, tmp_path: Path) -> None:
    before = fingerprint(at(folder, tmp_path / "store"))
    status = large.stat()
    change_a_byte(large)
    os.utime(large, ns=(status.st_atime_ns, status.st_mtime_ns))
    another_process()
    assert fingerprint(at(folder, tmp_path / "store")) != before


def test_a_file_under_another_name_makes_another_checkpoint(folder: Path) -> None:
    before = fingerprint(at(folder))
    (folder / "generation_config.json").rename(folder / "generation_config_old.json")
    assert fingerprint(at(folder)) != before


@pytest.mark.parametrize(
    "name",
    [
        *("README.md", ".gitattributes", "LICENSE.txt", "trainer_state.json", "training_args.bin", "optimizer.pt"),
        *(".git/config.json", ".cache/huggingface/download/config.json.metadata", "checkpoint-500/model.safetensors"),
        *("pytorch_model.bin", "pytorch_model.bin.index.json", "modeling_tiny.py"),
    ],
)
def test_what_no_model_reads_makes_no_other_checkpoint(folder: Path, name: str) -> None:
    before = fingerprint(at(folder))
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text('{"weight_map": {}}')
    assert fingerprint(at(folder)) == before


def test_a_large_file_is_read_once_by_all_processes_that_share_a_store(
    folder: Path, large: Path, read: list[str], tmp_path: Path
) -> None:
    store = tmp_path / "store"
    before = fingerprint(at(folder, store))
    another_process()
    assert fingerprint(at(folder, store)) == before
    assert read.count(large.name) == 1
    os.utime(large)
    assert fingerprint(at(folder, store)) == before
    assert read.count(large.name) == 2


def test_a_file_that_was_just_written_is_read_again(
    folder: Path, large: Path, read: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its time stamp may be too coarse to tell the next change."""
    monkeypatch.setattr(contents, "_SETTLED_NS", 10**12)
    for _ in range(2):
        fingerprint(at(folder, tmp_path / "store"))
    assert read.count(large.name) == 2


def test_a_damaged_note_is_made_again(folder: Path, large: Path, tmp_path: Path) -> None:
    before = fingerprint(at(folder, tmp_path / "store"))
    for path in (tmp_path / "store").rglob("*.json"):
        path.write_text("{")
    another_process()
    assert fingerprint(at(folder, tmp_path / "store")) == before


def test_the_hash_of_a_download_is_taken_from_the_hubs_client(folder: Path, large: Path, read: list[str]) -> None:
    """The layout of ``hf download --local-dir``."""
    before = fingerprint(at(folder))
    another_process()
    read.clear()
    note = folder / ".cache" / "huggingface" / "download" / f"{large.name}.metadata"
    note.parent.mkdir(parents=True)
    note.write_text(f"{COMMIT}\n{hashlib.sha256(large.read_bytes()).hexdigest()}\n{time.time() + 1}\n")
    assert fingerprint(at(folder)) == before
    assert large.name not in read
    note.write_text(note.read_text().rpartition("\n")[0].rpartition("\n")[0] + f"\n{time.time() - 100}\n")
    assert fingerprint(at(folder)) == before
    assert large.name in read  # it was changed after the download


@pytest.fixture
def hub_cache(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The checkpoint as the hub's client leaves it: links into a folder of files that are named by their hash."""
    from huggingface_hub import constants

    repository = tmp_path / "hub" / "models--maker--tiny"
    snapshot, blobs, refs = repository / "snapshots" / COMMIT, repository / "blobs", repository / "refs"
    for each in (snapshot, blobs, refs):
        each.mkdir(parents=True)
    (refs / "main").write_text(COMMIT)
    for path in made.iterdir():
        data = path.read_bytes()
        is_large = path.suffix == ".safetensors"
        name = (hashlib.sha256 if is_large else hashlib.sha1)(data).hexdigest()
        (blobs / name).write_bytes(data)
        (snapshot / path.name).symlink_to(Path("..") / ".." / "blobs" / name)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    another_process()
    yield snapshot
    another_process()


def test_a_commit_and_a_folder_with_the_same_files_are_the_same_checkpoint(
    hub_cache: Path, made: Path, large: Path, read: list[str]
) -> None:
    assert fingerprint(at(MODEL)) == fingerprint(at(MODEL, revision=COMMIT))
    assert large.name not in read  # its name in the cache is its hash
    assert fingerprint(at(MODEL)) == fingerprint(at(made))


@pytest.mark.parametrize("gone", ["weights", "everything"])
def test_a_checkpoint_that_was_seen_is_known_without_weights_and_without_network(
    hub_cache: Path, tmp_path: Path, gone: str
) -> None:
    store = tmp_path / "store"
    before, config = fingerprint(at(MODEL, store)), raw_config(at(MODEL, store))
    if gone == "weights":
        (hub_cache / "model.safetensors").resolve().unlink()
    else:
        shutil.rmtree(tmp_path / "hub")
    another_process()
    assert (fingerprint(at(MODEL, store)), raw_config(at(MODEL, store))) == (before, config)
    with pytest.raises(CheckpointError, match="hub cannot be reached" if gone == "everything" else "is incomplete"):
        resolve(at(MODEL, store))


def test_a_folder_whose_weights_were_taken_away_is_still_known_and_not_loaded(folder: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    before = fingerprint(at(folder, store))
    (folder / "model.safetensors").unlink()
    another_process()
    assert fingerprint(at(folder, store)) == before
    with pytest.raises(CheckpointError, match="is incomplete"):
        resolve(at(folder, store))
    (folder / "generation_config.json").unlink()
    with pytest.raises(CheckpointError, match="is incomplete"):  # it is another checkpoint, of which nothing is known
        fingerprint(at(folder, store))


def test_the_hub_tells_what_a_commit_holds_without_its_weights(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    files = {path.name: path.read_bytes() for path in made.iterdir()} | {"README.md": b"# Tiny"}
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    another_process()
    with hub({MODEL: files}, kind="models") as endpoint:
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        )
        found = fingerprint(at(MODEL, tmp_path / "store"))
    fetched = {path.name for path in (tmp_path / "hub").rglob("snapshots/*/*")}
    assert found == fingerprint(at(made))
    assert "config.json" in fetched
    assert not {"model.safetensors", "README.md"} & fetched


def test_settings_are_fetched_without_the_weights(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    files = {path.name: path.read_bytes() for path in made.iterdir()}
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    another_process()
    with hub({MODEL: files}, kind="models") as endpoint:
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        )
        found = settings_folder(at(MODEL))
    assert {path.name for path in found.iterdir()} == set(files) - {"model.safetensors"}
    assert settings_folder(at(made)) == made
    another_process()


def _pointer(path: Path) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 4567\n")


def _empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("name", DECIDING)
@pytest.mark.parametrize(("damage", "told"), [(_pointer, "Git LFS's note"), (_empty, "is empty")])
def test_a_file_that_is_not_itself_is_named(folder: Path, name: str, damage: Callable[[Path], None], told: str) -> None:
    damage(folder / name)
    for call in (fingerprint, resolve):
        with pytest.raises(CheckpointError, match=rf"{name} is .*{told.removeprefix('is ')}") as caught:
            call(at(folder))
        assert "checkpoint.source=" in caught.value.remedy


def test_files_that_decide_are_the_same_for_a_listing_of_the_hub() -> None:
    names = [
        *("llm/config.json", "llm/model-00001-of-00002.safetensors", "llm/model.safetensors.index.json"),
        *("vision_tower/pytorch_model.bin", "vision_tower/config.json", "config.json", "README.md", "llm/vocab.txt"),
        *("llm/pytorch_model-00001-of-00001.bin", "llm/pytorch_model.bin.index.json", "docs/a.txt", ".gitattributes"),
        *("chat_template.jinja", "tokenizer.model"),
    ]
    assert contents.deciding(names) == [
        *("chat_template.jinja", "config.json", "llm/config.json"),
        *("llm/model-00001-of-00002.safetensors", "llm/model.safetensors.index.json"),
        *("llm/vocab.txt", "tokenizer.model", "vision_tower/config.json", "vision_tower/pytorch_model.bin"),
    ]


def test_a_shard_beside_its_index_is_not_loaded_twice(folder: Path, made: Path) -> None:
    """Some repositories hold the same weights in another layout under another name."""
    (folder / "consolidated.safetensors").write_bytes((made / "model.safetensors").read_bytes())
    index = {"weight_map": {"lm_head.weight": "model.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert resolve(at(folder)) == folder
