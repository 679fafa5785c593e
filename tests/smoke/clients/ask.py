"""Let one client of another service ask ours, and write what it gets as JSON.

`python ask.py NAME` runs in the clients' own environment, and reads from standard input the
addresses, the model, the token and the texts. Every client is made as its users make it: what they
change are the address, the key and the name of the model.
"""

from __future__ import annotations

import json
import os
import sys
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path
from typing import Any

OTHER = "text-embedding-3-small"
WRONG = "a-key-of-another-service"
DOCUMENTS = ("the tide tables for Tuesday", "vegetable soup", "a place for ships")
QUERY = "harbour"


@dataclass(frozen=True)
class Made:
    """A client: how it embeds one text and many, and what else it is asked for."""

    one: Callable[[str], Any]
    many: Callable[[list[str]], Any]
    more: dict[str, Callable[[], Any]] = field(default_factory=dict)


def ours(url: str, key: str, model: str) -> Made:
    del model

    def many(texts: list[str]) -> Any:
        body = json.dumps({"texts": texts}).encode()
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
        request = urllib.request.Request(f"{url}/embed", body, headers)  # noqa: S310
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            return json.load(answer)["vectors"]

    return Made(lambda text: many([text])[0], many)


def openai(url: str, key: str, model: str) -> Made:
    from openai import OpenAI

    client = OpenAI(base_url=f"{url}/v1", api_key=key)

    def create(texts: str | list[str], **options: Any) -> list[Any]:
        made = client.embeddings.create(model=model, input=texts, **options)
        return [row.embedding for row in made.data]

    return Made(
        lambda text: create(text)[0],
        create,
        {
            "floats": lambda: create(QUERY, encoding_format="float")[0],
            "names": lambda: [model.id for model in client.models.list()],
            "tokens": lambda: create([[1, 2, 3]]),  # type: ignore[list-item]
        },
    )


def ollama(url: str, key: str, model: str) -> Made:
    from ollama import Client

    client = Client(host=url, headers={"Authorization": f"Bearer {key}"})

    def many(texts: str | list[str]) -> Any:
        return client.embed(model=model, input=texts).embeddings

    return Made(
        lambda text: many(text)[0],
        many,
        {
            "older": lambda: client.embeddings(model=model, prompt=QUERY).embedding,
            "names": lambda: [one.model for one in client.list().models],
            "running": lambda: [one.model for one in client.ps().models],
            "shown": lambda: client.show(model).capabilities,
            "pulled": lambda: [one.status for one in client.pull(model, stream=True)],
            "generated": lambda: client.generate(model=model, prompt=QUERY).response,
            "refused": lambda: client.embed(model=model, input="word " * 2_000, truncate=False),
        },
    )


def huggingface_hub(url: str, key: str, model: str) -> Made:
    del model
    from huggingface_hub import InferenceClient

    client = InferenceClient(url, token=key)
    return Made(
        lambda text: client.feature_extraction(text)[0],
        client.feature_extraction,
        {
            "refused": lambda: client.feature_extraction("word " * 2_000, truncate=False),
            "similar": lambda: client.sentence_similarity(
                QUERY, other_sentences=list(DOCUMENTS), model=f"{url}/similarity"
            ),
        },
    )


def langchain(made: Any) -> Made:
    return Made(made.embed_query, made.embed_documents)


def langchain_openai(url: str, key: str, model: str) -> Made:
    from langchain_openai import OpenAIEmbeddings

    # By default it asks the network for OpenAI's vocabulary; litellm brings that as a file.
    beside = find_spec("litellm")
    assert beside is not None
    assert beside.origin is not None
    vocabulary = Path(beside.origin).parent / "litellm_core_utils" / "tokenizers"
    os.environ["TIKTOKEN_CACHE_DIR"] = str(vocabulary)
    told = {"base_url": f"{url}/v1", "api_key": key, "model": model}
    right = langchain(OpenAIEmbeddings(check_embedding_ctx_length=False, **told))
    defaults = OpenAIEmbeddings(**told)
    return Made(right.one, right.many, {"defaults": lambda: defaults.embed_query(QUERY)})


def langchain_ollama(url: str, key: str, model: str) -> Made:
    from langchain_ollama import OllamaEmbeddings

    headers = {"Authorization": f"Bearer {key}"}
    return langchain(
        OllamaEmbeddings(model=model, base_url=url, client_kwargs={"headers": headers})
    )


def langchain_huggingface(url: str, key: str, model: str) -> Made:
    from huggingface_hub import InferenceClient
    from langchain_huggingface import HuggingFaceEndpointEmbeddings

    made = HuggingFaceEndpointEmbeddings(model=model)
    # It takes no address for the name of a model: its client does.
    made.client = InferenceClient(url, token=key)
    return langchain(made)


def llama_index(made: Any) -> Made:
    return Made(made.get_query_embedding, made.get_text_embedding_batch)


def llama_index_openai_like(url: str, key: str, model: str) -> Made:
    from llama_index.embeddings.openai_like import OpenAILikeEmbedding

    return llama_index(OpenAILikeEmbedding(model_name=model, api_base=f"{url}/v1", api_key=key))


def llama_index_ollama(url: str, key: str, model: str) -> Made:
    from llama_index.embeddings.ollama import OllamaEmbedding

    told = {"headers": {"Authorization": f"Bearer {key}"}}
    return llama_index(OllamaEmbedding(model_name=model, base_url=url, client_kwargs=told))


def llama_index_tei(url: str, key: str, model: str) -> Made:
    from llama_index.embeddings.text_embeddings_inference import TextEmbeddingsInference

    return llama_index(TextEmbeddingsInference(model_name=model, base_url=url, auth_token=key))


def chroma(function: Any) -> Made:
    import chromadb

    def nearest() -> Any:
        client = chromadb.EphemeralClient()
        collection = client.create_collection("documents", embedding_function=function)
        collection.add(ids=[str(at) for at in range(len(DOCUMENTS))], documents=list(DOCUMENTS))
        found = collection.query(query_texts=[QUERY], n_results=1)["documents"]
        return found and found[0]

    return Made(lambda text: function([text])[0], function, {"nearest": nearest})


def chromadb_openai(url: str, key: str, model: str) -> Made:
    from chromadb.utils.embedding_functions import OpenAIEmbeddingFunction

    return chroma(OpenAIEmbeddingFunction(api_key=key, api_base=f"{url}/v1", model_name=model))


def chromadb_ollama(url: str, key: str, model: str) -> Made:
    from chromadb.utils.embedding_functions.ollama_embedding_function import (
        OllamaEmbeddingFunction,
    )

    # Ollama's client reads it where it is given none.
    os.environ["OLLAMA_API_KEY"] = key
    return chroma(OllamaEmbeddingFunction(url=url, model_name=model))


def chromadb_huggingface(url: str, key: str, model: str) -> Made:
    del model
    from chromadb.utils.embedding_functions import HuggingFaceEmbeddingServer

    return chroma(HuggingFaceEmbeddingServer(url=f"{url}/embed", api_key=key))


def litellm(**told: str) -> Made:
    from litellm import embedding

    def many(texts: list[str]) -> list[Any]:
        return [row["embedding"] for row in embedding(input=texts, **told).data]

    return Made(lambda text: many([text])[0], many)


def litellm_openai(url: str, key: str, model: str) -> Made:
    return litellm(model=f"openai/{model}", api_base=f"{url}/v1", api_key=key)


def litellm_ollama(url: str, key: str, model: str) -> Made:
    return litellm(model=f"ollama/{model}", api_base=url, api_key=key)


def litellm_huggingface(url: str, key: str, model: str) -> Made:
    # Without the kind of input it asks the hub for it.
    kind = {"input_type": "embed"}
    return litellm(model=f"huggingface/{model}", api_base=f"{url}/embed", api_key=key, **kind)


MAKERS = (
    *(ours, openai, ollama, huggingface_hub, langchain_openai, langchain_ollama),
    *(langchain_huggingface, llama_index_openai_like, llama_index_ollama, llama_index_tei),
    *(chromadb_openai, chromadb_ollama, chromadb_huggingface),
    *(litellm_openai, litellm_ollama, litellm_huggingface),
)


def outcome(ask: Callable[[], Any]) -> dict[str, Any]:
    """Return what a client gives, or the error that it makes."""
    try:
        given = ask()
    except Exception as error:  # noqa: BLE001 - whatever a client raises is what its users see
        return {"error": type(error).__name__, "said": str(error)}
    return {"given": plain(given)}


def plain(given: Any) -> Any:
    """Return vectors of whatever kind as lists of numbers."""
    if hasattr(given, "tolist"):
        return given.tolist()
    if isinstance(given, Sequence) and not isinstance(given, str):
        return [plain(one) for one in given]
    return given


def sought() -> set[str]:
    """Return where to connections will have been tried outside of this machine."""
    found: set[str] = set()

    def watch(event: str, told: tuple[Any, ...]) -> None:
        if event == "socket.getaddrinfo" and told[0] not in ("localhost", "127.0.0.1", None):
            found.add(str(told[0]))
        if event == "socket.connect" and isinstance(told[1], tuple):
            address = told[1][0]
            if not ip_address(address).is_loopback:
                found.add(str(address))

    sys.addaudithook(watch)
    return found


def main(name: str) -> None:
    """Ask everything, once without a token and once where one is needed."""
    outside = sought()
    make = next(maker for maker in MAKERS if maker.__name__ == name)
    told = json.load(sys.stdin)
    url, guarded, model = told["url"], told["guarded"], told["model"]
    texts, long = told["texts"], told["long"]
    made = make(url, "unused", model)
    found = {
        "one": outcome(lambda: made.one(texts[0])),
        "query": outcome(lambda: made.one(QUERY)),
        "many": outcome(lambda: made.many(texts)),
        "empty": outcome(lambda: made.one("")),
        "none": outcome(lambda: made.many([])),
        "long": outcome(lambda: made.many([texts[0], long])),
        "cut": outcome(lambda: made.one(long)),
        "other": outcome(lambda: make(url, "unused", OTHER).one(texts[0])),
        "right": outcome(lambda: make(guarded, told["token"], model).one(texts[0])),
        "wrong": outcome(lambda: make(guarded, WRONG, model).one(texts[0])),
        **{name: outcome(ask) for name, ask in made.more.items()},
    }
    json.dump({"found": found, "outside": sorted(outside)}, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1])
