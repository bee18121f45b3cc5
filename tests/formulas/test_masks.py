"""Masked moments and the last real token."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from guerdon.formulas.masks import (
    at_least_float32,
    last_real_token,
    masked_mean,
    masked_var,
)

laws = settings(derandomize=True, deadline=None, max_examples=40)
masked_values = st.lists(st.tuples(st.floats(-100.0, 100.0), st.booleans()), min_size=1, max_size=12)


@pytest.mark.parametrize("dtype", [torch.bool, torch.long, torch.int32])
def test_the_last_real_token_is_found_on_either_side_of_the_padding(dtype: torch.dtype) -> None:
    mask = torch.tensor([[1, 1, 0, 0], [0, 0, 1, 1], [1, 1, 1, 1], [1, 0, 0, 0], [0, 1, 1, 0]]).to(dtype)
    assert last_real_token(mask).tolist() == [1, 3, 3, 0, 2]


def test_an_empty_row_is_refused_by_number() -> None:
    with pytest.raises(ValueError, match=r"must have a real token, got none in rows \[1\]\. Drop"):
        last_real_token(torch.tensor([[1, 0], [0, 0]]))


@laws
@given(masked_values)
def test_masked_moments_are_the_moments_of_the_real_entries(rows: list[tuple[float, bool]]) -> None:
    values = torch.tensor([value if kept else math.nan for value, kept in rows], dtype=torch.float64)
    mask = torch.tensor([kept for _, kept in rows])
    kept = values[mask]
    mean, var = (kept.mean(), kept.var(correction=0)) if len(kept) else (torch.zeros(()), torch.zeros(()))
    assert torch.allclose(masked_mean(values, mask), mean.double())
    assert torch.allclose(masked_var(values, mask), var.double())


def test_a_mean_along_an_axis_is_zero_where_all_is_masked() -> None:
    values, mask = torch.tensor([[1.0, 3.0], [5.0, 9.0]]), torch.tensor([[True, True], [False, False]])
    assert masked_mean(values, mask, dim=1).tolist() == [2.0, 0.0]
    assert masked_mean(values, mask, dim=0).tolist() == [1.0, 3.0]


def test_a_large_mean_does_not_cancel_the_variance() -> None:
    values = torch.tensor([10_000.0, 10_001.0], dtype=torch.float32)
    assert masked_var(values, torch.tensor([True, True])).item() == 0.25


def test_masked_entries_get_no_gradient_and_the_rest_match_finite_differences() -> None:
    values = torch.tensor([1.0, math.nan, -2.0], dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([True, False, True])
    assert torch.autograd.grad(masked_var(values, mask), values)[0].tolist() == [1.5, 0.0, -1.5]
    clean = torch.tensor([1.0, 5.0, -2.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: masked_var(v, mask), [clean])
    assert torch.autograd.gradcheck(lambda v: masked_mean(v, mask), [clean])


@pytest.mark.parametrize(
    ("dtype", "becomes"),
    [(torch.bfloat16, torch.float32), (torch.float16, torch.float32), (torch.float64, torch.float64)],
)
def test_half_precision_is_widened_and_double_kept(dtype: torch.dtype, becomes: torch.dtype) -> None:
    assert at_least_float32(torch.ones(2, dtype=dtype)).dtype == becomes
    assert masked_mean(torch.ones(2, dtype=dtype), torch.tensor([True, True])).dtype == becomes
