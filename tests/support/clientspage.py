"""The clients of other services that are tested, and their table in docs/clients.md.

`ci/clients` writes it: versions are those of the locks, errors what the tests find.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bundler.locking.client_lock import versions
from bundler.locks.wheels import read_lock
from bundler.project import Project

if TYPE_CHECKING:
    from collections.abc import Iterator

CHECKOUT = Project.here()
PAGE = CHECKOUT.root / "docs" / "clients.md"
HEAD = "| client | version | what it is told | other model | wrong key |\n|---|---|---|---|---|\n"
TABLE = re.compile(re.escape(HEAD) + r"(?:\|.*\n)*")
URL = "http://127.0.0.1:8421"


@dataclass(frozen=True, kw_only=True)
class Client:
    """A client, how its users tell it the address, and what it makes of what is no vector.

    Errors go by the names that the client has for them; where one is None, there is none. That of
    `empty` is of an empty text ("" where it has no vector), `none` of no texts, `long` of one that
    is too long. `outside` is what it tries to reach beside the service. A client that `hides` shows
    no word of what is said of a wrong key; one that `is_ours` is called as the builder has it.
    """

    name: str
    package: str
    told: str
    other: str | None
    wrong: str
    language: str = "python"
    empty: str | None = None
    none: str | None = None
    long: str | None = None
    outside: tuple[str, ...] = ()
    hides: bool = False
    is_ours: bool = False
    is_quick: bool = False


CLIENTS = (
    Client(
        name="openai",
        package="openai",
        told=f'base_url="{URL}/v1"',
        other="NotFoundError",
        wrong="AuthenticationError",
        none="BadRequestError",
        is_quick=True,
    ),
    Client(
        name="ollama",
        package="ollama",
        told=f'host="{URL}"',
        other="ResponseError",
        wrong="ResponseError",
        empty="IndexError",
    ),
    Client(
        name="huggingface_hub",
        package="huggingface-hub",
        told=f'InferenceClient("{URL}")',
        other=None,
        wrong="HfHubHTTPError",
        none="BadRequestError",
        hides=True,
        # langchain-huggingface keeps the clients from having its newest.
        is_ours=True,
        is_quick=True,
    ),
    Client(
        name="langchain_openai",
        package="langchain-openai",
        told=f'base_url="{URL}/v1", check_embedding_ctx_length=False',
        other="NotFoundError",
        wrong="AuthenticationError",
    ),
    Client(
        name="langchain_ollama",
        package="langchain-ollama",
        told=f'base_url="{URL}"',
        other="ResponseError",
        wrong="ResponseError",
    ),
    Client(
        name="langchain_huggingface",
        package="langchain-huggingface",
        told=f'client = InferenceClient("{URL}")',
        other=None,
        wrong="HfHubHTTPError",
        none="BadRequestError",
        hides=True,
    ),
    Client(
        name="llama_index_openai_like",
        package="llama-index-embeddings-openai-like",
        told=f'api_base="{URL}/v1"',
        other="NotFoundError",
        wrong="AuthenticationError",
    ),
    Client(
        name="llama_index_ollama",
        package="llama-index-embeddings-ollama",
        told=f'base_url="{URL}"',
        other="ResponseError",
        wrong="ResponseError",
        empty="IndexError",
    ),
    Client(
        name="llama_index_tei",
        package="llama-index-embeddings-text-embeddings-inference",
        told=f'base_url="{URL}"',
        other=None,
        wrong="KeyError",
        hides=True,
    ),
    Client(
        name="chromadb_openai",
        package="chromadb",
        told=f'OpenAIEmbeddingFunction(api_base="{URL}/v1")',
        other="NotFoundError",
        wrong="AuthenticationError",
        none="ValueError",
    ),
    Client(
        name="chromadb_ollama",
        package="chromadb",
        told=f'OllamaEmbeddingFunction(url="{URL}")',
        other="ResponseError",
        wrong="ResponseError",
        none="ValueError",
    ),
    Client(
        name="chromadb_huggingface",
        package="chromadb",
        told=f'HuggingFaceEmbeddingServer(url="{URL}/embed")',
        other=None,
        wrong="ValueError",
        hides=True,
        none="ValueError",
    ),
    Client(
        name="litellm_openai",
        package="litellm",
        told=f'model="openai/minilm", api_base="{URL}/v1"',
        other="NotFoundError",
        wrong="AuthenticationError",
        none="BadRequestError",
    ),
    Client(
        name="litellm_ollama",
        package="litellm",
        told=f'model="ollama/all-minilm", api_base="{URL}"',
        other="NotFoundError",
        wrong="AuthenticationError",
    ),
    Client(
        name="litellm_huggingface",
        package="litellm",
        told=f'model="huggingface/minilm", api_base="{URL}/embed", input_type="embed"',
        other=None,
        wrong="AuthenticationError",
        none="BadRequestError",
        outside=("huggingface.co",),
    ),
    Client(
        name="openai",
        package="openai",
        language="node",
        told=f"baseURL: '{URL}/v1'",
        other="NotFoundError",
        wrong="AuthenticationError",
        none="BadRequestError",
    ),
    Client(
        name="ollama",
        package="ollama",
        language="node",
        told=f"host: '{URL}'",
        other="ResponseError",
        wrong="ResponseError",
        empty="",
        is_quick=True,
    ),
    Client(
        name="huggingface",
        package="@huggingface/inference",
        language="node",
        told=f".endpoint('{URL}')",
        other=None,
        wrong="InferenceClientProviderApiError",
        none="InferenceClientProviderApiError",
    ),
    Client(
        name="langchain_openai",
        package="@langchain/openai",
        language="node",
        told=f"configuration: {{ baseURL: '{URL}/v1' }}",
        other="NotFoundError",
        wrong="AuthenticationError",
    ),
    Client(
        name="langchain_ollama",
        package="@langchain/ollama",
        language="node",
        told=f"baseUrl: '{URL}'",
        other="ResponseError",
        wrong="ResponseError",
        long="ResponseError",
    ),
)


def table() -> str:
    """Return the table of the clients with the versions that are locked."""
    return HEAD + "".join(f"| {' | '.join(row)} |\n" for row in _rows())


def _rows() -> Iterator[tuple[str, ...]]:
    locked, own = versions(CHECKOUT.clients), read_lock(CHECKOUT.wheel_lock)
    for client in CLIENTS:
        is_node = client.language == "node"
        version = locked[f"npm:{client.package}" if is_node else client.package]
        if client.is_ours:
            version = next(one.version for one in own.packages if one.name == client.package)
        language = "Node" if is_node else "Python"
        other = f"`{client.other}`" if client.other else "names none"
        yield (
            f"`{client.package}`, {language}",
            version,
            f"`{client.told}`",
            other,
            f"`{client.wrong}`",
        )


if __name__ == "__main__":
    PAGE.write_text(
        TABLE.sub(lambda _: table(), PAGE.read_text(encoding="utf-8"), count=1), encoding="utf-8"
    )
