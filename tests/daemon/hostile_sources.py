"""Source that is written to hurt: each by name, with what it may be answered with.

`LIMIT` is a bound that was passed, `ERROR` an exception of the source's own, or a refusal before it
ran; `HARMLESS` that nothing happened. The canary is a secret that no source must bring out.
"""

from __future__ import annotations

__all__ = ["CANARY", "SOURCES"]

CANARY = "canary-7f3a"
"""In the daemon's environment, and in a file beside it."""

LIMIT, ERROR, EITHER = {"sandbox_limit"}, {"program_error"}, {"sandbox_limit", "program_error"}
HARMLESS: set[str] = set()

SOURCES: dict[str, tuple[str, set[str]]] = {
    # Time
    "loop": ("while True:\n    pass", LIMIT),
    "loop that swallows": (
        (
            "while True:\n    try:\n        while True:\n            pass\n"
            "    except BaseException:\n        pass"
        ),
        LIMIT,
    ),
    "loop in finally": ("try:\n    1 / 0\nfinally:\n    while True:\n        pass", LIMIT),
    "loop in a sort key": ("sorted(range(10**9), key=lambda n: -n)", EITHER),
    "sum of a huge range": ("x = sum(range(10**12))", LIMIT),
    "huge power": ("x = 9 ** 9 ** 9", EITHER),
    "huge shift": ("x = 1 << (10 ** 12)", EITHER),
    "huge integer as text": ("x = str(7 ** 3_000_000)", EITHER),
    "factorial": ("n = 1\nfor k in range(1, 10**7):\n    n = n * k", LIMIT),
    "exponential comparison": (
        "a, b = [], []\nfor _ in range(40):\n    a, b = [a, a], [b, b]\nx = a == b",
        LIMIT,
    ),
    "regex that backtracks": ("import re\nx = re.match('(a+)+$', 'a' * 40 + 'b')", HARMLESS),
    "regex with back references": (
        "import re\nx = re.match('(a*)*\\\\1b', 'a' * 5000)",
        EITHER | {""},
    ),
    "sleep": ("import time\ntime.sleep(1000)", HARMLESS),
    "asynchronous sleep": ("await asyncio.sleep(1000)", EITHER | {""}),
    "json that nests": ("x = json.loads('[' * 100_000 + ']' * 100_000)", EITHER),
    "many tasks": (
        (
            "async def f(n):\n    while True:\n        pass\n"
            "await asyncio.gather(*[f(n) for n in range(1000)])"
        ),
        EITHER,
    ),
    # Memory
    "list that grows": ("x = []\nwhile True:\n    x.append(1)", LIMIT),
    "text that doubles": ("x = 'x'\nwhile True:\n    x = x + x", LIMIT),
    "text times ten billion": ("x = 'x' * 10**10", LIMIT),
    "map that grows": ("x = {}\nfor n in range(10**9):\n    x[n] = str(n)", LIMIT),
    "memory error swallowed": (
        (
            "x = []\nwhile True:\n    try:\n        x.append('y' * 10**6)\n"
            "    except BaseException:\n        pass"
        ),
        LIMIT,
    ),
    "format width": ("x = '{:>9999999999}'.format(1)", EITHER),
    "closure chain": ("f = lambda: 0\nwhile True:\n    f = (lambda g: lambda: g)(f)", LIMIT),
    "bytes": ("x = bytes(10**10)", EITHER),
    "list product": ("x = [0] * 10**10", LIMIT),
    # Recursion
    "recursion": ("def f():\n    return f()\nf()", LIMIT),
    "recursion that swallows": (
        "def f():\n    try:\n        f()\n    except RecursionError:\n        f()\nf()",
        LIMIT,
    ),
    "recursion through map": ("def f(x):\n    return list(map(f, [x]))\nf(1)", EITHER),
    "recursion through repr": (
        "x = []\nfor _ in range(100_000):\n    x = [x]\ny = repr(x)",
        EITHER | {""},
    ),
    "eval within eval": (
        "s = 'eval(s)'\neval(s)",
        EITHER,
    ),
    # Ways out
    "import os": ("import os\nx = os.system('touch {path}')", ERROR),
    "import subprocess": ("exec('import subprocess')", ERROR),
    "import socket": ("exec('import socket')", ERROR),
    "import ctypes": ("exec('import ctypes')", ERROR),
    "import builtins": ("exec('import builtins')", ERROR),
    "dunder import": ("x = eval(\"__import__('os').system('touch {path}')\")", ERROR),
    "subclasses": ("x = ().__class__.__base__.__subclasses__()", ERROR),
    "getattr subclasses": ("x = getattr(getattr((), '__cl' + 'ass__'), '__ba' + 'se__')", ERROR),
    "frames": (
        (
            "try:\n    1 / 0\nexcept ZeroDivisionError as error:\n"
            "    x = error.__traceback__.tb_frame.f_back.f_globals"
        ),
        ERROR,
    ),
    "coroutine frames": ("x = self.qa.acall(question='x').cr_frame.f_builtins", ERROR),
    "function globals": ("def f():\n    pass\nx = f.__globals__", ERROR),
    "function code": ("def f():\n    pass\nx = f.__code__.co_consts", ERROR),
    "format attributes": ("x = '{0.__class__.__mro__}'.format(1)", ERROR),
    "format items": ("x = '{0[__class__]}'.format(self)", ERROR),
    "unicode dunder": ("x = ().__\uff43lass__.__base__", ERROR),
    "self's class": ("x = self.qa.__class__.__init__.__globals__", ERROR),
    "type call": ("T = type('T', (object,), {'f': lambda s: s})\nx = T().f().__dict__", ERROR),
    "globals of the session": ("x = eval('globals()')", ERROR),
    "call of ours": ("x = _call('qa', [], {'question': 'x'}, 1)", ERROR),
    "call of ours with a name of nobody": ("x = _call('forward', [], {})", ERROR),
    "call of ours with no data": ("x = _call(self, self, self)", EITHER),
    "module with no data": ("x = self.qa(question=self)", ERROR),
    "module with dunder input": ("x = self.qa(**{'__class__': 1})", ERROR),
    "module with its demos": ("x = self.qa(**{'question': 'x', 'demos': []})", ERROR),
    "module with an lm": ("x = self.qa(**{'question': 'x', 'lm': 'y'})", ERROR),
    # Files, environment
    "open a file": ("x = open('/etc/passwd').read()", ERROR),
    "open the canary": ("x = open('{path}.secret').read()", ERROR),
    "write a file": ("with open('{path}', 'w') as f:\n    f.write('x')", ERROR),
    "pathlib": ("from pathlib import Path\nx = Path('{path}.secret').read_text()", ERROR),
    "list a folder": ("import os\nx = os.listdir('/')", ERROR),
    "environment": ("import os\nx = os.environ['CANARY']", ERROR),
    "getenv": ("import os\nx = os.getenv('CANARY')", EITHER | {""}),
    "proc": ("x = open('/proc/self/environ').read()", ERROR),
    "standard input": ("import sys\nx = sys.stdin.read()", ERROR),
    # Floods and forgeries
    "print flood": ("while True:\n    print('x' * 10_000)", LIMIT),
    "forged frame": (
        "print('\\x00\\x00\\x00\\x13' + '{{\"id\":1,\"result\":1}}')",
        HARMLESS,
    ),
    "forged frame on standard error": (
        "import sys\nprint('\\x00\\x00\\x00\\x02{{}}', file=sys.stderr)",
        HARMLESS,
    ),
    "write to standard output": ("import sys\nsys.stdout.write('forged')", EITHER | {""}),
    "call flood": (
        (
            "while True:\n    try:\n        self.qa(question='x')\n    except BaseException:\n"
            "        pass"
        ),
        LIMIT,
    ),
    "flood of wrong calls": (
        (
            "while True:\n    try:\n        self.qa(**{'nothing': 1})\n    except BaseException:\n"
            "        pass"
        ),
        LIMIT,
    ),
    "flood of unknown names": (
        "while True:\n    try:\n        eval('nobody()')\n    except BaseException:\n        pass",
        LIMIT,
    ),
    "SystemExit": ("raise SystemExit('bye')", ERROR),
    "KeyboardInterrupt": ("raise KeyboardInterrupt", ERROR),
    "BaseException": ("raise BaseException('x')", ERROR),
    "long exception": ("raise ValueError('x' * 5_000_000)", ERROR),
    "worker panics": ("x = locals()\nreturn x", EITHER),
    # Values
    "billion laughs as result": (
        "x = ['ha'] * 10\nfor _ in range(12):\n    x = [x] * 10\nreturn {'x': x}",
        LIMIT,
    ),
    "billion laughs as argument": (
        "x = ['ha'] * 10\nfor _ in range(12):\n    x = [x] * 10\nself.qa(question=x)",
        LIMIT,
    ),
    "large result": ("return {'x': 'y' * (12 * 1024 * 1024)}", LIMIT),
    "large argument": ("self.qa(question='y' * (12 * 1024 * 1024))", LIMIT),
    "many numbers": ("return {'x': list(range(1_000_000))}", LIMIT),
    "deep result": ("x = []\nfor _ in range(200):\n    x = [x]\nreturn {'x': x}", ERROR),
    "very deep result": ("x = []\nfor _ in range(100_000):\n    x = [x]\nreturn {'x': x}", EITHER),
    "cycle": ("x = []\nx.append(x)\nreturn {'x': x}", EITHER | {""}),
    "cycle through a map": ("x = {}\nx['x'] = x\nreturn x", EITHER | {""}),
    "no number": ("return {'x': float('nan')}", ERROR),
    "infinity as argument": ("self.qa(question=float('inf'))", ERROR),
    "keys that are no texts": ("return {'x': {1: 2, (3, 4): 5}}", ERROR),
    "function as result": ("return {'x': print}", ERROR),
    "instance as result": ("class A:\n    pass\nreturn {'x': A()}", ERROR),
    "exception as result": ("return {'x': ValueError('x')}", ERROR),
    "self as result": ("return {'x': self}", ERROR),
    "module as result": ("return {'x': self.qa}", ERROR),
    "integer of many digits": ("return {'x': 2 ** 100_000}", ERROR),
    "surrogate": ("return {'x': '\\ud800'}", EITHER | {""}),
    # Poison for the next
    "patch json": ("json.dumps = lambda x: 'patched'", EITHER | {""}),
    "patch Prediction": ("Prediction.toDict = lambda self: 1", EITHER | {""}),
    "patch self": ("self.qa = None", HARMLESS),
    "global names": ("question = 2\n_call = 3\nself = 4\njson = 5", HARMLESS),
}
"""Name -> source, and the codes that may answer it; the empty code is success."""
