"""Which commit of a hub model is run: that of `main`, or of the hub's own conversion where main has pickles only."""

import json
from types import SimpleNamespace as Record

import pytest

from zobench.models import hub
from zobench.models.identity import identify
from zobench.spec import EnvironmentUnmet

MAIN, CONVERTED = "a" * 40, "b" * 40


class Api:
    """A hub with one model: the files of main, and pull requests (author, status, parent)."""

    def __init__(self, files, talks=()):
        self.files, self.talks = files, talks

    def repo_info(self, repository, repo_type, revision, timeout):
        return Record(sha=MAIN if revision is None else revision, siblings=[Record(rfilename=f) for f in self.files])

    def get_repo_discussions(self, repository, author, discussion_type):
        for number, (name, status, _) in enumerate(self.talks):
            yield Record(author=name, status=status, git_reference=f"refs/pr/{number}")

    def list_repo_commits(self, repository, revision):
        parent = self.talks[int(revision.rpartition("/")[2])][2]
        return [Record(commit_id=CONVERTED), Record(commit_id=parent)]


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


@pytest.fixture
def model(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)

    def revision(files, talks=(), asked=None):
        monkeypatch.setattr("huggingface_hub.HfApi", lambda: Api(files, talks))
        return identify("facebook/opt-125m", asked)[1]

    return revision


PICKLED = ("config.json", "pytorch_model.bin")


def test_main_is_taken_where_it_has_safetensors(model):
    assert model(("config.json", "model.safetensors"), [(hub.BOT, "open", MAIN)]) == MAIN


def test_the_bots_conversion_of_main_is_taken_where_main_is_pickled(model):
    assert model(PICKLED, [("someone", "open", MAIN), (hub.BOT, "open", MAIN)]) == CONVERTED


@pytest.mark.parametrize("talk", [("someone", "open", MAIN), (hub.BOT, "closed", MAIN), (hub.BOT, "open", "c" * 40)])
def test_nothing_else_is_trusted(model, talk):
    """Another author's, a rejected one, one made from older weights."""
    assert model(PICKLED, [talk]) == MAIN


def test_a_revision_that_was_asked_for_stands(model):
    assert model(PICKLED, [(hub.BOT, "open", MAIN)], asked="d" * 40) == "d" * 40


def test_main_by_its_name_is_main(model):
    assert model(PICKLED, [(hub.BOT, "open", MAIN)], asked="main") == CONVERTED


def test_other_safetensors_are_no_weights(model):
    """An adapter, or another precision: transformers reads neither."""
    files = (*PICKLED, "adapter_model.safetensors", "model.fp16.safetensors")
    assert model(files, [(hub.BOT, "open", MAIN)]) == CONVERTED
    assert model((*PICKLED, "model.safetensors.index.json"), [(hub.BOT, "open", MAIN)]) == MAIN


# --- offline ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """A cache of the hub with one model: `cache(commit, *files)` adds a snapshot, `cache.main` is what is called main."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    folder = tmp_path / "hub" / "models--facebook--opt-125m"
    (folder / "refs").mkdir(parents=True)

    def add(commit, *files):
        (folder / "snapshots" / commit).mkdir(parents=True)
        for file in files:
            (folder / "snapshots" / commit / file).write_text("")

    add.folder, add.main = folder, folder / "refs/main"
    return add


def offline(asked=None):
    return identify("facebook/opt-125m", asked)[1]


def test_offline_main_is_the_cached_main_if_it_has_weights(cache):
    cache(CONVERTED, "model.safetensors")
    cache(MAIN, "config.json", "model.safetensors")
    cache("c" * 40, "model.safetensors")
    cache.main.write_text(MAIN)
    assert offline() == offline("main") == MAIN
    assert offline(CONVERTED) == CONVERTED


@pytest.mark.parametrize("main", [MAIN, None])
def test_offline_no_other_cached_commit_is_taken_for_main(cache, main):
    cache(CONVERTED, "model.safetensors")
    cache(MAIN, "config.json")
    if main:
        cache.main.write_text(main)
    with pytest.raises(EnvironmentUnmet, match=f"cannot be known.*--revision {CONVERTED}$"):
        offline()
    with pytest.raises(EnvironmentUnmet, match=r"the hub cannot be reached.*save_pretrained"):
        identify("facebook/opt-350m", None)


@pytest.mark.parametrize("files", [PICKLED, ("config.json", "model.safetensors")])
@pytest.mark.parametrize("named", [True, False])
def test_what_main_was_online_is_remembered(model, cache, monkeypatch, files, named):
    from huggingface_hub import constants

    with monkeypatch.context() as patch:
        patch.setattr(constants, "HF_HUB_OFFLINE", False)
        found = model(files, [(hub.BOT, "open", MAIN)])
    with pytest.raises(EnvironmentUnmet):  # not yet downloaded
        offline()
    cache(found, "model.safetensors")
    if named:
        cache.main.write_text(MAIN)
    assert offline() == found
    cache.main.write_text("c" * 40)  # another main, whose conversion is not known
    with pytest.raises(EnvironmentUnmet, match="--revision"):
        offline()


def test_offline_a_sharded_model_has_all_its_shards(cache):
    shards = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    cache(MAIN, "config.json", shards[0])
    cache.main.write_text(MAIN)
    snapshot = cache.folder / "snapshots" / MAIN
    for index in (None, "{", "[]", json.dumps({"weight_map": {"a": shards[0], "b": shards[1], "c": shards[1]}})):
        if index:
            (snapshot / "model.safetensors.index.json").write_text(index)
        with pytest.raises(EnvironmentUnmet, match="the hub cannot be reached"):
            offline()
    (snapshot / shards[1]).write_text("")
    assert offline() == MAIN
