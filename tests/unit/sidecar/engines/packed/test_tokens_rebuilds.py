from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors

from sidecar.engines.packed.architecture import UnpackableError, read
from sidecar.engines.packed.tokens import TOKENIZER, load, refuse_rebuilt
from tests.support.twins import ODD, WORDS, edit

pytest.importorskip("torch", reason="torch is not installed; `python3 build test` has it")

from sidecar.engines import reference

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Change = Callable[[Tokenizer], object]

pytestmark = pytest.mark.torch
CONFIG = "tokenizer_config.json"
TEXTS = (*WORDS, *ODD, "  two  spaces  and one behind ")


def differs(folder: Path) -> bool:
    """Return whether the packed engine would read some text unlike the reference engine."""
    theirs = reference.load(folder, device="cpu").tokenize(TEXTS)
    edit(folder, CONFIG, lambda c: c.update(tokenizer_class="PreTrainedTokenizerFast"))
    return load(folder, max_tokens=read(folder).max_tokens).tokenize(TEXTS) != theirs


def change_file(folder: Path, change: Change) -> None:
    made = Tokenizer.from_file(str(folder / TOKENIZER))
    change(made)
    made.save(str(folder / TOKENIZER))


def sequence(*steps: Any) -> Any:
    return normalizers.Sequence(list(steps))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"do_lower_case": False}, "normaliser"),
        ({"strip_accents": False}, "normaliser"),
        ({"tokenize_chinese_chars": False}, "normaliser"),
        ({"cls_token": "[SEP]"}, "special tokens"),
    ],
)
def test_settings_that_transformers_heeds_against_the_file_are_refused(
    bert: Path, change: dict[str, Any], what: str
) -> None:
    edit(bert, CONFIG, lambda c: c.update(change))
    with pytest.raises(UnpackableError, match=f"the class BertTokenizer differ in {what}"):
        load(bert, max_tokens=48)
    assert differs(bert)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda t: setattr(t, "normalizer", normalizers.BertNormalizer(False)), "normaliser"),
        (lambda t: setattr(t, "normalizer", sequence()), "normaliser"),
        (lambda t: setattr(t, "normalizer", None), "normaliser"),
        (lambda t: setattr(t, "pre_tokenizer", pre_tokenizers.WhitespaceSplit()), "pre-tokenizer"),
        (lambda t: setattr(t, "pre_tokenizer", None), "pre-tokenizer"),
        (
            lambda t: setattr(
                t,
                "post_processor",
                processors.TemplateProcessing(single="[SEP] $A", special_tokens=[("[SEP]", 3)]),
            ),
            "special tokens",
        ),
    ],
)
def test_a_file_that_the_class_of_bert_rebuilds_differently_is_refused(
    bert: Path, change: Change, what: str
) -> None:
    change_file(bert, change)
    with pytest.raises(UnpackableError, match=f"the class BertTokenizer differ in {what}"):
        load(bert, max_tokens=48)
    assert differs(bert)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda t: setattr(t, "normalizer", sequence(normalizers.Lowercase())), "normaliser"),
        (
            lambda t: setattr(t, "normalizer", sequence(t.normalizer, normalizers.Lowercase())),
            "normaliser",
        ),
        (lambda t: setattr(t, "pre_tokenizer", pre_tokenizers.Metaspace()), "pre-tokenizer"),
    ],
)
def test_file_rebuilt_differently_by_xlm_roberta_is_refused(
    xlmr: Path, change: Change, what: str
) -> None:
    change_file(xlmr, change)
    with pytest.raises(UnpackableError, match=f"the class XLMRobertaTokenizer differ in {what}"):
        load(xlmr, max_tokens=48)
    assert differs(xlmr)


@pytest.mark.parametrize("name", ["bert", "xlmr"])
@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.update(tokenizer_class="PreTrainedTokenizerFast", do_lower_case=False),
        lambda c: c.update(tokenizer_class=f"{c['tokenizer_class']}Fast"),
        lambda c: c.pop("tokenizer_class"),
        lambda c: c.pop("do_lower_case", None),
        lambda c: c.update(max_length=9, stride=2, padding_side="left"),
        lambda c: c.update(cls_token={"__type": "AddedToken", "content": c["cls_token"]}),
        dict.clear,
    ],
)
def test_settings_that_change_nothing_are_let_through(
    request: pytest.FixtureRequest, name: str, change: Callable[[dict[str, Any]], object]
) -> None:
    folder: Path = request.getfixturevalue(name)
    edit(folder, CONFIG, change)
    theirs = reference.load(folder, device="cpu")
    ours = load(folder, max_tokens=read(folder).max_tokens)
    assert ours.tokenize(TEXTS) == theirs.tokenize(TEXTS)


def test_without_a_file_of_settings_the_defaults_of_the_class_hold(bert: Path) -> None:
    (bert / CONFIG).unlink()
    load(bert, max_tokens=48)
    change_file(bert, lambda t: setattr(t, "normalizer", None))
    with pytest.raises(UnpackableError, match="normaliser"):
        load(bert, max_tokens=48)


def test_a_class_that_nobody_knows_here_is_refused(bert: Path) -> None:
    edit(bert, CONFIG, lambda c: c.update(tokenizer_class="DebertaV2Tokenizer"))
    with pytest.raises(UnpackableError, match="its tokenizer is a DebertaV2Tokenizer"):
        load(bert, max_tokens=48)


def test_a_setting_of_the_wrong_kind_is_refused(bert: Path) -> None:
    edit(bert, CONFIG, lambda c: c.update(do_lower_case="yes"))
    with pytest.raises(UnpackableError, match="a setting of the wrong kind"):
        load(bert, max_tokens=48)


def test_roberta_tokenizer_qualifies_if_built_as_its_class() -> None:
    made = Tokenizer(models.BPE({"<s>": 0, "</s>": 1, "a": 2}, []))
    made.add_special_tokens([AddedToken("<s>"), AddedToken("</s>")])
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    refuse_rebuilt(made, [(0,), (1,)], {"tokenizer_class": "RobertaTokenizer"}, model="BPE")
    refuse_rebuilt(made, [(0,), (1,)], {}, model="BPE")
    with pytest.raises(UnpackableError, match="the class RobertaTokenizer differ in pre-tokenizer"):
        refuse_rebuilt(made, [(0,), (1,)], {"add_prefix_space": True}, model="BPE")
