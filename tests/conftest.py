"""What several tests need: rows to read and a small model on disk."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Rows of the tasks: real ones where ZOBENCH_DATA names them, else a few of our own writing."""
    return Path(os.environ.get("ZOBENCH_DATA") or Path(__file__).parent / "rows")


@pytest.fixture(scope="session")
def nano_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with random:opt-nano of seed 0, as from_pretrained wants it."""
    from zobench.models.load import load_model

    directory = tmp_path_factory.mktemp("nano")
    model, tokenizer = load_model("random:opt-nano")
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory
