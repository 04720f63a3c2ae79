"""Which commit of a hub model is run: that of `main`, or of the hub's own conversion where main has pickles only."""

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


def test_offline_the_cached_commit_that_has_the_weights_stands(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    folder = tmp_path / "models--facebook--opt-125m"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs/main").write_text(MAIN)
    for sha, name in ((MAIN, "config.json"), (CONVERTED, "model.safetensors")):
        (folder / "snapshots" / sha).mkdir(parents=True)
        (folder / "snapshots" / sha / name).write_text("")
    assert identify("facebook/opt-125m", None)[1] == CONVERTED
    (folder / "snapshots" / MAIN / "model.safetensors").write_text("")
    assert identify("facebook/opt-125m", None)[1] == MAIN
    with pytest.raises(EnvironmentUnmet, match="the hub cannot be reached"):
        identify("facebook/opt-350m", None)
