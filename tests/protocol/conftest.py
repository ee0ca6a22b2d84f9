"""Both ways of the codecs: the exact one, which greets, and the quick one, for all that follows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from protocol import codecs

if TYPE_CHECKING:
    from collections.abc import Iterator

codecs.load_quick_codecs()


@pytest.fixture(scope="module", params=["exact", "quick"])
def way(request: pytest.FixtureRequest) -> Iterator[str]:
    """Everything in a module once each way."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "exact":
            patch.setattr(codecs, "_ways", {})
        yield request.param
