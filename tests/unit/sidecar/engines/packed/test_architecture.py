from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.engines.packed.architecture import GRAPH, UnpackableError, qualify, read
from tests.support.twins import edit

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Edit = Callable[[Any], object]

POOLING = "1_Pooling/config.json"
ENCODER = "sentence_bert_config.json"


def test_a_twin_of_bert_is_read_as_it_was_made(bert: Path) -> None:
    made = read(bert)
    assert (made.family, made.layers, made.width, made.heads, made.inner) == ("bert", 2, 32, 4, 64)
    assert (made.positions, made.first_position, made.max_tokens) == (64, 0, 48)
    assert (made.epsilon, made.pooling, made.dim) == (1e-12, "mean", 32)
    assert made.encoder_bytes == 4 * 2 * (4 * 32 * 32 + 2 * 32 * 64)


def test_positions_of_xlm_roberta_begin_behind_paddings(xlmr: Path) -> None:
    made = read(xlmr)
    assert (made.positions, made.first_position, made.epsilon) == (66, 2, 1e-5)


def test_without_a_stated_limit_the_position_table_is_the_limit(xlmr: Path) -> None:
    (xlmr / "sentence_bert_config.json").unlink()
    (xlmr / "tokenizer_config.json").unlink()
    assert read(xlmr).max_tokens == 64


def test_the_smallest_stated_limit_holds(bert: Path) -> None:
    edit(bert, "tokenizer_config.json", lambda c: c.update(model_max_length=17))
    assert read(bert).max_tokens == 17


def test_a_limit_beyond_the_position_table_is_cut_to_it(bert: Path) -> None:
    edit(bert, "sentence_bert_config.json", lambda c: c.update(max_seq_length=10**30))
    edit(bert, "tokenizer_config.json", lambda c: c.update(model_max_length=10**30))
    assert read(bert).max_tokens == 64


def test_the_settings_of_an_encoder_may_be_named_after_another_family(bert: Path) -> None:
    (bert / "sentence_bert_config.json").rename(bert / "sentence_xlm-roberta_config.json")
    assert read(bert).max_tokens == 48


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
def test_both_spellings_of_a_pooling_are_read(bert: Path, pooling: str) -> None:
    keys = {"mean": "mean_tokens", "cls": "cls_token", "max": "max_tokens"}
    old = {f"pooling_mode_{key}": name == pooling for name, key in keys.items()}
    edit(bert, POOLING, lambda c: c.update(old))
    assert read(bert).pooling == pooling
    edit(bert, POOLING, lambda c: c.update(pooling_mode=pooling))
    assert read(bert).pooling == pooling
    edit(bert, POOLING, lambda c: c.update(pooling_mode=[pooling]))
    assert read(bert).pooling == pooling


def test_a_model_with_a_last_norm_is_one_of_ours(xlmr: Path) -> None:
    modules = json.loads((xlmr / "modules.json").read_bytes())
    assert len(modules) == 2
    (xlmr / "modules.json").write_text(json.dumps([*modules, step("Normalize")]), encoding="utf-8")
    assert read(xlmr).pooling == "mean"


def test_a_model_as_todays_library_saves_it_is_one_of_ours(bert: Path) -> None:
    home = "sentence_transformers"
    steps = [
        {"path": "", "type": f"{home}.base.modules.transformer.Transformer"},
        {"path": "1_Pooling", "type": f"{home}.sentence_transformer.modules.pooling.Pooling"},
        {"path": "2_Normalize", "type": f"{home}.base.modules.normalize.Normalize"},
    ]
    output = {"method": "forward", "method_output_name": "last_hidden_state"}
    encoder = {"transformer_task": "feature-extraction", "modality_config": {"text": output}}
    for name, held in {
        "modules.json": steps,
        ENCODER: {**encoder, "module_output_name": "token_embeddings"},
        POOLING: {"embedding_dimension": 32, "pooling_mode": "cls", "include_prompt": True},
    }.items():
        (bert / name).write_text(json.dumps(held), encoding="utf-8")
    assert read(bert).pooling == "cls"


def test_an_adapter_to_another_model_is_refused(bert: Path) -> None:
    (bert / "adapter_config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(UnpackableError, match="an adapter to another model"):
        read(bert)


def step(kind: str) -> dict[str, str]:
    return {"path": "2", "type": f"sentence_transformers.models.{kind}"}


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("config.json", lambda c: c.update(model_type="deberta"), "architecture deberta is not"),
        ("config.json", lambda c: c.pop("model_type"), "architecture None is not"),
        ("config.json", lambda c: c.update(model_type=["bert"]), "is not one of BERT's"),
        ("config.json", lambda c: c.update(hidden_act="relu"), "its activation is relu"),
        ("config.json", lambda c: c.update(hidden_act="gelu_new"), "is gelu_new, not gelu"),
        ("config.json", lambda c: c.update(position_embedding_type="relative_key"), "relative"),
        ("config.json", lambda c: c.update(is_decoder=True), "a decoder"),
        ("config.json", lambda c: c.update(add_cross_attention=True), "a decoder"),
        ("config.json", lambda c: c.update(embedding_size=16), "factorised"),
        ("config.json", lambda c: c.update(num_attention_heads=5), "not a multiple of its heads"),
        ("config.json", lambda c: c.update(num_attention_heads=0), "a size below one"),
        ("config.json", lambda c: c.update(num_hidden_layers=0), "a size below one"),
        ("config.json", lambda c: c.update(max_position_embeddings=-1), "a size below one"),
        ("config.json", lambda c: c.pop("hidden_size"), "lacks or misspells 'hidden_size'"),
        ("config.json", lambda c: c.update(hidden_size="wide"), "lacks or misspells"),
        ("config.json", lambda c: c.update(intermediate_size=None), "lacks or misspells"),
        ("config.json", lambda c: c.update(layer_norm_eps={}), "lacks or misspells"),
        ("config.json", lambda c: c.update(num_hidden_layers=float("inf")), "lacks or misspells"),
        ("modules.json", lambda m: m.append(step("Dense")), "its steps are .*, Dense"),
        ("modules.json", lambda m: m.insert(1, step("LSTM")), "its steps are Transformer, LSTM"),
        ("modules.json", list.clear, "its steps are "),
        ("modules.json", lambda m: m.append("Normalize"), "not a list of steps"),
        ("modules.json", lambda m: m[0].update(path="0_Transformer"), "a separate folder"),
        ("modules.json", lambda m: m[1].update(path="elsewhere"), "config.json cannot be read"),
        (POOLING, lambda c: c.update(pooling_mode_cls_token=True), r"it pools by cls\+mean"),
        (POOLING, lambda c: c.update(pooling_mode="lasttoken"), "it pools by lasttoken"),
        (POOLING, lambda c: c.update(pooling_mode=["mean", "max"]), r"it pools by mean\+max"),
        (POOLING, lambda c: c.update(pooling_mode=[]), "it pools by nothing"),
        (POOLING, lambda c: c.update(pooling_mode={"a": 1}), "it pools by"),
        (POOLING, dict.clear, "it pools by nothing"),
        (ENCODER, lambda c: c.update(do_lower_case=True), "lowers the case"),
        (ENCODER, lambda c: c.update(transformer_task="fill-mask"), "another transformer_task"),
        (ENCODER, lambda c: c.update(module_output_name="x"), "another module_output_name"),
        (ENCODER, lambda c: c.update(modality_config={"image": {}}), "another modality_config"),
        (ENCODER, lambda c: c.update(tokenizer_args={"use_fast": 1}), "another tokenizer_args"),
        (ENCODER, lambda c: c.update(query_length=32), "another query_length"),
        (ENCODER, lambda c: c.update(max_seq_length=[]), None),
        (ENCODER, lambda c: c.update(model_args={}, unpad_inputs=True, max_seq_length=0), None),
        (ENCODER, lambda c: c.update(max_seq_length=[8]), "misspells"),
        (ENCODER, lambda c: c.update(max_seq_length=-3), "below one"),
        ("tokenizer_config.json", lambda c: c.update(truncation_side="left"), "on the left"),
        ("tokenizer_config.json", lambda c: c.update(model_max_length="x"), "misspells"),
    ],
)
def test_what_is_not_ours_is_refused_in_words(
    bert: Path, name: str, change: Edit, reason: str | None
) -> None:
    edit(bert, name, change)
    if reason is None:
        assert read(bert).max_tokens == 64
        return
    with pytest.raises(UnpackableError, match=reason):
        read(bert)


@pytest.mark.parametrize("pad", [None, "x"])
def test_positions_that_cannot_be_counted_are_refused(xlmr: Path, pad: object) -> None:
    edit(xlmr, "config.json", lambda c: c.update(pad_token_id=pad))
    with pytest.raises(UnpackableError, match="lacks or misspells"):
        read(xlmr)


@pytest.mark.parametrize("name", ["config.json", "modules.json", POOLING])
@pytest.mark.parametrize("data", [None, b"", b"{", b"\xff", b"[" * 100_000])
def test_a_file_that_is_missing_or_damaged_is_refused_by_name(
    bert: Path, name: str, data: bytes | None
) -> None:
    (bert / name).unlink()
    if data is not None:
        (bert / name).write_bytes(data)
    with pytest.raises(UnpackableError, match=r"^\w+\.json cannot be read$"):
        read(bert)


@pytest.mark.parametrize(
    "name", ["config.json", POOLING, "tokenizer_config.json", "sentence_bert_config.json"]
)
def test_a_file_that_holds_something_else_is_refused_by_name(bert: Path, name: str) -> None:
    (bert / name).write_text("[1]", encoding="utf-8")
    with pytest.raises(UnpackableError, match=r"^\w+\.json is not a table$"):
        read(bert)


def test_only_the_cpu_needs_the_graph(bert: Path) -> None:
    assert qualify(bert, device="cpu") == read(bert)
    (bert / GRAPH).unlink()
    assert qualify(bert, device="mps") == read(bert)
    with pytest.raises(UnpackableError, match=f"it has no {GRAPH}, which is made when"):
        qualify(bert, device="cpu")
