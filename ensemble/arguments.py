"""Checks of what the client is given, before anything is sent: a wrong argument is refused in one sentence."""

import numbers
import reprlib
from typing import Any

import numpy as np

from core.errors import UserError
from ensemble.triton_models.limits import k_out_of_range

INT32, INT64 = np.iinfo(np.int32), np.iinfo(np.int64)
EXACT = 1 << 53  # floats from here on may stand for several integers
LONGEST_WAIT = 1e6  # seconds; gRPC's deadlines overflow far above it
NAMED_TARGETS = ("unix:", "unix-abstract:", "dns:", "ipv4:", "ipv6:")  # what else gRPC takes for an address

_repr = reprlib.Repr()
_repr.maxother = _repr.maxstring = _repr.maxlong = 60


def _found(value: Any) -> str:
    """What was given, cut and on one line."""
    return " ".join(_repr.repr(value).split())


def ids(name: str, values: Any) -> np.ndarray:
    """Ids of users or movies: a list, tuple, range, NumPy array, pandas Series, or tensor, with one dimension.

    Floats that are whole are taken, below 2^53, where each is one integer only: a pandas column that once had a missing
    value holds such ids. Text is taken where all ids are text, as some tables' ids are. Booleans are not ids.

    Returns:
        int64 [n], or object [n] of bytes where the ids are text.

    Raises:
        UserError: it is none of these, or a value is not a whole number that fits in 64 bits; the message says which.
    """
    if _is_text(values):
        return texts(name, list(values))
    if isinstance(values, (list, tuple, range)):
        if set(map(type, values)) <= {int}:
            try:
                return np.array(values, np.int64).reshape(-1)
            except OverflowError:
                pass  # found below
        places = (f"{name}, number {place}," for place in range(1, len(values) + 1))
        return np.array([whole(place, value) for place, value in zip(places, values)], np.int64)
    array = _array(name, values)
    if array.ndim != 1:
        demand = f"it must be a list or an array of one dimension; it has {array.ndim}"
        raise UserError(f"{name} is {_found(values)}; {demand if array.ndim else 'it must be a list or an array'}")
    if array.dtype.kind == "i":
        return array.astype(np.int64)
    if array.dtype.kind == "u" and (not len(array) or int(array.max()) <= INT64.max):
        return array.astype(np.int64)
    if array.dtype.kind == "f" and bool(np.all((np.abs(array) < EXACT) & (array == np.trunc(array)))):
        return array.astype(np.int64)
    return ids(name, array.tolist() if array.dtype.kind in "uf" else list(array))


def _is_text(values: Any) -> bool:
    """Whether ids begin with a text."""
    listed = isinstance(values, (list, tuple)) or getattr(getattr(values, "dtype", None), "kind", "") in ("U", "O")
    return listed and len(values) > 0 and isinstance(next(iter(values)), str)


def texts(name: str, values: list[Any]) -> np.ndarray:
    """Ids that are text, object [n] of bytes.

    Raises:
        UserError: one of them is not text, or cannot be sent.
    """
    found = np.empty(len(values), object)
    for place, value in enumerate(values):
        found[place] = choice(f"{name}, number {place + 1},", value)
    return found


def one_id(name: str, value: Any) -> np.ndarray:
    """One id, int64 [1] or object [1] of bytes.

    Raises:
        UserError: it is neither text nor a whole number that fits in 64 bits.
    """
    return texts(name, [value]) if isinstance(value, str) else np.array([whole(name, value)], np.int64)


def _array(name: str, values: Any) -> np.ndarray:
    """Anything that NumPy takes for an array; a set, a generator or a string has no dimension then."""
    try:
        if np.ma.is_masked(values):
            raise UserError(f"{name} has masked values; leave them out")
        return np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:  # a tensor on a GPU, or one with gradients
        reason = " ".join(str(error).split())[:120]
        raise UserError(f"{name} is {_found(values)}; it cannot be read as an array ({reason})") from None


def whole(name: str, value: Any) -> int:
    """One whole number that fits in 64 bits: a Python or NumPy integer, a tensor of one, or a whole float.

    Raises:
        UserError: it is anything else.
    """
    found: Any = value
    if not isinstance(value, (str, bytes, numbers.Number, np.generic)) and getattr(value, "shape", None) == ():
        found = _array(name, value)[()]  # a tensor or array without a dimension
    if isinstance(found, (bool, np.bool_)) or not isinstance(found, (numbers.Integral, float, np.floating)):
        raise UserError(f"{name} is {_found(value)}; it must be a whole number")
    if not isinstance(found, numbers.Integral):
        if not float(found).is_integer():  # nor are NaN and infinity
            raise UserError(f"{name} is {_found(value)}; it must be a whole number")
        if abs(float(found)) >= EXACT:
            raise UserError(f"{name} is {_found(value)}; a float of that size is not exact: give an integer")
    number = int(found)
    if not INT64.min <= number <= INT64.max:
        raise UserError(f"{name} is {_found(value)}, which does not fit in 64 bits")
    return number


def pairs(user_ids: Any, movie_ids: Any) -> tuple[np.ndarray, np.ndarray]:
    """The users and movies of (user, movie) pairs, [n] each, as `ids` gives them.

    Raises:
        UserError: they are not ids, or not of the same shape.
    """
    users, movies = ids("user_id", user_ids), ids("movie_id", movie_ids)
    if users.shape != movies.shape:
        raise UserError(f"user_id has shape [{len(users)}] and movie_id [{len(movies)}]; give a movie for each user")
    return users, movies


def number_of_movies(k: Any) -> int:
    """`k`; whether there can be so many is for the server to say.

    Raises:
        UserError: it is not a whole number, or no server takes it.
    """
    number = whole("k", k)
    if not INT32.min <= number <= INT32.max:
        raise UserError(k_out_of_range(number))
    return number


def choice(name: str, value: Any) -> bytes:
    """A name of the server's, such as a model's, as it is sent; empty for the server's default.

    Raises:
        UserError: it is not a string that can be sent.
    """
    if not isinstance(value, str):
        raise UserError(f"{name} is {_found(value)}; it must be a string")
    try:
        return value.encode()
    except UnicodeEncodeError:
        raise UserError(f"{name} is {_found(value)}, which is not text") from None


def address(url: Any) -> str:
    """`host:port`, or an address in one of gRPC's other forms.

    Raises:
        UserError: it is neither.
    """
    demand = "give the host:port of Triton's gRPC, such as 127.0.0.1:8001"
    if not isinstance(url, str):
        raise UserError(f"the URL is {_found(url)}; {demand}")
    if "://" in url and not url.startswith(NAMED_TARGETS):
        raise UserError(f"the URL is {url!r}; leave out {url.partition('://')[0]}://, and {demand}")
    host, _, port = url.rpartition(":")
    right_port = port.isascii() and port.isdigit() and 0 < int(port[:6]) < 1 << 16
    if (not url.startswith(NAMED_TARGETS) and not (host and right_port)) or not url.isprintable() or " " in url:
        raise UserError(f"the URL is {url!r}; {demand}")
    if ":" in host and not url.startswith((*NAMED_TARGETS, "[")):
        raise UserError(f"the URL is {url!r}; put an IPv6 address in brackets, as in [::1]:8001")
    return url


def seconds(value: Any, name: str = "timeout", *, may_be_zero: bool = False) -> float:
    """How long to wait.

    Args:
        may_be_zero: whether 0 is a number of seconds, too.

    Raises:
        UserError: it is not a number of seconds above 0.
    """
    number = not isinstance(value, (bool, np.bool_)) and isinstance(value, numbers.Real)
    if not number or not (0 < float(value) <= LONGEST_WAIT or (may_be_zero and value == 0)):
        least = "0" if may_be_zero else "above 0"
        raise UserError(f"the {name} is {_found(value)}; it must be from {least} to {LONGEST_WAIT:,.0f} seconds")
    return float(value)
