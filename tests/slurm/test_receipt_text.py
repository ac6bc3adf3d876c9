"""Receipts in AdminComment: through sacctmgr's backticks and back, and never over another tool's text."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_power.slurm.receipt_text import read_stored, receipt_in, with_receipt, without_quotes

RECEIPT: dict[str, Any] = {"v": 1, "energy_joules": 5}


def test_what_else_of_ours_is_there_stays() -> None:
    text = with_receipt('{"power":{"flex":"flex2","watts":3000}}', RECEIPT)
    assert text is not None
    assert json.loads(text) == {"power": {"flex": "flex2", "watts": 3000, "receipt": RECEIPT}}
    assert with_receipt(text, {"v": 1}) == '{"power":{"flex":"flex2","watts":3000,"receipt":{"v":1}}}'


@pytest.mark.parametrize("text", ["", "(null)"])
def test_no_comment_at_all(text: str) -> None:
    assert receipt_in(text) is None
    assert with_receipt(text, RECEIPT) == '{"power":{"receipt":{"v":1,"energy_joules":5}}}'


@pytest.mark.parametrize("text", ["a note", '{"power":1}', "[1]", '{"power":{},"theirs":"x"}', "`code`"])
def test_another_tool_s_text_is_left_alone(text: str) -> None:
    assert with_receipt(text, RECEIPT) is None


@given(st.text(max_size=60))
def test_any_reason_in_it_comes_back_as_it_was(reason: str) -> None:
    text = with_receipt(json.dumps({"power": {"hold": {"reason": reason}}}), RECEIPT)
    assert text is not None
    stored = without_quotes(text)
    assert '"' not in stored
    assert "'" not in stored
    assert read_stored(stored) == {"power": {"hold": {"reason": reason}, "receipt": RECEIPT}}
    again = with_receipt(stored, {"v": 1})
    assert again is not None
    assert read_stored(without_quotes(again)) == {"power": {"hold": {"reason": reason}, "receipt": {"v": 1}}}
