"""The names that the sandbox's Python has, as pydantic-monty 1.4.0 has them; a test asks it."""

from __future__ import annotations

__all__ = ["ALWAYS_THERE", "BUILTINS", "GIVEN_MODULES", "LACKING", "MODULES"]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


BUILTINS = _words("""
    ArithmeticError AssertionError AttributeError BaseException Ellipsis Exception FileExistsError
    FileNotFoundError ImportError IndexError IsADirectoryError KeyError KeyboardInterrupt
    LookupError MemoryError ModuleNotFoundError NameError NotADirectoryError NotImplemented
    NotImplementedError OSError OverflowError PermissionError RecursionError RuntimeError
    StopIteration SyntaxError SystemExit TimeoutError TypeError UnboundLocalError
    UnicodeDecodeError UnicodeEncodeError ValueError ZeroDivisionError abs all any bin bool bytes
    chr complex dict divmod enumerate eval exec filter float format frozenset getattr hasattr hash
    hex id int isinstance iter len list locals map max min next object oct open ord pow print
    property range repr reversed round set setattr slice sorted str sum tuple type zip
""")
"""The built-in names that the sandbox has."""

LACKING = _words("""
    aiter anext ascii breakpoint bytearray callable classmethod compile delattr dir exit globals
    help issubclass memoryview quit staticmethod super vars
""")
"""Built-in names that source may look for and the sandbox has not. `input` is none of them: there
is nobody to ask, and it is a good name for a field."""

MODULES = _words("""
    __future__ asyncio base64 binascii bisect collections copy csv dataclasses datetime decimal
    functools hashlib itertools json math os pathlib posixpath random re sys time tomllib typing
    unicodedata
""")
"""What can be imported; `os` and `pathlib` are there without any files behind them."""

GIVEN_MODULES = frozenset({"asyncio", "json", "math", "re"})
"""What is there without being imported."""

ALWAYS_THERE = BUILTINS | GIVEN_MODULES | {"self", "dspy", "Prediction", "__name__", "__file__"}
"""What source may read without binding it."""
