from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from bundler.errors import IntegrityError, UnreachableError, UsageError
from bundler.locking.model_lock import Hub, Listing, blob_id
from tests.support.badserver import BadServer, cut_at, extra, status, wrong
from tests.support.hub import REVISION, LoopbackNetwork, TinyHub
from tests.support.hub import blob_id as git_id

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = "someone/tiny"
FILES = {"config.json": b'{"a": 1}\n', "model.safetensors": b"\x00weights" * 9, "README.md": b"#"}
NETWORK = LoopbackNetwork(tries=3, first_wait_s=0.01)


@pytest.fixture
def server() -> Iterator[TinyHub]:
    with TinyHub() as server:
        server.publish(REPOSITORY, FILES)
        yield server


def hub(server: BadServer, token: str | None = None) -> Hub:
    return Hub(endpoint=server.root, network=NETWORK, token=token)


def read(hub: Hub, listing: Listing) -> bytes:
    """Return config.json as the hub gives it."""
    wanted = [file for file in listing.files if file.path == "config.json"]
    ((file, data),) = hub.blobs(listing, wanted)
    assert file == wanted[0]
    return data


def test_the_id_of_a_file_is_the_one_git_gives_it() -> None:
    # What `printf 'hello\n' | git hash-object --stdin` prints.
    assert blob_id(b"hello\n") == "ce013625030ba8dba906f756967f9e9ca394464a"


def test_a_listing_has_sizes_and_for_each_file_one_of_the_two_ids(server: TinyHub) -> None:
    listing = hub(server).listing(REPOSITORY, REVISION)
    assert (listing.revision, listing.license) == (REVISION, "apache-2.0")
    by_path = {file.path: file for file in listing.files}
    assert set(by_path) == set(FILES)
    assert by_path["model.safetensors"].blob is None
    assert by_path["model.safetensors"].size == len(FILES["model.safetensors"])
    assert by_path["config.json"].sha256 is None
    assert by_path["config.json"].blob == git_id(FILES["config.json"])


def test_without_a_revision_main_is_resolved_to_its_commit(server: TinyHub) -> None:
    assert hub(server).listing(REPOSITORY, None).revision == REVISION


def test_a_hub_that_answers_for_another_commit_is_not_believed(server: TinyHub) -> None:
    other = "f" * 40
    server.publish(REPOSITORY, FILES, revision=other, answers={"sha": REVISION})
    with pytest.raises(IntegrityError, match="at the commit") as caught:
        hub(server).listing(REPOSITORY, other)
    assert REVISION in caught.value.why


@pytest.mark.parametrize("sha", [None, "main", "1234"])
def test_a_main_that_is_no_commit_is_refused(server: TinyHub, sha: str | None) -> None:
    server.publish(REPOSITORY, FILES, answers={"sha": sha})
    with pytest.raises(IntegrityError, match="at the commit"):
        hub(server).listing(REPOSITORY, None)


def test_an_unknown_repository_is_a_usage_error_that_names_it(server: TinyHub) -> None:
    with pytest.raises(UsageError, match="no repository someone/else") as caught:
        hub(server).listing("someone/else", None)
    assert "private" in caught.value.why
    assert "set HF_TOKEN" in caught.value.next_step
    assert len(server.seen) == 1
    with pytest.raises(UsageError, match="no repository someone/else") as caught:
        hub(server, "hf_good").listing("someone/else", None)
    assert "set HF_TOKEN" not in caught.value.next_step


def test_an_unknown_revision_is_a_usage_error(server: TinyHub) -> None:
    server.add(
        f"api/models/{REPOSITORY}/revision/{'e' * 40}",
        b"",
        forever=status(404, X_Error_Code="RevisionNotFound"),
    )
    with pytest.raises(UsageError, match="no such revision of someone/tiny"):
        hub(server).listing(REPOSITORY, "e" * 40)


def test_a_gated_repository_without_a_token_says_where_to_ask(server: TinyHub) -> None:
    server.publish("someone/gated", FILES, gated=True)
    with pytest.raises(UnreachableError, match="someone/gated is gated") as caught:
        hub(server).listing("someone/gated", REVISION)
    assert f"{server.root}/someone/gated" in caught.value.next_step
    assert "HF_TOKEN" in caught.value.next_step


def test_a_token_without_access_is_told_so_and_never_shown(server: TinyHub) -> None:
    server.publish("someone/gated", FILES, gated=True)
    gated = hub(server, "hf_secret")
    listing = gated.listing("someone/gated", REVISION)
    with pytest.raises(UnreachableError, match="is gated") as caught:
        read(gated, listing)
    assert "the token's account has none" in caught.value.why
    assert "set HF_TOKEN" not in caught.value.next_step
    assert "hf_secret" not in caught.value.render() + repr(gated)


def test_a_token_with_access_reads_a_gated_repository(server: TinyHub) -> None:
    server.publish("someone/gated", FILES, gated=True)
    gated = hub(server, "hf_good")
    listing = gated.listing("someone/gated", REVISION)
    assert read(gated, listing) == FILES["config.json"]
    assert {seen.authorization for seen in server.seen} == {"Bearer hf_good"}


def test_without_a_token_nothing_is_sent_that_the_environment_holds(
    server: TinyHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_environment")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    hub(server).listing(REPOSITORY, REVISION)
    assert [seen.authorization for seen in server.seen] == [None]


def test_a_file_whose_bytes_differ_from_the_commit_is_refused(server: TinyHub) -> None:
    listing = hub(server).listing(REPOSITORY, REVISION)
    for behave in (wrong, extra(b"more")):
        server.go_wrong(f"{REPOSITORY}/resolve/{REVISION}/config.json", behave)
        with pytest.raises(IntegrityError, match=r"config\.json of someone/tiny is not the file"):
            read(hub(server), listing)


def test_a_busy_hub_is_asked_again(server: TinyHub) -> None:
    server.go_wrong(
        f"api/models/{REPOSITORY}/revision/{REVISION}", status(503), status(429, Retry_After="0")
    )
    assert hub(server).listing(REPOSITORY, REVISION).revision == REVISION
    assert len(server.seen) == 3


def test_a_download_that_is_cut_is_begun_again(server: TinyHub) -> None:
    listing = hub(server).listing(REPOSITORY, REVISION)
    server.go_wrong(f"{REPOSITORY}/resolve/{REVISION}/config.json", cut_at(3), cut_at(0))
    assert read(hub(server), listing) == FILES["config.json"]


def test_a_hub_that_stays_busy_is_given_up_after_the_tries(server: TinyHub) -> None:
    server.go_wrong(f"api/models/{REPOSITORY}/revision/{REVISION}", forever=status(500))
    with pytest.raises(UnreachableError, match="out of reach") as caught:
        hub(server).listing(REPOSITORY, REVISION)
    assert caught.value.why == f"{server.root}: HTTP 500, 3 times"
    assert len(server.seen) == 3


def test_an_error_that_another_try_cannot_mend_is_final(server: TinyHub) -> None:
    server.go_wrong(f"api/models/{REPOSITORY}/revision/{REVISION}", forever=status(418))
    with pytest.raises(UnreachableError, match="out of reach"):
        hub(server).listing(REPOSITORY, REVISION)
    assert len(server.seen) == 1


def test_an_address_where_nobody_listens_is_out_of_reach() -> None:
    with BadServer() as gone:
        address = gone.root
    nowhere = Hub(endpoint=address, network=NETWORK)
    with pytest.raises(UnreachableError, match="out of reach") as caught:
        nowhere.listing(REPOSITORY, None)
    assert "3 times" in caught.value.why
    assert caught.value.exit_code == 5
    assert "--mirror hub=ADDRESS" in caught.value.next_step
    for name in ("--mirror hub", "HF_ENDPOINT"):
        with pytest.raises(UnreachableError) as caught:
            replace(nowhere, named_by=name).listing(REPOSITORY, None)
        assert caught.value.next_step == f"check the address in {name}, or leave it out"


@pytest.mark.parametrize("answer", [b"<html>", b"[]", b"{}", b'{"id": "x", "siblings": [{}]}'])
def test_an_address_that_is_no_hub_is_out_of_reach(server: TinyHub, answer: bytes) -> None:
    server.add(f"api/models/{REPOSITORY}/revision/{REVISION}", answer)
    with pytest.raises(UnreachableError, match="does not answer as a model hub does"):
        hub(server).listing(REPOSITORY, REVISION)


def test_a_listing_without_ids_is_not_a_listing(server: TinyHub) -> None:
    siblings = [{"rfilename": "config.json", "size": 9}]
    server.publish(REPOSITORY, FILES, answers={"siblings": siblings})
    with pytest.raises(UnreachableError, match="does not answer as a model hub does"):
        hub(server).listing(REPOSITORY, REVISION)


@pytest.mark.parametrize(
    ("said", "license"), [(None, None), (["mit", "other"], None), ("mit", "mit")]
)
def test_a_license_is_known_only_where_the_card_states_one(
    server: TinyHub,
    said: object,
    license: str | None,  # noqa: A002
) -> None:
    card = {} if said is None else {"license": said}
    server.publish(REPOSITORY, FILES, answers={"cardData": card})
    assert hub(server).listing(REPOSITORY, REVISION).license == license
