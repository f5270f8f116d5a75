"""Where a checkpoint's files are, and which of them are never loaded. Imports no torch."""

import atexit
import posixpath
import shutil
import tempfile
from pathlib import Path

from moos.errors import ModelError
from moos.storage import Storage, is_file

INT8_WEIGHTS = "weights.int8.safetensors"
OUTLIER_CONSTANTS = "outlier.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
DEFAULT_DIRECTORY = Path(__file__).parent / "checkpoints" / "default"

_DOWNLOADED = ("*.json", "*.safetensors")


def locate(location: str) -> Path:
    """The local directory of a checkpoint, which is downloaded if it is elsewhere.

    Args:
        location: `default`, a directory, an fsspec URL of a directory, or a hub id.

    Raises:
        ModelError: There is none.
    """
    if location == "default":
        return DEFAULT_DIRECTORY
    if "://" in location:
        return _download(location)
    path = Path(location)
    if location and path.is_dir():
        return path
    if path.exists() or location.startswith((".", "/", "~")) or location.count("/") != 1:
        raise ModelError(
            f"checkpoint {location!r} is not a directory; give `default`, a directory, an fsspec "
            "URL or a hub id such as owner/name"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return Path(snapshot_download(location, allow_patterns=list(_DOWNLOADED)))
    except (HfHubHTTPError, HFValidationError, OSError, ValueError) as error:
        raise ModelError(
            f"checkpoint {location!r} is no local directory, and the hub did not give it: {error}"
        ) from error


def _download(url: str) -> Path:
    """Copy a checkpoint's files into a temporary directory, which goes when this process ends."""
    target = Path(tempfile.mkdtemp(prefix="moos-checkpoint-"))
    atexit.register(shutil.rmtree, target, ignore_errors=True)
    try:
        _copy_files(Storage(url), target)
    except Exception as error:  # stores raise what they like
        shutil.rmtree(target, ignore_errors=True)
        raise ModelError(
            f"checkpoint {url} cannot be read: {type(error).__name__}: {error}; check the URL, the "
            "network and the credentials of the store"
        ) from error
    return target


def _copy_files(storage: Storage, target: Path) -> None:
    found = map(storage.follow_link, storage.list_directory(storage.root))
    names = [posixpath.basename(info["name"]) for info in found if is_file(info)]
    wanted = [name for name in names if name.endswith((".json", ".safetensors"))]
    if not wanted:
        raise FileNotFoundError("no .json or .safetensors file is there")
    for name in wanted:
        (target / name).write_bytes(storage.get(name))


def check_files(path: Path, location: str) -> None:
    """Refuse a checkpoint whose files cannot, or must not, be loaded.

    Raises:
        ModelError: Weights are pickled or missing, or there is no fast tokenizer.
    """
    if not any(file.name != OUTLIER_CONSTANTS for file in path.glob("*.safetensors")):
        if pickled := find_pickles(path):
            raise ModelError(
                f"checkpoint {location!r} has pickled weights ({', '.join(pickled)}), which can "
                "run code when loaded; save it as safetensors (save_pretrained does)"
            )
        raise ModelError(f"checkpoint {location!r} has no safetensors weights in {path}")
    if not (path / "tokenizer.json").exists():
        raise ModelError(
            f"checkpoint {location!r} has no fast tokenizer (tokenizer.json); make one with "
            "AutoTokenizer.from_pretrained(...).save_pretrained(...)"
        )


def find_pickles(directory: Path) -> list[str]:
    """Names of the files of a directory that hold pickled weights, sorted."""
    suffixes = {".bin", ".pt", ".pth", ".ckpt", ".pkl"}
    return sorted(file.name for file in directory.glob("*") if file.suffix in suffixes)


def adapter_error(location: str) -> ModelError:
    """What to say of a checkpoint that is a PEFT adapter, or comes with one.

    With peft installed transformers loads the adapter over the weights, or over those of a base
    model that it names, wherever that is: other weights than the ones that were checked and hashed.
    """
    return ModelError(
        f"checkpoint {location!r} comes with a PEFT adapter ({ADAPTER_CONFIG}); merge it into its "
        "model (model.merge_and_unload() of peft, then save_pretrained) and give what that wrote"
    )
