"""What the client is given, checked before anything is sent: no server runs here."""

import datetime
import decimal
import re
import socket
import warnings

import numpy as np
import pandas as pd
import pytest
import torch

from core.errors import UserError
from ensemble import arguments, client
from ensemble.client import Access, NoServerError

LARGEST = 2**63 - 1

RIGHT_IDS = {
    "a list": ([1, 50], [1, 50]),
    "a tuple": ((1, 50), [1, 50]),
    "a range": (range(3), [0, 1, 2]),
    "nothing": ([], []),
    "an empty array of floats": (np.array([]), []),
    "int32": (np.array([1, 50], np.int32), [1, 50]),
    "uint8": (np.array([1, 50], np.uint8), [1, 50]),
    "uint64 that fits": (np.array([LARGEST], np.uint64), [LARGEST]),
    "the limits": ([-(2**63), LARGEST], [-(2**63), LARGEST]),
    "NumPy's integers in a list": ([np.int16(1), np.int64(50), np.uint64(7)], [1, 50, 7]),
    "whole floats": ([1.0, -1.0, 2.0**53 - 1], [1, -1, 2**53 - 1]),
    "an array of whole floats": (np.array([1.0, 50.0], np.float32), [1, 50]),
    "a Series": (pd.Series([1, 50], index=[7, 8]), [1, 50]),
    "a Series that lost its missing values": (pd.Series([1, None, 50]).dropna(), [1, 50]),
    "pandas' own integers": (pd.Series([1, 50], dtype="Int64"), [1, 50]),
    "an Index": (pd.Index([1, 50]), [1, 50]),
    "a tensor": (torch.tensor([1, 50], dtype=torch.int32), [1, 50]),
    "tensors in a list": ([torch.tensor(1), torch.tensor(50)], [1, 50]),
    "objects": (np.array([1, 50], object), [1, 50]),
    "every other one": (np.arange(6)[::2], [0, 2, 4]),
    "the other byte order": (np.array([1, 50], ">i4"), [1, 50]),
}


@pytest.mark.parametrize("what", RIGHT_IDS)
def test_ids_of_every_right_kind(what):
    values, expected = RIGHT_IDS[what]
    found = arguments.ids("movie_id", values)
    assert found.dtype == np.int64
    assert found.dtype.isnative
    assert found.tolist() == expected


@pytest.mark.parametrize(
    "values",
    [
        ["b", "é"],
        ("b", "é"),
        np.array(["b", "é"]),
        np.array(["b", "é"], object),
        pd.Series(["b", "é"], index=[7, 8]),
        pd.Index(["b", "é"]),
    ],
)
def test_ids_that_are_text_are_sent_as_text(values):
    found = arguments.ids("movie_id", values)
    assert (found.dtype, found.tolist()) == (object, [b"b", "é".encode()])
    assert arguments.one_id("user_id", "é").tolist() == ["é".encode()]
    assert arguments.one_id("user_id", 5).tolist() == [5]


# Each with what the message must say.
WRONG_IDS = {
    "a fraction": ([1.9, 50.7], "movie_id, number 1, is 1.9"),
    "a fraction in an array": (np.array([1, 50.7]), "movie_id, number 2, is 50.7"),
    "NaN": ([1, float("nan")], "number 2, is nan"),
    "NaN in a Series": (pd.Series([1, None]), "number 2, is nan"),
    "infinity": (np.array([np.inf]), "is inf"),
    "NA": (pd.Series([1, None], dtype="Int64"), "<NA>"),
    "None": (None, "movie_id is None"),
    "None among others": ([1, None], "number 2, is None"),
    "a boolean": ([True], "is True"),
    "a boolean among numbers": ([1, 2, True], "number 3, is True"),
    "booleans in an array": (np.array([True, False]), "is True"),
    "booleans in a tensor": (torch.tensor([True]), "is True"),
    "a string": ("a", "'a'"),
    "digits": ("12", "'12'"),
    "digits among numbers": ([1, "2"], "number 2, is '2'"),
    "a number among texts": (["a", 5], "number 2, is 5; it must be a string"),
    "what cannot be sent": (["a", "\ud800"], "number 2, is '\\ud800', which is not text"),
    "bytes": (b"12", "b'12'"),
    "a number alone": (1, "a list or an array"),
    "a list in a list": ([[1, 2]], "number 1, is [1, 2]"),
    "lists of different lengths": ([[1], [2, 3]], "number 1, is [1]"),
    "two dimensions": (np.ones((2, 2), int), "it has 2"),
    "a tensor of two dimensions": (torch.ones((1, 2)), "it has 2"),
    "beyond 64 bits": ([2**63], "number 1, is 9223372036854775808, which does not fit in 64 bits"),
    "far beyond 64 bits": ([1, -(10**400)], "does not fit in 64 bits"),
    "unsigned beyond 63 bits": (np.array([1, 2**63], np.uint64), "number 2, is 9223372036854775808"),
    "a large and a negative one": ([2**63, -1], "9223372036854775808"),
    "a float that is not exact": ([2.0**53], "is not exact"),
    "floats that are not exact": (np.array([1e300]), "is not exact"),
    "a set": ({1, 2}, "a list or an array"),
    "a generator": ((one for one in (1, 2)), "a list or an array"),
    "a dictionary": ({"a": 1}, "a list or an array"),
    "complex": ([1 + 2j], "whole number"),
    "a decimal": ([decimal.Decimal(1)], "whole number"),
    "dates": (np.array(["2020-01-01"], "M8[s]"), "whole number"),
    "a date": ([datetime.date(2020, 1, 1)], "whole number"),
    "a table": (pd.DataFrame({"a": [1]}), "it has 2"),
    "masked values": (np.ma.array([1, 2], mask=[False, True]), "masked"),
    "a tensor with gradients": (torch.tensor([1.0], requires_grad=True), "cannot be read"),
    "a sparse tensor": (torch.ones(2).to_sparse(), "cannot be read"),
}


def one_line(error: pytest.ExceptionInfo) -> str:
    assert type(error.value) is UserError
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400
    return str(error.value)


@pytest.mark.parametrize("what", WRONG_IDS)
def test_what_is_not_ids_is_refused_before_anything_is_sent(what):
    values, words = WRONG_IDS[what]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserError) as refused:
            client.score("127.0.0.1:1", [1, 1], values)
        assert words in one_line(refused)
        if values is None or not isinstance(values, (int, set)):
            with pytest.raises(UserError) as refused:
                client.recommend("127.0.0.1:1", 1, history=values)
            assert "history" in one_line(refused)


@pytest.mark.parametrize(
    "value",
    [
        1.5,
        float("nan"),
        np.float32("inf"),
        True,
        np.bool_(True),
        None,
        "1",
        b"1",
        "a",
        [1],
        np.array([1]),
        2**63,
        np.uint64(2**63),
        1e300,
        1 + 0j,
        torch.tensor(True),
        torch.tensor(1.5),
        torch.tensor([1]),
        pd.NA,
        pd.NaT,
        object,
    ],
)
def test_what_is_not_one_number_is_refused_before_anything_is_sent(value):
    for name, ask in {
        "user_id": lambda: client.recommend("127.0.0.1:1", value),
        "movie_id": lambda: client.similar("127.0.0.1:1", value),
        "k": lambda: client.similar("127.0.0.1:1", 1, value),
    }.items():
        if (name == "user_id" and value is None) or (name != "k" and isinstance(value, str)):
            continue  # someone without an id, or an id that is text
        with pytest.raises(UserError) as refused:
            ask()
        assert one_line(refused).startswith(f"{name} is ")


@pytest.mark.parametrize("value", [7, np.int32(7), np.uint64(7), 7.0, np.float32(7), torch.tensor(7), np.array(7)])
def test_one_number_of_every_right_kind(value):
    found = arguments.whole("user_id", value)
    assert found == 7
    assert type(found) is int


def test_pairs_are_pairs():
    with pytest.raises(UserError) as refused:
        client.score("127.0.0.1:1", [1, 2, 3], [1])
    assert "[3]" in one_line(refused)
    assert "[1]" in one_line(refused)


@pytest.mark.parametrize("value", [None, 1, True, b"ncf", ["ncf"], "\ud800"])
def test_what_is_not_a_name_is_refused_before_anything_is_sent(value):
    for name, ask in {
        "model": lambda: client.score("127.0.0.1:1", [1], [1], value),
        "strategy": lambda: client.recommend("127.0.0.1:1", 1, strategy=value),
    }.items():
        with pytest.raises(UserError) as refused:
            ask()
        assert one_line(refused).startswith(f"{name} is ")


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), 1e300, True, None, "30", [30], 1j])
def test_what_is_not_a_time_is_refused(value):
    with pytest.raises(UserError) as refused:
        client.infer("127.0.0.1:1", "score", [], timeout=value)
    assert one_line(refused).startswith("the timeout is ")


@pytest.mark.parametrize(
    "value",
    [
        None,
        8001,
        b"127.0.0.1:8001",
        "",
        ":8001",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:0",
        "127.0.0.1:65536",
        "127.0.0.1:http",
        "127.0.0.1:٣",
        "http://127.0.0.1:8001",
        "grpc://127.0.0.1:8001",
        "a b:1",
        "::1:8001",
        "a\n:1",
        "x\x1b:1",
    ],
)
def test_what_is_not_an_address_is_refused(value):
    for ask in (lambda: client.score(value, [1], [1]), lambda: client.recommend(value, 1)):
        with pytest.raises(UserError) as refused:
            ask()
        assert one_line(refused).startswith("the URL is ")
        assert re.search(r"host:port|in brackets", one_line(refused))


@pytest.mark.parametrize(
    "access",
    [None, "secret", Access(None), Access(7), Access("", 7), Access("", "none.pem"), Access("", certificate="a")],  # type: ignore[arg-type]
)
def test_what_is_not_access_is_refused(access):
    with pytest.raises(UserError) as refused:
        client.score("127.0.0.1:1", [1], [1], access=access)
    one_line(refused)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "dns:///localhost"])
def test_an_address_without_a_server_says_so(host):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(NoServerError, match="no Triton answers"):
        client.score(f"{host}:{port}", [1], [1])
